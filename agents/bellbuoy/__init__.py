"""Bellbuoy: monitoring after Prometheus, for Kubernetes.

This package holds all that runs outside the operator: a package for each part (server, alertmanager, pushgateway,
node_exporter) and below them the libraries that they share. docs/architecture.md shows how they fit.
"""

from importlib.metadata import version

__version__ = version("bellbuoy")
