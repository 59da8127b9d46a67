"""What storing costs: memory, disk, log, restart, reading, ours beside Prometheus and VictoriaMetrics.

`make bench-storage` runs it.

No network and no parsing: a program for each storage appends the same rows, at the same timestamps, in the same order,
as fast as it can. By the samples' time it does what its server does by the clock: commits, tidying, compaction. It
selects one metric from the head and from blocks. For the restart it has only a log: it is killed, and started again.
Prometheus must give the same samples as ours, bit by bit, or there is no result; VictoriaMetrics, which rounds, as
many, or its column is empty and a line says why. With several sizes a line tells how costs grow. The last is for
machines.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bellbuoy.exposition.text import parse
from bench.errors import BenchmarkError
from bench.programs import TSDB, VICTORIA_STORAGE, Program
from bench.replay import RECORDINGS, scrapes
from bench.scratch import scratch
from bench.storage_input import INTERVAL_MILLISECONDS, NAN_BITS, STALE_BITS, STRIDE, Recording, write

_ROOT = Path(__file__).resolve().parents[1]
_RECORDINGS = ("node", "app")
# Each target has one series of it.
_METRIC = "process_cpu_seconds_total"
_BLOCK_HOURS = 2
# Prometheus writes a block of two hours when its head spans more than three, we half an hour after their end.
_LEAST_HOURS = 3.05
_INPUTS = ("shared", "distinct")
_OURS = (sys.executable, "-m", "bench.storage_ours")
# Rows of each series that are in the log when the program is killed.
_LOGGED_SCRAPES = 20
# How far counts may differ from those of one that leaves NaNs out.
_TOLERANCE = 0.03
# A target's place within the interval is in whole milliseconds: no two may share one.
_MOST_TARGETS = 1000

Lines = Mapping[str, Mapping[str, Any]]
"""What a program said, by phase."""


@dataclass(frozen=True)
class Figure:
    """One row of the table: how a program's lines give it."""

    name: str
    title: str
    unit: str

    def of(self, lines: Lines, series: int) -> float | None:
        """The figure, lower is better; None where there is no such thing."""
        loaded, reopened = lines["loaded"], lines["reopened"]
        if self.name == "wal" and "wal_samples" not in loaded:
            return None
        match self.name:
            case "rss":
                return float(loaded["peak_bytes"] / series)
            case "rss_grown":
                return float((loaded["peak_bytes"] - loaded["start_bytes"]) / series)
            case "disk":
                return float(loaded["block_bytes"] / loaded["block_samples"])
            case "wal":
                return float(loaded["wal_bytes"] / loaded["wal_samples"])
            case "restart":
                return float(reopened["seconds"] * 1e3)
            case "restart_cpu":
                return float(reopened["processor_seconds"] * 1e3)
            case "restart_rss":
                return float(reopened["peak_bytes"] / series)
            case "append":
                return float(loaded["processor_seconds"] * 1e6 / loaded["samples"])
            case _:
                return float(lines[self.name]["seconds"] * 1e3)


FIGURES = (
    Figure("rss", "peak RSS a series", "B"),
    Figure("rss_grown", "the same above the start", "B"),
    Figure("disk", "block bytes a sample", "B"),
    Figure("wal", "log bytes a sample", "B"),
    Figure("restart", "restart", "ms"),
    Figure("restart_cpu", "restart, processor", "ms"),
    Figure("restart_rss", "restart, peak RSS a series", "B"),
    Figure("select_head", "one metric from the head", "ms"),
    Figure("select_blocks", "one metric from blocks", "ms"),
    Figure("append", "processor a sample", "µs"),
)


def table_of(bodies: Iterable[bytes], *, job: str) -> Recording:
    """Bodies of the text format without timestamps as rows."""
    places: dict[bytes, int] = {}
    found: list[dict[int, float]] = []
    for body in bodies:
        row = {}
        for line in body.splitlines():
            if line and not line.startswith(b"#"):
                series, _, value = line.rpartition(b" ")
                row[places.setdefault(series, len(places))] = float(value)
        found.append(row)
    columns = []
    for series in places:
        (sample,) = (one for family in parse(series.decode() + " 0\n").values() for one in family.samples)
        columns.append({"__name__": sample.name, **dict(sample.labels), "job": job})
    rows = np.full((len(found), len(places)), STALE_BITS, np.uint64).view(np.float64)
    for values, row in zip(rows, found, strict=True):
        values[list(row)] = list(row.values())
    bits = rows.view(np.uint64)
    bits[np.isnan(rows) & (bits != STALE_BITS)] = NAN_BITS
    return Recording(columns, rows)


def prepare(path: Path) -> list[int]:
    """Write the recordings as rows; returns how many series a target of each has."""
    recordings = [table_of((body for _, body in scrapes(RECORDINGS / f"{one}.rec.xz")), job=one) for one in _RECORDINGS]
    for name, recording in zip(_RECORDINGS, recordings, strict=True):
        if np.gcd(len(recording.rows), STRIDE) != 1:
            raise BenchmarkError(f"cannot shift targets of {name}: {len(recording.rows)} rows are no good for {STRIDE}")
    write(path, recordings)
    return [len(one.columns) for one in recordings]


@contextmanager
def _program(command: Sequence[str], log: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """The lines that it says. It is killed at the end."""

    def lines(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
        assert process.stdout
        for line in process.stdout:
            yield json.loads(line)
        said = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        if process.wait():
            raise BenchmarkError(f"cannot go on: {command[0]} ended with exit code {process.returncode}:\n{said}")

    with log.open("ab") as errors:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=_ROOT)
        except OSError as error:
            raise BenchmarkError(f"cannot start {command[0]}: {error.strerror}; is it the right file?") from error
    with process:
        try:
            yield lines(process)
        finally:
            process.kill()


def measure(command: Sequence[str], arguments: Sequence[str], folder: Path, *, scrapes: int) -> Lines:
    """One program with an empty storage: load; and with another: log, kill, reopen."""
    folder.mkdir(parents=True)
    found: dict[str, dict[str, Any]] = {}

    def run(action: str, until: str, *more: str) -> None:
        with _program([*command, action, *more, *arguments], folder / "log") as lines:
            for line in lines:
                found[line["phase"]] = line
                if line["phase"] == until:
                    return
        raise BenchmarkError(f"cannot go on: {command[0]} {action} said nothing of {until}")

    run("load", "select_blocks", f"--data={folder / 'data'}", f"--scrapes={scrapes}")
    shutil.rmtree(folder / "data")
    for action, until in (("log", "logged"), ("reopen", "reopened")):
        run(action, until, f"--data={folder / 'logged'}", f"--scrapes={_LOGGED_SCRAPES}")
    shutil.rmtree(folder / "logged")
    return found


def compare(ours: Lines, theirs: Lines) -> None:
    """Raise if they did not store and find the same."""
    for phase, keys in {
        "loaded": ("samples", "block_samples"),
        "select_head": ("samples", "checksum"),
        "select_blocks": ("samples", "checksum"),
        "logged": ("samples",),
        "reopened": ("samples", "checksum"),
    }.items():
        for key in keys:
            our, their = ours[phase][key], theirs[phase][key]
            if our != their or not our:
                raise BenchmarkError(f"cannot compare: {key} of {phase} are {our} and {their}")


def compare_counts(ours: Lines, theirs: Lines) -> None:
    """Raise if they did not find as many, but for NaNs, which VictoriaMetrics leaves out."""
    for phase in ("loaded", "select_head", "select_blocks", "logged", "reopened"):
        our, their = ours[phase]["samples"], theirs[phase]["samples"]
        if abs(our - their) > _TOLERANCE * our:
            raise BenchmarkError(f"samples of {phase} are {our} and {their}")


def medians(runs: Sequence[Lines], series: int) -> dict[str, float]:
    """Each figure's, over the runs."""
    found: dict[str, float] = {}
    for one in FIGURES:
        values = [value for lines in runs if (value := one.of(lines, series)) is not None]
        if values:
            found[one.name] = statistics.median(values)
    return found


Medians = Mapping[str, float]


def table(kind: str, ours: Medians, theirs: Medians, third: Medians) -> str:
    """For people. Of whom there are no figures, the place is empty."""

    def shown(figures: Medians, name: str) -> str:
        return f"{figures[name]:,.3f}" if name in figures else ""

    rows: list[tuple[str, ...]] = [(kind, "", "bellbuoy", "prometheus", "ratio", "victoriametrics")]
    for one in FIGURES:
        ratio = f"{ours[one.name] / theirs[one.name]:.3f}" if one.name in theirs else ""
        rows.append(
            (one.title, one.unit, *(shown(who, one.name) for who in (ours, theirs)), ratio, shown(third, one.name))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def growth(name: str, sizes: Sequence[int], medians_of: Sequence[Medians]) -> str:
    """How a cost goes up from the first size to the last."""
    steps = ", ".join(
        f"{size:,} series {figures[name]:.3f} µs" for size, figures in zip(sizes, medians_of, strict=True)
    )
    return f"processor a sample: {steps}: {medians_of[-1][name] / medians_of[0][name] - 1:+.0%}"


def ratios(found: Mapping[str, tuple[Medians, Medians]]) -> str:
    """For machines: ours over theirs, by input. Of distinct series the names end in `_distinct`."""
    parts = []
    for kind, (ours, theirs) in found.items():
        for one in FIGURES:
            name = one.name if kind == "shared" else f"{one.name}_distinct"
            parts.append(f"{name}={ours[one.name] / theirs[one.name]:.3f}")
    return "ratios: " + " ".join(parts)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.storage", description="What storing costs, ours and Prometheus."
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--targets", type=int, default=10, help="of about 1,000 series each (default: %(default)s)")
    size.add_argument(
        "--series",
        type=int,
        action="append",
        help="the same, as a number of series: 10000, 100000, 1000000; with several of them costs are compared",
    )
    parser.add_argument("--hours", type=float, default=3.1, help="of samples, every 15 s (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1, help="interleaved; medians are shown (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=20, help="selects in a run, median (default: %(default)s)")
    parser.add_argument("--input", choices=_INPUTS, action="append", help="may be repeated (default: both)")
    parser.add_argument("--folder", type=Path, help="for the storages (default: a temporary one)")
    parser.add_argument("--ours-only", action="store_true", help="without peers, and without ratios")
    parser.add_argument("--no-victoria", action="store_true", help="without VictoriaMetrics")
    args = parser.parse_args(arguments)
    args.sizes = [max(1, series // 1000) for series in args.series] if args.series else [args.targets]
    if args.hours < _LEAST_HOURS:
        parser.error(f"--hours is {args.hours:g}: give {_LEAST_HOURS} or more, so that both have made a block")
    for targets in args.sizes:
        if not 1 <= targets <= _MOST_TARGETS:
            parser.error(f"{targets} targets: give 1 to {_MOST_TARGETS}")
    if args.runs < 1 or args.repeat < 1:
        parser.error("--runs and --repeat are at least 1")
    return args


@dataclass(frozen=True)
class _Run:
    """What is measured: how often, where, and against whom."""

    args: argparse.Namespace
    folder: Path
    peer: tuple[str, ...] | None
    third: tuple[str, ...] | None

    def of(self, kind: str, targets: int, series: int) -> tuple[Medians, Medians, Medians]:
        """Of one input and size: ours, Prometheus's, VictoriaMetrics'; empty where there are none."""
        scrape_count = round(self.args.hours * 3600_000 / INTERVAL_MILLISECONDS)
        block = _BLOCK_HOURS * 3600
        # In the future, so that no storage takes rows for old by its clock.
        start = (int(time.time()) // block + 1) * block * 1000
        common = [
            f"--input={self.folder / 'rows'}",
            f"--metric={_METRIC}",
            f"--targets={targets}",
            f"--start={start}",
            f"--repeat={self.args.repeat}",
        ]
        ours = [*common, "--shared"] if kind == "shared" else common
        runs: dict[str, list[Lines]] = {"ours": [], "theirs": [], "third": []}
        third = self.third
        for run in range(self.args.runs):
            print(f"{kind}, {targets} targets, run {run + 1} of {self.args.runs}", file=sys.stderr)
            place = self.folder / f"{kind}-{targets}-{run}"
            mine = measure(_OURS, ours, place.with_name(f"{place.name}-ours"), scrapes=scrape_count)
            runs["ours"].append(mine)
            if self.peer:
                runs["theirs"].append(
                    measure(self.peer, common, place.with_name(f"{place.name}-theirs"), scrapes=scrape_count)
                )
                compare(mine, runs["theirs"][-1])
            if third:
                try:
                    found = measure(third, common, place.with_name(f"{place.name}-third"), scrapes=scrape_count)
                    compare_counts(mine, found)
                    runs["third"].append(found)
                except BenchmarkError as error:
                    print(f"no figures of victoriametrics: {error}", file=sys.stderr)
                    third = None
            print(json.dumps({who: of[-1] if of else None for who, of in runs.items()}), file=sys.stderr)
        mine_median, their_median, third_median = (medians(of, series) for of in runs.values())
        return mine_median, their_median, third_median


def _third(program: Program) -> tuple[str, ...] | None:
    """One that is not built here is missing, and that is said."""
    try:
        return (str(program.path()),)
    except BenchmarkError as error:
        print(f"no figures of victoriametrics: {error}", file=sys.stderr)
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(arguments)
    kinds = [kind for kind in _INPUTS if kind in (args.input or _INPUTS)]
    found: dict[str, list[tuple[Medians, Medians]]] = {kind: [] for kind in kinds}
    sizes = []
    with scratch(within=args.folder) as folder:
        try:
            peer = None if args.ours_only else (str(TSDB.path()),)
            third = None if args.ours_only or args.no_victoria else _third(VICTORIA_STORAGE)
            widths = prepare(folder / "rows")
            run = _Run(args, folder, peer, third)
            for targets in args.sizes:
                series = sum(widths[i % len(widths)] for i in range(targets))
                sizes.append(series)
                tables = []
                for kind in kinds:
                    ours, theirs, of_third = run.of(kind, targets, series)
                    found[kind].append((ours, theirs))
                    tables.append(table(kind, ours, theirs, of_third))
                of = f"{series:,} series of {targets} targets, {args.hours:g} h"
                print(f"{of}, {args.runs} runs, {os.cpu_count()} processors")
                print("\n\n".join(tables), flush=True)
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    if len(sizes) > 1:
        for kind in kinds:
            for who, which in (("bellbuoy", 0), ("prometheus", 1)):
                of_sizes = [pair[which] for pair in found[kind]]
                if all(of_sizes):
                    print(f"{who}, {kind}, {growth('append', sizes, of_sizes)}")
    if peer:
        # Of several sizes the last one's.
        print(ratios({kind: pairs[-1] for kind, pairs in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
