"""`bellbuoy tsdb`: says what a data folder has, takes data out of one, and brings data into one.

`files` are a folder's files as they lie, `listing`, `analysis` and `verification` what is told of them; the core reads
them, and a server may be at work. For the rest no server may: Parquet for analysis, OpenMetrics text for whoever reads
text, Prometheus's blocks for Prometheus, Thanos and Mimir. All of it is streamed: `bellbuoy.archive` gives a folder's
metrics piece by piece and writes Parquet, `openmetrics` and `blocks` each know a form, `block_writer` and
`block_reader` the files of a block, `xor` and `binary` what they are made of.
"""

from bellbuoy.tsdb_tools.commands import run
from bellbuoy.tsdb_tools.options import Options, add_arguments, options

__all__ = ["Options", "add_arguments", "options", "run"]
