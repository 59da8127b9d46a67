"""The pushgateway: keeps the last metrics of jobs that end before anyone could scrape them.

Jobs push over HTTP, a server scrapes `/metrics`. Groups of metrics, named by their labels in the URL, are in memory and
in one file; nothing is summed, and nothing has a timestamp. It speaks the protocol of Prometheus's Pushgateway.
"""

from bellbuoy.pushgateway.options import Options, add_arguments, options
from bellbuoy.pushgateway.service import run

__all__ = ["Options", "add_arguments", "options", "run"]
