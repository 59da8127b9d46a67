"""`bellbuoy tsdb`: takes data out of a folder, and brings data into one, in the forms that others read and write.

Parquet for analysis, OpenMetrics text for whoever reads text, Prometheus's blocks for Prometheus, Thanos and Mimir. All
of it is streamed: `source` gives a folder's metrics piece by piece, `parquet`, `openmetrics` and `blocks` each know a
form, `block_writer` and `block_reader` the files of a block, `xor` and `binary` what they are made of. A folder that a
server uses is not touched.
"""

from bellbuoy.tsdb_tools.commands import run
from bellbuoy.tsdb_tools.options import Options, add_arguments, options

__all__ = ["Options", "add_arguments", "options", "run"]
