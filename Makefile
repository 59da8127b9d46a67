# The one entry to everything. `make` lists what there is.
SHELL := /bin/bash -o pipefail
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
PYTHON := $(VENV)/bin/python
# Made when all of the environment is.
READY := $(VENV)/.installed
# Real programs that tests run ours against, and a browser. None of their services needs to run.
PEERS := prometheus prometheus-node-exporter prometheus-alertmanager prometheus-pushgateway chromium
RUST := $(shell find core/src core/Cargo.toml core/Cargo.lock -type f 2>/dev/null)
# Tests that share a cluster run one after the other, the rest beside them (tests/conftest.py says which is which).
PYTEST := $(PYTHON) -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

# --- the development environment

.PHONY: setup
setup: core packages binaries ## the development environment: Python, the Rust core, Debian packages, the cluster's programs

.PHONY: core
core: $(READY) ## the virtual environment with Bellbuoy in it, editable; builds the Rust core anew where it changed

$(VENV)/.packages: pyproject.toml
	@for tool in python3 cargo; do command -v $$tool >/dev/null || { echo "cannot go on: $$tool is missing; get it from https://python.org or https://rustup.rs"; exit 1; }; done
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cannot go on: python3 is older than 3.11")'
	@echo "==> Python packages, into $(VENV)"
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --upgrade pip setuptools setuptools-rust
	@$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; extras = project["optional-dependencies"]; print(*project["dependencies"], *(one for extra in extras.values() for one in extra if not one.startswith("bellbuoy[")), sep="\n")' > $(VENV)/requirements.txt
	@$(PYTHON) -m pip install --quiet --requirement $(VENV)/requirements.txt
	@touch $@

$(READY): $(VENV)/.packages $(RUST)
	@echo "==> the Rust core (some minutes the first time)"
	@$(PYTHON) -m pip install --no-build-isolation --no-deps --editable . >$(VENV)/core.log 2>&1 || { cat $(VENV)/core.log; echo "cannot go on: the Rust core was not built; what it said stands above, and in $(VENV)/core.log"; exit 1; }
	@touch $@

.PHONY: packages
packages: ## Debian's packages for tests, if they are missing
	@missing=$$(for p in $(PEERS); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	test -z "$$missing" && exit 0; \
	echo "==> Debian packages: $$missing"; \
	if [ "$$(id -u)" != 0 ]; then echo "cannot go on: as root, run: apt-get install --no-install-recommends $$missing"; exit 1; fi; \
	export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install --yes --no-install-recommends $$missing >/dev/null

.PHONY: binaries
binaries: $(READY) ## the local cluster's programs, built once into ~/.cache/bellbuoy
	@echo "==> the local cluster's programs (some ten minutes the first time on a machine)"
	$(PYTHON) -m deploy.local setup

# --- checks

.PHONY: test
test: setup lint ## all checks and tests
	@$(MAKE) --no-print-directory --jobs 2 test-rust test-python

.PHONY: test-python
test-python: $(READY) ## tests in Python, of the whole product as well; needs what `make setup` makes
	$(PYTEST)

.PHONY: lint
lint: $(READY) ## format, lint, types, layers
	ruff format --check --quiet .
	ruff check --quiet .
	mypy
	lint-imports --no-cache
	cargo fmt --check --manifest-path core/Cargo.toml
	cargo clippy --quiet --manifest-path core/Cargo.toml --no-default-features --all-targets -- -D warnings

.PHONY: test-rust
test-rust: ## tests of the core that Python does not see
	cargo test --quiet --manifest-path core/Cargo.toml --no-default-features

.PHONY: crash
crash: ## a power cut, and an error, at every change of the disk of a run (minutes)
	BELLBUOY_EVERY_CHANGE=1 cargo test --quiet --manifest-path core/Cargo.toml --no-default-features power

.PHONY: kill
kill: $(READY) ## kills a process that appends and compacts, 200 times on one folder (minutes); SEED=N to repeat
	$(PYTHON) -m tests.kill --rounds 200 $(if $(SEED),--seed $(SEED))

.PHONY: fuzz
fuzz: ## feeds the readers of scrapes and of files with what they do not expect; SECONDS=600 in all (needs a nightly Rust)
	@cargo +nightly fuzz --version >/dev/null || { echo "cannot go on: run rustup toolchain install nightly, and cargo install cargo-fuzz"; exit 1; }
	cd core && for target in scrape files; do mkdir -p fuzz/found/$$target && \
	  cargo +nightly fuzz run --sanitizer none $$target fuzz/found/$$target fuzz/corpus/$$target -- \
	  -max_total_time=$$(( $(or $(SECONDS),600) / 2 )) -rss_limit_mb=2048 -timeout=10 || exit 1; done

.PHONY: soak
soak: $(READY) ## twenty minutes of pods that come and go, in which the server's memory must stay flat
	$(PYTHON) -m bench.soak

.PHONY: format
format: $(READY) ## formats all code
	ruff format --quiet .
	ruff check --quiet --fix .
	cargo fmt --manifest-path core/Cargo.toml

.PHONY: conformance
conformance: $(READY) ## PromQL cases in Prometheus's test language: which fail, how many pass (CASES=DIR: those of a folder)
	@$(PYTHON) -m tests.conformance.run $(CASES)

.PHONY: differential
differential: $(READY) ## generated queries to Prometheus 3.16 and to ours: what differs (QUERIES=5000, SEED=N of them)
	@$(PYTHON) -m tests.promql.differential $(if $(QUERIES),--queries $(QUERIES)) $(if $(SEED),--seed $(SEED))

# --- the local cluster and the demo

.PHONY: cluster
cluster: binaries ## starts a real Kubernetes of two nodes on this machine
	$(PYTHON) -m deploy.local up

.PHONY: cluster-down
cluster-down: $(READY) ## removes it
	$(PYTHON) -m deploy.local down

.PHONY: ui
ui: ## builds the web UI into agents/bellbuoy/server/static (needs Node)
	cd ui && npm ci && npm run build

.PHONY: demo
demo: $(READY) ## from nothing to a Slack message, on a real Kubernetes
	@$(PYTHON) -m deploy.demo up

.PHONY: demo-down
demo-down: $(READY) ## removes all of the demo
	@$(PYTHON) -m deploy.demo down

# --- benchmarks, beside the peer in the same run

.PHONY: bench-ingest
bench-ingest: $(READY) ## CPU a sample and memory of scraping, against Prometheus 3.16
	$(PYTHON) -m bench.ingest

.PHONY: bench-growth
bench-growth: $(READY) ## cost a sample of scraping and storing at 10 k, 100 k and 1 M series, and how it grows
	$(PYTHON) -m bench.ingest --series 10000 --series 100000 --series 1000000
	$(PYTHON) -m bench.storage --input shared --series 10000 --series 100000 --series 1000000

.PHONY: bench-lateness
bench-lateness: $(READY) ## how late scrapes are while four clients ask for what takes seconds (two minutes)
	$(PYTHON) -m bench.lateness

.PHONY: bench-rules
bench-rules: $(READY) ## time of an evaluation of 1,000 rules over 100,000 series, against Prometheus 3.16
	$(PYTHON) -m bench.rules

.PHONY: bench-storage
bench-storage: $(READY) ## memory, disk, log, restart and reading of the storage, against Prometheus 3.16
	$(PYTHON) -m bench.storage

.PHONY: bench-query
bench-query: $(READY) ## time and memory of queries over HTTP, against Prometheus 3.16
	$(PYTHON) -m bench.query
