"""The time-series database, as the rest of the program sees it: a storage, what is read from it, what rules write to.

All of it is the core's; this package gives it the place in the layers that the design names.
"""

from bellbuoy._core import (
    HISTOGRAM_MARK,
    STALE_BITS,
    Histogram,
    Histograms,
    LabelSets,
    Selection,
    Storage,
    StorageError,
    Survey,
    Writer,
    decode_histogram_chunk,
    encode_histogram_chunks,
    histogram_columns,
    inspect_file,
    survey_series,
)

__all__ = [
    "HISTOGRAM_MARK",
    "STALE_BITS",
    "Histogram",
    "Histograms",
    "LabelSets",
    "Selection",
    "Storage",
    "StorageError",
    "Survey",
    "Writer",
    "decode_histogram_chunk",
    "encode_histogram_chunks",
    "histogram_columns",
    "inspect_file",
    "survey_series",
]
