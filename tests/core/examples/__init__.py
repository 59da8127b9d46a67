"""Data folders of each version of the storage's files, as that version wrote them, and what is in them as JSON.

`python -m tests.core.examples` writes those of this version anew; they are written once, when the version is new, and
then stay as they are for as long as that version can be read. `v1/data` is a folder with a log and chunks, `v1/samples.json`
what it holds; `v1/compacted` is the same after its samples moved to blocks and some were deleted, of which the blocks still hold a
part and the tombstones say so, and `v1/compacted.json` what it holds then. `histograms` is another folder of version 1, of
native histograms (see `histogram_samples`).
"""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bellbuoy._core import STALE_BITS, LabelSets, Scraper, Storage
from tests.core.scraping import Exporter, eventually, values

HERE = Path(__file__).parent
VERSION = 1
HUNDRED_YEARS_SECONDS = 100 * 365 * 86400.0
START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
MIN_MS, MAX_MS = -(2**62), 2**62

Described = list[dict[str, Any]]
"""Each series: its labels, and its samples as milliseconds and the value's text."""


def open_storage(folder: Path) -> Storage:
    """A storage that keeps the examples, however old they are, and writes only when it is told."""
    return Storage(str(folder), retention_seconds=HUNDRED_YEARS_SECONDS, commit_seconds=3600)


def text_of(bits: int) -> str:
    """A value as `samples.json` has it: it reads back to the same bits."""
    return "stale" if bits == STALE_BITS else repr(float(np.uint64(bits).view(np.float64)))


def described(series: list[tuple[dict[str, str], list[tuple[int, int]]]]) -> Described:
    """Series with the bits of their samples, in an order of their own."""
    return sorted(
        (
            {"labels": labels, "samples": [[time, text_of(bits)] for time, bits in samples]}
            for labels, samples in series
        ),
        key=lambda one: sorted(one["labels"].items()),
    )


def held(storage: Storage) -> Described:
    """All that a storage gives."""
    found = storage.select([("__name__", "=~", ".+")], MIN_MS, MAX_MS)
    bits, times = found.values.view(np.uint64).tolist(), found.timestamps.tolist()
    spans = zip(found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True)
    samples = [list(zip(times[start:end], bits[start:end], strict=True)) for start, end in spans]
    return described(list(zip(found.labels.to_dicts(), samples, strict=True)))


def stated(version: int, of: str = "samples") -> Described:
    """What an example of this version holds: `samples` is the one with chunks, `compacted` that with blocks."""
    found: Described = json.loads((HERE / f"v{version}" / f"{of}.json").read_text())
    return found


def _state(path: Path, series: Described) -> None:
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in series)
    path.write_text(f"[\n{lines}\n]\n")


def _row(at: int) -> dict[str, float]:
    """A row that has a column of each form."""
    chance = random.Random(at)
    row = {
        "constant_integer": 7.0,
        "constant": 0.1 + 0.2,
        "noise": float(chance.randrange(100)),
        "walk": 1000.0 + 10 * at + chance.randrange(4),
        "counter": 500.0 * at * at,
        "hundredths": chance.randrange(1000) / 100,
        "tenthousandths": 1.0001 + chance.randrange(5) / 10000,
        "any": chance.random(),
        "spikes": 1e9 if at == 3 else float(at % 2),
        "odd": (-0.0, float("inf"), 5e-324, float("nan"))[at % 4],
    }
    if at % 8 < 5:
        row["comes_and_goes"] = float(at)
    if at < 20:
        # What ends with a chunk leaves nothing but its stale marker in the next one.
        row["ends"] = float(at)
    if at >= 13:
        # The first time without what comes and goes: no row had just these columns.
        row["late"] = float(at)
    return row


def _append(storage: Storage, rows: range) -> None:
    writer = storage.writer("example")
    for at in rows:
        row = _row(at)
        labels = LabelSets.from_dicts([{"__name__": name, "job": "example"} for name in row])
        writer.append(START_MS + 1000 * at, labels, np.array(list(row.values())))
        if at % 3 == 0:
            series = LabelSets.from_dicts([{"__name__": "late_news", "id": f"{i}\n⚓"} for i in range(3)])
            times = np.array([START_MS + 1000 * at, START_MS + 700 * at + 1, START_MS - 5 * at], dtype=np.int64)
            storage.append(series, times, np.array([at, at / 10, at / 7]))
            storage.flush()


def _scrape(storage: Storage) -> None:
    exporter = Exporter()
    scraper = Scraper(storage)
    try:
        exporter.body = b'scraped_total{path="/"} 1\nscraped_of_nobody{instance=""} 0.25\n'
        settings = {"interval_seconds": 0.1, "timeout_seconds": 0.1, "honor_labels": True}
        scraper.set_pool("pods", settings, [{"url": exporter.url, "labels": {"job": "scraped", "instance": "a"}}])
        eventually(lambda: len(values(storage, "up")) >= 4)
        exporter.body = b'scraped_total{path="/"} 2\n'
        eventually(lambda: values(storage, "scraped_total")[-1] == 2.0)
    finally:
        scraper.close()
        exporter.stop()


def make(folder: Path) -> None:
    """Write a data folder and the statement of it."""
    data = folder / "data"
    if folder.exists():
        shutil.rmtree(folder)
    storage = open_storage(data)
    _append(storage, range(20))
    storage.seal()
    storage.close()
    # From here on a second segment, and what is sealed in a second file.
    storage = open_storage(data)
    _append(storage, range(20, 24))
    storage.seal()
    _scrape(storage)
    _append(storage, range(24, 27))
    _state(folder / "samples.json", held(storage))
    storage.close()
    make_compacted(folder)


def make_compacted(folder: Path) -> None:
    """Write the data folder with blocks and tombstones, from the one with chunks, and the statement of it."""
    compacted = folder / "compacted"
    if compacted.exists():
        shutil.rmtree(compacted)
    shutil.copytree(folder / "data", compacted)
    storage = open_storage(compacted)
    # One is deleted before its block is written, and is not in it; the rest afterwards, and is.
    storage.delete([[("__name__", "=", "noise")]], START_MS, START_MS + 4000)
    storage.compact(everything=True)
    storage.delete([[("__name__", "=~", "walk|late_news")]], START_MS + 5000, START_MS + 9000)
    storage.delete([[("__name__", "=", "hundredths")]], MIN_MS, MAX_MS)
    _state(folder / "compacted.json", held(storage))
    storage.close()
