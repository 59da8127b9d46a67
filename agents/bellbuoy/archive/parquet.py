"""Parquet, in long form: a row for each sample, so that DuckDB, Polars, pandas or Spark read it as it lies.

Columns are `__name__`, one for each label under the label's own name, `timestamp` (milliseconds, UTC), `value`, and
`histogram`: a native histogram is a struct of its counts, with a list of its buckets that are not empty for each side,
by index, and its value is null; of all other samples the struct is null.

One column a label, not a map: a filter then reads `WHERE job = 'node'` everywhere, and Polars has no maps. A label that
a series does not have is null; so is the value of a stale marker, which ends a series and is no number: sums pass over
it. Names that would be there twice get `exported_` before them, as in scrapes; DuckDB takes `Job` and `job` for one.

Rows are sorted by day, metric, series and time. Texts are dictionary-encoded, values byte-stream-split, all of it zstd:
two bytes a sample, roughly.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bellbuoy.archive.progress import Progress
from bellbuoy.archive.source import Floats, Samples, Source, is_histogram
from bellbuoy.labels import NAME
from bellbuoy.tsdb import STALE_BITS, Histograms, histogram_columns

DAY_MS = 86_400_000
TIMESTAMP, VALUE, HISTOGRAM = "timestamp", "value", "histogram"
BUCKETS = pa.list_(pa.struct([("index", pa.int32()), ("count", pa.float64())]))
HISTOGRAM_TYPE = pa.struct(
    [
        ("count", pa.float64()),
        ("sum", pa.float64()),
        ("schema", pa.int8()),
        ("zero_threshold", pa.float64()),
        ("zero_count", pa.float64()),
        ("positive", BUCKETS),
        ("negative", BUCKETS),
        ("custom_values", pa.list_(pa.float64())),
        ("counter_reset_hint", pa.string()),
        ("is_float", pa.bool_()),
    ]
)
# By their number, as the core has them.
HINTS = pa.array(["unknown", "reset", "not_reset", "gauge"])
# Enough for each thread of a reader to have some, and few enough to be held while they are written.
ROW_GROUP = 500_000
# Rows that are made of a piece at once.
SLICE_ROWS = 250_000


def columns(label_names: Sequence[str]) -> dict[str, str]:
    """The column of each label. Those of the samples have their names first; case makes no difference."""
    taken = {NAME, TIMESTAMP, VALUE, HISTOGRAM}
    out = {}
    for label in label_names:
        column = label
        while column.casefold() in taken:
            column = f"exported_{column}"
        taken.add(column.casefold())
        out[label] = column
    return out


def write(source: Source, out: Path, progress: Progress) -> list[Path]:
    """Write one file if its name ends in .parquet, else a folder with a file for each day; returns the files."""
    by_day = out.suffix != ".parquet"
    labels = columns([name for name in source.label_names() if name != NAME])
    if by_day:
        out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    file: _File | None = None
    try:
        for start, end in source.windows(DAY_MS):
            day = _day(start)
            for samples in (one for name in source.metrics(start, end) for one in source.metric(name, start, end)):
                if file is None:
                    file = _File(out / f"{day}.parquet" if by_day else out, labels)
                file.add(samples)
                progress.done(len(samples.timestamps), f"day {day}")
            if by_day and file is not None:
                written.append(file.finish())
                file = None
        if not by_day:
            file = file or _File(out, labels)
            written.append(file.finish())
            file = None
    except BaseException:
        if file is not None:
            file.abandon()
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def _day(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        # Past the calendar's end.
        return str(milliseconds // DAY_MS)


class _File:
    """A file that has its name when it is whole."""

    def __init__(self, path: Path, labels: dict[str, str]) -> None:
        self._path, self._temporary, self._labels = path, path.with_name(f".{path.name}.{os.getpid()}"), labels
        self._schema = pa.schema(
            [
                *(pa.field(column, pa.dictionary(pa.int32(), pa.string())) for column in (NAME, *labels.values())),
                pa.field(TIMESTAMP, pa.timestamp("ms", tz="UTC"), nullable=False),
                pa.field(VALUE, pa.float64()),
                pa.field(HISTOGRAM, HISTOGRAM_TYPE),
            ]
        )
        self._writer = pq.ParquetWriter(
            self._temporary,
            self._schema,
            compression="zstd",
            use_dictionary=[NAME, *labels.values()],
            column_encoding={TIMESTAMP: "DELTA_BINARY_PACKED", VALUE: "BYTE_STREAM_SPLIT"},
            # Readers would give categories in the place of texts, and not all can compare them.
            store_schema=False,
        )
        self._rows: list[pa.RecordBatch] = []
        self._count = 0

    def add(self, samples: Samples) -> None:
        for batch in self._batches(samples):
            self._rows.append(batch)
            self._count += batch.num_rows
            if self._count >= ROW_GROUP:
                self._flush()

    def finish(self) -> Path:
        self._flush()
        self._writer.close()
        self._temporary.rename(self._path)
        return self._path

    def abandon(self) -> None:
        self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._rows, self._schema).unify_dictionaries()
            self._writer.write_table(table, row_group_size=2 * ROW_GROUP)
        self._rows, self._count = [], 0

    def _batches(self, samples: Samples) -> Iterator[pa.RecordBatch]:
        labels = {column: _texts(samples.labels.get(label)) for label, column in self._labels.items()}
        labels = {NAME: _texts(samples.labels.get(NAME)), **labels}
        series = np.repeat(np.arange(len(samples.labels), dtype=np.int64), np.diff(samples.offsets))
        native = is_histogram(samples.values)
        no_number = native | (samples.values.view(np.uint64) == STALE_BITS)
        for at in range(0, len(series), SLICE_ROWS):
            rows = slice(at, at + SLICE_ROWS)
            of = pa.array(series[rows])
            yield pa.RecordBatch.from_arrays(
                [
                    *(pa.DictionaryArray.from_arrays(one.indices.take(of), one.dictionary) for one in labels.values()),
                    pa.array(samples.timestamps[rows]).cast(pa.timestamp("ms", tz="UTC")),
                    pa.array(samples.values[rows], mask=no_number[rows]),
                    _structs(samples.values[rows], samples.histograms, native[rows]),
                ],
                schema=self._schema,
            )


def _structs(values: Floats, histograms: Histograms, native: NDArray[np.bool_]) -> pa.Array:
    """The histograms of these rows; null where there is none."""
    if not native.any():
        return pa.nulls(len(values), HISTOGRAM_TYPE)
    columns = histogram_columns(histograms, values[native])

    def list_of(items: pa.Array, name: str) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(columns[f"{name}_offsets"].astype(np.int32)), items)

    def buckets(side: str) -> pa.Array:
        both = [pa.array(columns[f"{side}_indexes"]), pa.array(columns[f"{side}_counts"])]
        return list_of(pa.StructArray.from_arrays(both, fields=list(BUCKETS.value_type)), side)

    made = {
        "positive": buckets("positive"),
        "negative": buckets("negative"),
        "custom_values": list_of(pa.array(columns["custom_values"]), "custom"),
        "counter_reset_hint": HINTS.take(pa.array(columns["hint"])),
    }
    fields = list(HISTOGRAM_TYPE)
    arrays = [made[one.name] if one.name in made else pa.array(columns[one.name]) for one in fields]
    packed = pa.StructArray.from_arrays(arrays, fields=fields)
    return packed.take(pa.array(np.cumsum(native) - 1, mask=~native))


def _texts(values: Sequence[str]) -> pa.DictionaryArray:
    """Of each series; null where it is empty."""
    return pa.array([value or None for value in values], pa.string()).dictionary_encode()
