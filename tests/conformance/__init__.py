"""Prometheus's own PromQL test cases, run against our engine."""
