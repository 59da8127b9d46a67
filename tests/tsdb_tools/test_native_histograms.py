"""Native histograms leave a data folder and come back: as Prometheus's blocks, as Parquet, into an archive."""

import asyncio
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import duckdb
import numpy as np
import polars as pl
import pytest

from bellbuoy._core import decode_histogram_chunk, encode_histogram_chunks, samples_json
from bellbuoy.archive.source import is_histogram
from bellbuoy.tsdb import Histogram, Histograms, LabelSets
from bellbuoy.tsdb.binary import read_uvarint
from bellbuoy.tsdb_tools import block_format
from bellbuoy.tsdb_tools.errors import ImportDataError
from bench.programs import PROMETHEUS
from tests.peers.programs import fetch, free_port, program, started, until
from tests.tsdb_tools import data
from tests.tsdb_tools.conftest import tsdb
from tests.tsdb_tools.plain import STALE_BITS

HOUR_MS = 3_600_000
START = 1_700_006_400_000
STEP_MS = 30_000
ROWS = 420
RESET_AT = 200
STALE = float(np.uint64(STALE_BITS).view(np.float64))


def counter(at: int) -> Histogram:
    """It grows, gains buckets and starts anew once."""
    n = at - RESET_AT if at >= RESET_AT else at
    wide = n // 50
    positive = [n + 1] * (3 + wide)
    return Histogram(
        schema=2,
        count=sum(positive) + 2 * n + 5,
        sum=0.25 * n,
        zero_threshold=2.0**-128,
        zero_count=5,
        positive_spans=[(-wide, 3 + wide)],
        positive_buckets=positive,
        negative_spans=[(1, 1), (3, 1)],
        negative_buckets=[n, n],
    )


def gauge(at: int) -> Histogram:
    """Its counts are no whole numbers, and its buckets move."""
    return Histogram(
        schema=-1,
        count=at % 7 + 1.5,
        sum=math.sin(at),
        zero_threshold=0.001,
        positive_spans=[(at % 5, 1), (1, 1)],
        positive_buckets=[at % 7 + 1, 0.5],
        counter_reset_hint="gauge",
        is_float=True,
    )


def custom(at: int) -> Histogram:
    return Histogram(
        schema=-53,
        count=2 * at,
        sum=0.1 * at,
        positive_spans=[(0, 1), (1, 1)],
        positive_buckets=[at, at],
        custom_values=[0.005, 0.1, 2.5, 1e9],
    )


def reset(at: int) -> Histogram:
    """It says itself where it began anew."""
    counts = [at, 2 * at]
    return Histogram(
        schema=0,
        count=3 * at,
        sum=at,
        positive_spans=[(0, 2)],
        positive_buckets=counts,
        counter_reset_hint="reset" if at == RESET_AT else "unknown",
    )


KINDS: dict[str, Callable[[int], Histogram]] = {"counter": counter, "gauge": gauge, "custom": custom, "reset": reset}


def fill(folder: Path) -> None:
    """A series of each kind, and one that is numbers, histograms, numbers again; each of them ends once."""
    times = START + STEP_MS * np.arange(ROWS)
    with data.opened(folder) as storage:
        for name, make in KINDS.items():
            labels = LabelSets.from_dicts([{"__name__": f"{name}_seconds", "job": "app"}] * ROWS)
            there = np.arange(ROWS) != 300
            storage.append_histograms(
                labels.take(np.flatnonzero(there)), times[there], [make(at) for at in range(ROWS) if at != 300]
            )
            storage.append(labels.take(np.array([300])), times[300:301], np.array([STALE]))
        mixed = LabelSets.from_dicts([{"__name__": "mixed"}] * ROWS)
        native = np.arange(ROWS) // 50 % 2 == 1
        storage.append(mixed.take(np.flatnonzero(~native)), times[~native], np.arange(ROWS)[~native] / 4)
        storage.append_histograms(
            mixed.take(np.flatnonzero(native)), times[native], [counter(at) for at in np.flatnonzero(native).tolist()]
        )
        storage.append(LabelSets.from_dicts([{"__name__": "number"}]), times[:1], np.array([1.0]))
        storage.flush()


Told = dict[str, list[tuple[int, Any]]]


def told(one: Histogram) -> Any:
    """All of a histogram but which buckets are empty; of its hint, whether it is a gauge's or a known reset's."""
    hint = one.counter_reset_hint
    kept = hint if hint in ("gauge", "reset") else ""
    of = (one.schema, one.zero_threshold, one.count, one.zero_count, repr(one.sum), one.is_float, kept)
    return *of, tuple(one.custom_values.tolist()), tuple(one.buckets())


def held(folder: Path) -> Told:
    """All samples by metric."""
    with data.opened(folder) as storage:
        found = storage.select([], -(2**60), 2**60)
    numbers = found.values.view(np.uint64)
    out: Told = {}
    for i, name in enumerate(found.labels.get("__name__")):
        part = range(found.offsets[i], found.offsets[i + 1])
        native = is_histogram(found.values)
        out[name] = [
            (
                int(found.timestamps[at]),
                told(found.histograms[int(numbers[at]) & 0xFFFFFFFF]) if native[at] else int(numbers[at]),
            )
            for at in part
        ]
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "data"
    fill(path)
    return path


@pytest.fixture(scope="module")
def blocks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("native") / "blocks"
    tsdb("export", "--storage.path", folder, "--format", "prometheus", "--out", out)
    return out


def without_resets(samples: Told) -> Told:
    """Without what blocks say of resets: where counts fall, it is said on the way."""
    return {
        name: [(at, (*one[:6], "gauge" if one[6] == "gauge" else "", *one[7:]) if isinstance(one, tuple) else one)
               for at, one in found]
        for name, found in samples.items()
    }  # fmt: skip


def test_blocks_with_histograms_come_back_as_they_were(folder: Path, blocks: Path, tmp_path: Path) -> None:
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", blocks)
    want, got = held(folder), held(tmp_path / "data")
    assert without_resets(got) == without_resets(want)
    resets = {
        name: [at for at, one in found if isinstance(one, tuple) and one[6] == "reset"] for name, found in got.items()
    }
    assert resets["reset_seconds"] == resets["counter_seconds"] == [START + STEP_MS * RESET_AT]
    assert resets["gauge_seconds"] == resets["custom_seconds"] == []
    meta = [json.loads((one / "meta.json").read_text())["stats"] for one in blocks.iterdir()]
    assert sum(one["numHistogramSamples"] for one in meta) == 4 * (ROWS - 1) + 200
    assert sum(one["numSamples"] for one in meta) == sum(map(len, want.values()))


@pytest.mark.peers
async def test_promtool_reads_blocks_with_histograms(blocks: Path) -> None:
    names = sorted(os.listdir(blocks))
    for words in (["list", str(blocks)], *(["analyze", str(blocks), name] for name in names)):
        process = await asyncio.create_subprocess_exec(
            program("promtool"), "tsdb", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said


def as_prometheus_says(folder: Path, name: str) -> Any:
    """A metric's samples as a query of a range vector has them."""
    with data.opened(folder) as storage:
        found = storage.select([("__name__", "=", name)], -(2**60), 2**60)
    kept = found.values.view(np.uint64) != STALE_BITS
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])[found.offsets]
    return json.loads(samples_json(found.labels, offsets, found.timestamps[kept], found.values[kept], found.histograms))


@pytest.mark.peers
@pytest.mark.skipif(not PROMETHEUS.is_built(), reason="only the newest Prometheus has custom buckets")
async def test_a_prometheus_that_has_the_blocks_answers_the_same(folder: Path, blocks: Path, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "theirs")
    (tmp_path / "none.yml").write_text("{}")
    port = free_port()
    command = [
        str(PROMETHEUS.path()), f"--web.listen-address=127.0.0.1:{port}", f"--config.file={tmp_path / 'none.yml'}",
        f"--storage.tsdb.path={tmp_path / 'theirs'}", "--storage.tsdb.retention.time=10y",
    ]  # fmt: skip
    end = (START + STEP_MS * ROWS) / 1000
    async with started(command, name="prometheus", port=port, folder=tmp_path, ready="/-/ready") as it:

        async def asked(query: str) -> Any:
            answer = json.loads(await fetch(f"{it.url}/api/v1/query?query={quote(query)}&time={end}"))
            return answer["data"]["result"]

        for name in (*(f"{kind}_seconds" for kind in KINDS), "mixed"):
            assert await asked(f"{name}[6h]") == as_prometheus_says(folder, name), name
        resets = {one["metric"].get("job", ""): one["value"][1] for one in await asked("resets(counter_seconds[6h])")}
        assert resets == {"app": "1"}
        rate = await asked("histogram_count(increase(custom_seconds[1h]))")
        assert float(rate[0]["value"][1]) == pytest.approx(2 * HOUR_MS / STEP_MS, rel=0.05)


@pytest.mark.peers
@pytest.mark.skipif(not PROMETHEUS.is_built(), reason="only the newest Prometheus has custom buckets")
async def test_what_a_prometheus_scraped_of_its_own_histograms_comes_back(tmp_path: Path) -> None:
    port = free_port()
    itself = {
        "job_name": "itself",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        "scrape_native_histograms": True,
        "convert_classic_histograms_to_nhcb": True,
    }
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [itself]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [
        str(PROMETHEUS.path()), f"--web.listen-address=127.0.0.1:{port}", "--web.enable-admin-api",
        f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'theirs'}",
    ]  # fmt: skip
    async with started(command, name="prometheus", port=port, folder=tmp_path, ready="/-/ready") as it:

        async def count() -> bool:
            answer = json.loads(await fetch(f"{it.url}/api/v1/query?query=count_over_time(up[5m])"))
            return any(float(one["value"][1]) > 4 for one in answer["data"]["result"])

        await until("five scrapes", count)
        async with aiohttp.ClientSession() as session, session.post(f"{it.url}/api/v1/admin/tsdb/snapshot") as response:
            name = (await response.json())["data"]["name"]
        everything = quote('{__name__!=""}[1h]')
        matrix = json.loads(await fetch(f"{it.url}/api/v1/query?query={everything}"))["data"]["result"]
    tsdb("import", "--storage.path", tmp_path / "ours", "prometheus", tmp_path / "theirs" / "snapshots" / name)
    compared = 0
    theirs = {json.dumps(one["metric"], sort_keys=True): one["histograms"] for one in matrix if "histograms" in one}
    for metric in {json.loads(labels)["__name__"] for labels in theirs}:
        for one in as_prometheus_says(tmp_path / "ours", metric):
            found = theirs[json.dumps(one["metric"], sort_keys=True)]
            # The snapshot was made first.
            assert one["histograms"] == found[: len(one["histograms"])]
            compared += len(one["histograms"])
    assert compared > 50


def test_text_leaves_them_out_and_counts_them(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tsdb("export", "--storage.path", folder, "--format", "openmetrics", "--out", tmp_path / "out.txt")
    said = capsys.readouterr().err
    assert f"{4 * (ROWS - 1) + 200:,} samples are native histograms, which the format cannot say: left out" in said
    text = (tmp_path / "out.txt").read_text()
    assert {line.split()[0] for line in text.splitlines() if not line.startswith("#")} == {"mixed", "number"}


def test_parquet_has_them_by_columns(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    tsdb("export", "--storage.path", folder, "--format", "parquet", "--out", out)
    found: Told = {}
    for row in pl.read_parquet(out).select("__name__", pl.col("timestamp").dt.epoch("ms"), "value", "histogram").rows():
        name, at, value, native = row
        if native is None:
            bits = STALE_BITS if value is None else int(np.float64(value).view(np.uint64))
            found.setdefault(name, []).append((at, bits))
            continue
        assert value is None
        one = read_back(native)
        found.setdefault(name, []).append((at, told(one)))
    assert found == held(folder)
    # The sum of all observations, as SQL has it.
    (answer,) = duckdb.execute(
        f"SELECT sum(b.count) FROM (SELECT unnest(histogram.positive) b FROM '{out}' WHERE __name__ = 'custom_seconds')"
    ).fetchall()
    assert answer == (2 * (sum(range(ROWS)) - 300),)


def read_back(native: dict[str, Any]) -> Histogram:
    """A row's struct as a histogram again, with a span for each bucket."""

    def side(name: str) -> tuple[list[tuple[int, int]], list[float]]:
        spans, next_index = [], 0
        for bucket in native[name]:
            spans.append((bucket["index"] - next_index, 1))
            next_index = bucket["index"] + 1
        return spans, [bucket["count"] for bucket in native[name]]

    (positive, positive_counts), (negative, negative_counts) = side("positive"), side("negative")
    same = ("schema", "count", "sum", "zero_threshold", "zero_count", "custom_values", "counter_reset_hint", "is_float")
    return Histogram(
        **{name: native[name] for name in same},
        positive_spans=positive,
        positive_buckets=positive_counts,
        negative_spans=negative,
        negative_buckets=negative_counts,
    )


def test_a_chunk_that_cannot_be_read_is_said_with_its_place(blocks: Path, tmp_path: Path) -> None:
    block = Path(shutil.copytree(min(blocks.iterdir()), tmp_path / "in" / "block"))
    path = block / "chunks/000001"
    content = bytearray(path.read_bytes())
    at = 8
    while True:
        length, start = read_uvarint(content, at)
        if content[start] == block_format.HISTOGRAMS:
            break
        at = start + 1 + length + 4
    content[start + 1] = 0xFF
    content[start + 1 + length : start + 5 + length] = block_format.checksum(bytes(content[start : start + 1 + length]))
    path.write_bytes(content)
    with pytest.raises(ImportDataError) as e:
        tsdb("import", "--storage.path", tmp_path / "data", "prometheus", tmp_path / "in")
    assert f"at offset {at}: the chunk cannot be read: its bits end before its last sample" in str(e.value)


def test_chunks_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="too short to say how many samples"):
        decode_histogram_chunk(2, b"\0")
    with pytest.raises(ValueError, match="stands for none of 1 histograms"):
        encode_histogram_chunks(np.array([1]), np.array([1.0]), Histograms([counter(1)]), 120)
