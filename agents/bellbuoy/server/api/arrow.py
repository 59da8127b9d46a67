"""Results as an Arrow stream, for who works with columns: `Accept: application/vnd.apache.arrow.stream`.

One row a sample: a column for each label (dictionary-encoded, null where a series has not got it), then `timestamp`
(milliseconds, UTC) and `value`. Warnings and infos are in the schema's metadata. pandas, Polars, DuckDB and R read it
as it comes.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from bellbuoy.errors import CannotError
from bellbuoy.exposition import go_number
from bellbuoy.optional import load
from bellbuoy.promql import QueryResult, is_histogram
from bellbuoy.server.api.answers import ApiError

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
# Rows of a record batch.
BATCH_ROWS = 1 << 16
Ints = NDArray[np.int64]


class NoArrowError(CannotError):
    """pyarrow is not installed here."""


def wanted(request: web.Request) -> bool:
    """Whether the client asks for an Arrow stream."""
    return any(
        part.partition(";")[0].strip().lower() == CONTENT_TYPE
        for header in request.headers.getall("Accept", [])
        for part in header.split(",")
    )


def _arrow() -> Any:
    try:
        return load("pyarrow", extra="parquet", otherwise=NoArrowError, cannot="answer in Arrow")
    except NoArrowError as e:
        raise ApiError("not_acceptable", f"{e}, or ask for application/json") from e


def check() -> None:
    """Raises ApiError if there can be no Arrow; before a query is run for it."""
    _arrow()


def column_names(labels: Sequence[str]) -> list[str]:
    """Columns of these labels: a label that is named as one of ours has `label_` before it."""
    taken = {"timestamp", "value", *labels}
    out = []
    for name in labels:
        column = name
        while column in ("timestamp", "value") or (column != name and column in taken):
            column = f"label_{column}"
        out.append(column)
    return out


def _samples(result: QueryResult) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """For each sample its series, its time and its value."""
    if result.kind == "string":
        raise ApiError("not_acceptable", "a string has no form in Arrow; ask for application/json")
    if result.offsets is not None and result.timestamps is not None:
        rows = np.repeat(np.arange(len(result.labels), dtype=np.int64), np.diff(result.offsets))
        return rows, result.timestamps, result.values
    rows, columns = np.nonzero(result.present)
    return rows.astype(np.int64), result.times[columns], result.values[rows, columns]


def to_arrow(result: QueryResult) -> bytes:
    """The stream. Raises ApiError for what Arrow has no form for."""
    pa = _arrow()
    rows, times, values = _samples(result)
    if is_histogram(values).any():
        raise ApiError("not_acceptable", "native histograms have no form in Arrow; ask for application/json")
    names = sorted({name for labels in result.labels.to_dicts() for name in labels})
    columns = []
    for name in names:
        words = [value or None for value in result.labels.get(name)]
        column = pa.array(words, pa.string()).dictionary_encode()
        columns.append(pa.DictionaryArray.from_arrays(column.indices.take(pa.array(rows)), column.dictionary))
    columns += [pa.array(times, pa.timestamp("ms", tz="UTC")), pa.array(values, pa.float64())]
    notes = {"resultType": result.kind, "warnings": json.dumps(result.warnings), "infos": json.dumps(result.infos)}
    if result.kind == "scalar":
        notes["value"] = go_number(float(result.values[0, 0]))
    table = pa.table(columns, names=[*column_names(names), "timestamp", "value"]).replace_schema_metadata(notes)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)
    out: bytes = sink.getvalue().to_pybytes()
    return out
