"""Bellbuoy's parts against Prometheus's own programs, as Debian packages them."""
