"""What is asked for: rows of a made-up fleet, written once into a folder of ours and one of Prometheus.

Three places: `head`, the last two hours, all in the log; `blocks`, some hours, all in blocks; `month`, thirty days of
fewer series, all in blocks. Rows go in as in the benchmark of storages, by the same programs (`write`), so both hold
the same samples to the last bit. A fifth of the targets has a histogram; zone and version go with the target.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.errors import BenchmarkError
from bench.programs import TSDB
from bench.storage_input import INTERVAL_MILLISECONDS, Recording, write

Place = Literal["head", "blocks", "month"]
PLACES: tuple[Place, ...] = ("head", "blocks", "month")
WHO = ("bellbuoy", "prometheus")
RETENTION_SECONDS = 60 * 86_400

HANDLERS = ("/", "/login", "/api/v1/items", "/api/v1/orders", "/api/v1/search")
CODES = ("200", "500")
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")
_VERSIONS = ("1.30.0", "1.30.1", "1.31.0")
# A target of the month has many series, so that there are fewer rows to append.
_MONTH_TARGETS = 10
# After so many seconds a recording begins again, and its counters fall; a prime, as its stride needs.
_ROWS = 20_011
# Windows of requests are shifted within it.
SLACK_SECONDS = 600
_BLOCK_SECONDS = 7200
_WRITE_SECONDS = 1800
_ROOT = Path(__file__).resolve().parents[1]
_SETTLED_SECONDS = 3600


@dataclass(frozen=True)
class Size:
    """How much there is."""

    targets: int = 1000
    head_hours: float = 2
    block_hours: float = 6
    month_hours: float = 720
    month_series: int = 1000

    def hours(self, place: Place) -> float:
        """How long a window may be there."""
        return {"head": self.head_hours, "blocks": self.block_hours, "month": self.month_hours}[place]


@dataclass(frozen=True)
class Data:
    """One place, written by both: folders by name, and when its samples begin and end."""

    place: Place
    folders: dict[str, Path]
    start_ms: int
    end_ms: int
    samples: int


def fleet(random: np.random.Generator) -> list[Recording]:
    """Five kinds of targets, one a zone; the last has histograms."""
    return [_kind(zone, random, has_histogram=zone == 4) for zone in range(5)]


def _kind(zone: int, random: np.random.Generator, *, has_histogram: bool) -> Recording:
    common = {"job": "web", "zone": f"zone-{zone}"}
    columns, rows = [], []
    for at, (handler, code) in enumerate((handler, code) for handler in HANDLERS for code in CODES):
        columns.append({"__name__": "http_requests_total", "handler": handler, "code": code, **common})
        rows.append(np.cumsum(random.poisson(0.1 + at, _ROWS)))
    columns.append({"__name__": "memory_bytes", **common})
    rows.append(4096 * (50_000 + np.cumsum(random.integers(-40, 41, _ROWS))))
    columns.append({"__name__": "target_info", "version": _VERSIONS[zone % len(_VERSIONS)], **common})
    rows.append(np.ones(_ROWS, np.int64))
    if has_histogram:
        columns += [{"__name__": "latency_seconds_bucket", "le": bound, **common} for bound in BOUNDS]
        rows += list(np.cumsum(np.cumsum(random.poisson(2.0, (len(BOUNDS), _ROWS)), axis=1), axis=0))
    return Recording(columns, np.array(rows, np.float64).T.copy())


def month(series: int, random: np.random.Generator) -> list[Recording]:
    """One kind of targets, with a counter of many series."""
    width = max(1, series // _MONTH_TARGETS)
    columns = [{"__name__": "jobs_total", "job": "batch", "queue": f"queue-{at:03}"} for at in range(width)]
    rows = np.cumsum(random.poisson(np.linspace(0.05, 5, width), (_ROWS, width)), axis=0)
    return [Recording(columns, rows.astype(np.float64))]


def prepare(place: Place, folder: Path, size: Size) -> Data:
    """Write a place twice, both at the same time."""
    said = folder / "written.json"
    if said.exists():
        return _read(said, place, size)
    folder.mkdir(parents=True)
    random = np.random.default_rng(16)
    seconds = round(size.hours(place) * 3600) + SLACK_SECONDS
    targets = _MONTH_TARGETS if place == "month" else size.targets
    write(folder / "rows", month(size.month_series, random) if place == "month" else fleet(random))
    now = int(time.time())
    if place == "head":
        # In the future, so that no storage takes rows for old by its clock; from where a block would start.
        start = (now // _BLOCK_SECONDS + 1) * _BLOCK_SECONDS
    else:
        start = (now - _SETTLED_SECONDS - seconds) // 60 * 60
    scrapes = seconds * 1000 // INTERVAL_MILLISECONDS
    common = [f"--input={folder / 'rows'}", f"--targets={targets}", f"--scrapes={scrapes}", f"--start={start * 1000}"]
    common += [] if place == "head" else ["--blocks"]
    commands = {
        "bellbuoy": [
            *(sys.executable, "-m", "bench.storage_ours", "write", "--shared", f"--retention={RETENTION_SECONDS}"),
            *common,
        ],
        "prometheus": [str(TSDB.path()), "write", f"--retention={RETENTION_SECONDS}s", *common],
    }
    folders = {who: folder / who for who in WHO}
    lines = _run([[*commands[who], f"--data={folders[who]}"] for who in WHO])
    if lines[0]["samples"] != lines[1]["samples"]:
        raise BenchmarkError(f"cannot compare: of {place} {lines[0]['samples']} and {lines[1]['samples']} were written")
    numbers = {"start_ms": start * 1000, "end_ms": (start + seconds) * 1000, "samples": lines[0]["samples"]}
    said.write_text(json.dumps({"size": asdict(size), **numbers}))
    return Data(place=place, folders=folders, **numbers)


def _read(said: Path, place: Place, size: Size) -> Data:
    """What was written before."""
    numbers = json.loads(said.read_text())
    if numbers.pop("size") != asdict(size):
        raise BenchmarkError(f"cannot use {said.parent}: it was written in another size; remove it")
    if place == "head" and time.time() > numbers["start_ms"] / 1000:
        raise BenchmarkError(f"cannot use {said.parent}: its samples would go into blocks by now; remove it")
    return Data(place=place, folders={who: said.parent / who for who in WHO}, **numbers)


def _run(commands: list[list[str]]) -> list[dict[str, int]]:
    """What programs that run at the same time said when they had written. None of them outlives the call."""
    running: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            running.append(
                subprocess.Popen(command, cwd=_ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
        return [_said(process) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def _said(process: "subprocess.Popen[str]") -> dict[str, int]:
    out, errors = process.communicate(timeout=_WRITE_SECONDS)
    if process.returncode:
        said = "\n".join(errors.splitlines()[-12:])
        raise BenchmarkError(f"cannot write: a program ended with exit code {process.returncode}:\n{said}")
    found: dict[str, int] = json.loads(out)
    return found


def windows(data: Data, hours: float) -> Iterator[tuple[int, int]]:
    """Start and end in milliseconds of windows of so many hours, each a little later than the one before, for ever."""
    length = round(min(hours * 3_600_000, data.end_ms - data.start_ms - SLACK_SECONDS * 1000))
    first = data.start_ms + SLACK_SECONDS * 1000 + (data.end_ms - data.start_ms - SLACK_SECONDS * 1000 - length)
    shift = 0
    while True:
        end = first + length - shift
        yield end - length, end
        shift = (shift + 7_000) % (SLACK_SECONDS * 1000)
