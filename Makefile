# The one entry to everything. `make help` lists what there is.
SHELL := /bin/bash -o pipefail
VENV := .venv
PYTHON := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

.PHONY: core
core: ## builds the Rust core and installs Bellbuoy into the environment, editable
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --editable .
