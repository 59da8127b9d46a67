"""The benchmark of storages runs to its end, and compares only what stored the same."""

import asyncio
import copy
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchmarkError
from bench.programs import TSDB, VICTORIA_STORAGE
from bench.storage import FIGURES, compare, compare_counts, growth, medians, prepare, ratios, table, table_of
from bench.storage_input import NAN_BITS, STALE_BITS, Recording, read, write
from tests.bench.running import run

TINY = ("--targets=2", "--hours=3.05", "--repeat=2", "--no-victoria")


# Building the peer may take minutes: both are compared where it was built before.
@pytest.mark.parametrize("both", [TSDB.is_built()])
async def test_a_run_ends_in_tables_and_with_both_in_a_line_of_ratios(tmp_path: Path, both: bool) -> None:
    more = [] if both else ["--input=distinct", "--ours-only"]
    code, out, said = await run("bench.storage", *TINY, *more, f"--folder={tmp_path}")
    assert code == 0, said
    head, *rows = out.splitlines()
    assert head.startswith("1,989 series of 2 targets, 3.05 h")
    if both:
        assert re.fullmatch(r"ratios:( \w+=\d+\.\d{3})+", rows[-1])
        names = {pair.partition("=")[0] for pair in rows[-1].split()[1:]}
        assert names == {f"{figure.name}{kind}" for figure in FIGURES for kind in ("", "_distinct")}
        rows = rows[rows.index("") + 1 : -1]
    columns, *rows = rows
    assert columns.split() == ["distinct", "bellbuoy", "prometheus", "ratio", "victoriametrics"]
    assert [row[: len(figure.title)] for row, figure in zip(rows, FIGURES, strict=True)] == [f.title for f in FIGURES]
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not VICTORIA_STORAGE.is_built(), reason="building VictoriaMetrics' storage takes minutes")
async def test_victoriametrics_storage_finds_what_it_was_given(tmp_path: Path) -> None:
    prepare(tmp_path / "rows")
    start = (int(time.time()) // 7200 + 1) * 7_200_000
    process = await asyncio.create_subprocess_exec(
        *(VICTORIA_STORAGE.path(), "load", f"--data={tmp_path / 'data'}", f"--input={tmp_path / 'rows'}"),
        *("--metric=process_cpu_seconds_total", "--targets=2", "--scrapes=20", f"--start={start}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    loaded, selected = [json.loads(await process.stdout.readline()) for _ in range(2)]
    process.kill()
    await process.wait()
    assert (loaded["phase"], loaded["samples"] // 10_000, selected["samples"]) == ("loaded", 3, 2 * 20)
    assert 0 < loaded["block_bytes"] < loaded["peak_bytes"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--hours=2.6", "give 3.05 or more, so that both have made a block"),
        ("--targets=0", "0 targets: give 1 to 1000"),
        ("--series=2000000", "2000 targets: give 1 to 1000"),
        ("--runs=0", "--runs and --repeat are at least 1"),
    ],
)
async def test_what_cannot_be_measured_is_said(argument: str, words: str) -> None:
    code, out, said = await run("bench.storage", argument)
    assert (code, out) == (2, "")
    assert words in said


def test_scrapes_become_rows_with_markers_where_a_series_is_missing() -> None:
    bodies = (b'# TYPE a counter\na{b="x y"} 1\nc NaN\n', b'a{b="x y"} 2.5\n', b"d +Inf\n")
    found = table_of(bodies, job="j")
    assert found.columns == [
        {"__name__": "a", "b": "x y", "job": "j"},
        {"__name__": "c", "job": "j"},
        {"__name__": "d", "job": "j"},
    ]
    bits = found.rows.view(np.uint64).tolist()
    one, more, infinite = (np.float64(value).view(np.uint64).item() for value in (1.0, 2.5, math.inf))
    assert bits == [
        [one, NAN_BITS, STALE_BITS],
        [more, STALE_BITS, STALE_BITS],
        [STALE_BITS, STALE_BITS, infinite],
    ]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    recordings = [
        Recording(
            [{"__name__": f"m{i}", "é": '"'} for i in range(width)], np.random.default_rng(1).random((rows, width))
        )
        for width, rows in ((3, 5), (1, 1), (7, 2))
    ]
    path = tmp_path / "rows"
    write(path, recordings)
    for found, expected in zip(read(path), recordings, strict=True):
        assert list(found.columns) == list(expected.columns)
        assert np.array_equal(found.rows, expected.rows)


def lines(**loaded: float) -> dict[str, dict[str, Any]]:
    """What a program says, made up."""
    found = {"samples": 10, "checksum": "a", "seconds": 0.5}
    counts = {"samples": 1000, "block_samples": 500, "block_bytes": 1000, "wal_bytes": 2000, "wal_samples": 1000}
    used = {"peak_bytes": 4000, "start_bytes": 1000, "processor_seconds": 0.001}
    return {
        "loaded": {**counts, **used, **loaded},
        "select_head": dict(found),
        "select_blocks": dict(found),
        "logged": {"samples": 200},
        "reopened": {**found, "processor_seconds": 0.25, "peak_bytes": 300},
    }


def test_figures_are_medians_and_ratios_ours_over_theirs() -> None:
    ours = medians([lines(peak_bytes=2000), lines(peak_bytes=1000), lines(peak_bytes=9000)], 100)
    theirs = medians([lines()], 100)
    assert (ours["rss"], theirs["rss"], theirs["rss_grown"]) == (20, 40, 30)
    assert (ours["disk"], ours["wal"], ours["append"], ours["restart"]) == (2, 2, 1, 500)
    line = ratios({"shared": (ours, theirs), "distinct": (ours, theirs)})
    pairs = dict(pair.split("=") for pair in line.removeprefix("ratios: ").split())
    assert (pairs["rss"], pairs["rss_distinct"], pairs["select_head"]) == ("0.500", "0.500", "1.000")
    assert len(pairs) == 2 * len(FIGURES)
    shown = [" ".join(line.split()) for line in table("shared", ours, theirs, {"rss": 30}).splitlines()]
    assert shown[1:3] == [
        "peak RSS a series B 20.000 40.000 0.500 30.000",
        "the same above the start B 10.000 30.000 0.333",
    ]
    assert table("shared", ours, {}, {}).splitlines()[1].split()[-1] == "20.000"
    want = "processor a sample: 1,000 series 1.000 µs, 9,000 series 1.250 µs: +25%"
    assert growth("append", [1000, 9000], [ours, {"append": 1.25}]) == want


def test_storages_that_do_not_have_the_same_are_not_compared() -> None:
    compare(lines(), lines())
    with pytest.raises(BenchmarkError, match="samples of loaded are 999 and 1000"):
        compare(lines(samples=999), lines())
    with pytest.raises(BenchmarkError, match="block_samples of loaded are 0 and 0"):
        compare(lines(block_samples=0), lines(block_samples=0))
    compare_counts(lines(), lines(samples=980))
    with pytest.raises(BenchmarkError, match="samples of loaded are 1000 and 900"):
        compare_counts(lines(), lines(samples=900))
    for phase in ("select_head", "select_blocks", "reopened"):
        other = copy.deepcopy(lines())
        other[phase]["checksum"] = "b"
        with pytest.raises(BenchmarkError, match=f"checksum of {phase} are a and b"):
            compare(lines(), other)
