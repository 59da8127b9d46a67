"""What DuckDB and Polars make of our Parquet is what a PromQL query makes of the data folder."""

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from bellbuoy.archive import parquet
from bellbuoy.promql import Engine
from bellbuoy.tsdb import LabelSets
from tests.tsdb_tools import data
from tests.tsdb_tools.conftest import Folder, tsdb
from tests.tsdb_tools.plain import STALE_BITS, bits_of


def export(folder: Path, out: Path) -> Path:
    tsdb("export", "--storage.path", folder, "--format", "parquet", "--out", out)
    return out


@pytest.fixture(scope="module")
def file(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(folder.path, tmp_path_factory.mktemp("parquet") / "out.parquet")


def answers(folder: Folder, query: str) -> list[tuple[str, float]]:
    """What our engine says an instant after the last sample, by instance."""
    with data.opened(folder.path) as storage:
        result = Engine(storage).instant(query, folder.end + 1)
    return sorted((labels.get("instance", ""), value) for labels, _, value in result.samples())


QUERIES = [
    ("count_over_time(up[6h])", "count(value)", "up"),
    ("max_over_time(requests_total[6h])", "max(value)", "requests_total"),
    ("sum_over_time(latency_seconds_bucket[6h])", "sum(value)", "latency_seconds_bucket"),
    ("last_over_time(requests_total[6h])", "arg_max(value, timestamp)", "requests_total"),
]


@pytest.mark.parametrize(("promql", "sql", "metric"), QUERIES)
def test_duckdb_answers_as_promql(folder: Folder, file: Path, promql: str, sql: str, metric: str) -> None:
    found = duckdb.execute(
        f"SELECT instance, {sql} FROM '{file}' WHERE __name__ = ? AND value IS NOT NULL GROUP BY instance", [metric]
    ).fetchall()
    assert sorted(found) == answers(folder, promql)


def test_polars_answers_as_promql(folder: Folder, file: Path) -> None:
    of = {"max_over_time": pl.col("value").max(), "count_over_time": pl.col("value").count()}
    for function, expression in of.items():
        frame = (
            pl.scan_parquet(file)
            .filter((pl.col("__name__") == "requests_total") & pl.col("value").is_not_null())
            .group_by("instance")
            .agg(expression.alias("answer"))
            .collect()
        )
        assert sorted(frame.rows()) == answers(folder, f"{function}(requests_total[6h])")


def test_every_sample_is_there_sorted_and_a_stale_marker_is_null(folder: Folder, file: Path) -> None:
    frame = pl.read_parquet(file)
    assert frame.columns == [
        *("__name__", "Zone", "instance", "job", "le", "exported_value", "timestamp", "value", "histogram"),
    ]
    assert frame.schema["timestamp"] == pl.Datetime("ms", "UTC")
    assert frame.schema["job"] == pl.String
    found: data.Samples = {}
    keys = []
    for name, zone, instance, job, le, value_label, time, value, histogram in frame.rows():
        assert histogram is None
        pairs = {"__name__": name, "Zone": zone, "instance": instance, "job": job, "le": le, "value": value_label}
        labels = tuple(sorted((key, text) for key, text in pairs.items() if text is not None))
        milliseconds = round(time.timestamp() * 1000)
        bits = STALE_BITS if value is None else bits_of(value)
        found.setdefault(labels, []).append((milliseconds, bits))
        keys.append((milliseconds // parquet.DAY_MS, name))
    assert found == folder.samples
    assert keys == sorted(keys)


def test_a_folder_has_a_file_for_each_day(tmp_path: Path) -> None:
    day = parquet.DAY_MS
    with data.opened(tmp_path / "data") as storage:
        labels = LabelSets.from_dicts([{"__name__": "a"}] * 4)
        times = np.array([0, day - 1, day, 3 * day], np.int64)
        storage.append(labels, times, np.array([1.0, 2.0, 3.0, 4.0]))
    out = export(tmp_path / "data", tmp_path / "out")
    assert sorted(one.name for one in out.iterdir()) == [
        *("1970-01-01.parquet", "1970-01-02.parquet", "1970-01-04.parquet"),
    ]
    assert duckdb.execute(f"SELECT sum(value) FROM '{out}/*.parquet'").fetchone() == (10.0,)


def test_columns_are_encoded_as_their_page_says(file: Path) -> None:
    metadata = pq.ParquetFile(file).metadata
    group = metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {one.compression for one in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["value"].encodings
    assert "DELTA_BINARY_PACKED" in columns["timestamp"].encodings
    assert "RLE_DICTIONARY" in columns["job"].encodings


def test_row_groups_are_of_a_size_that_readers_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 1000)
    monkeypatch.setattr(parquet, "SLICE_ROWS", 300)
    data.fill(tmp_path / "data", series=12, rows=400)
    metadata = pq.ParquetFile(export(tmp_path / "data", tmp_path / "out.parquet")).metadata
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert len(sizes) > 3
    assert all(1000 <= size < 1300 for size in sizes[:-1])
    assert sum(sizes) == sum(map(len, data.read(tmp_path / "data").values()))


def test_names_that_would_be_there_twice_are_put_apart() -> None:
    assert parquet.columns(["Job", "exported_value", "job", "timestamp", "value"]) == {
        "Job": "Job",
        "exported_value": "exported_value",
        "job": "exported_job",
        "timestamp": "exported_timestamp",
        "value": "exported_exported_value",
    }
