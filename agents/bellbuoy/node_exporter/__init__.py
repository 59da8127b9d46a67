"""The node exporter: one machine's figures, under the names that Prometheus's node_exporter made common.

It reads the machine's /proc and /sys (from inside a container: the host's, mounted), and answers `/metrics`. It keeps
no history and computes no rates. `collectors` is what is read, `machine` where it lies, `scrape` what happens if one of
them fails; how a page is printed is `bellbuoy.exposition`'s.
"""

from bellbuoy.node_exporter.options import Options, add_arguments, options
from bellbuoy.node_exporter.service import run

__all__ = ["Options", "add_arguments", "options", "run"]
