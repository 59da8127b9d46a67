"""Samples as Parquet, in a folder or in a bucket of object storage: metrics as files that anyone can open.

`source` reads a storage metric by metric, `parquet` is the form, `progress` tells how far it is; `bellbuoy tsdb
export` is made of these. An archive is each finished block, once: `store` is where it goes, `state` what is there
already, `archiver` does it, for the server in the background and for `bellbuoy tsdb archive` by hand. Queries never
read an archive.
"""

from bellbuoy.archive.archiver import Archiver, Done
from bellbuoy.archive.errors import ArchiveError
from bellbuoy.archive.options import ArchiveOptions, add_archive_arguments, archive_options

__all__ = ["ArchiveError", "ArchiveOptions", "Archiver", "Done", "add_archive_arguments", "archive_options"]
