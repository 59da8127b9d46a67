"""A data folder with what is hard to carry over, and a storage's samples as plain lists."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bellbuoy.tsdb import LabelSets, Storage
from tests.tsdb_tools.plain import NAN_BITS, STALE_BITS

STEP_MS = 15_000
Samples = dict[tuple[tuple[str, str], ...], list[tuple[int, int]]]
"""Times and values' bits, by labels."""


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Storage]:
    """The folder's storage."""
    storage = Storage(str(folder), retention_seconds=1e11)
    try:
        yield storage
    finally:
        storage.close()


def fill(folder: Path, *, series: int = 40, rows: int = 1200, seed: int = 7) -> tuple[int, int]:
    """Counters, gauges, histograms and awkward labels, with stale markers, NaN and infinities, for some hours until
    now; the first and the last time."""
    random = np.random.default_rng(seed)
    end = time.time_ns() // 1_000_000 // 1000 * 1000
    start = end - rows * STEP_MS
    names = ("requests_total", "latency_seconds_bucket", "temperature", "up")
    labels = [
        {
            "__name__": names[i % 4],
            "instance": f"host-{i // 4}:9100",
            "job": "node" if i % 3 else "app",
            **({"le": ("0.1", "0.5", "+Inf")[i // 4 % 3]} if i % 4 == 1 else {}),
            **({"Zone": 'é\n"q\\', "value": "x"} if i % 5 == 0 else {}),
        }
        for i in range(series)
    ]
    times = start + STEP_MS * np.arange(rows)[None, :] + random.integers(-9, 10, (series, rows))
    values = np.cumsum(random.integers(0, 9, (series, rows)), axis=1).astype(np.float64)
    values[2::4] = random.normal(20, 5, values[2::4].shape).round(2)
    values[3::4] = random.integers(0, 2, values[3::4].shape)
    values[2, 1::97], values[2, 2::97] = np.inf, -np.inf
    values[6] = random.random(rows) * 1e-300
    bits = values.view(np.uint64)
    bits[2, ::97] = NAN_BITS
    bits[random.random(bits.shape) < 0.003] = STALE_BITS
    # One series ends, one begins late, one has a sample every hour.
    there = np.ones(bits.shape, np.bool_)
    there[0, rows // 2 :] = there[3, : rows // 2] = False
    there[7] = np.arange(rows) % 240 == 0
    owners = np.repeat(np.arange(series), rows)[there.ravel()]
    with opened(folder) as storage:
        storage.append(LabelSets.from_dicts(labels).take(owners), times[there], values[there])
        storage.flush()
    return int(times[there].min()), int(times[there].max())


def read(folder: Path) -> Samples:
    """All that a folder holds."""
    with opened(folder) as storage:
        found = storage.select([], -(2**60), 2**60)
    pairs = list(zip(found.timestamps.tolist(), found.values.view(np.uint64).tolist(), strict=True))
    offsets = found.offsets.tolist()
    return {
        tuple(sorted(labels.items())): pairs[offsets[i] : offsets[i + 1]]
        for i, labels in enumerate(found.labels.to_dicts())
    }


def without_stale(samples: Samples) -> Samples:
    """Without the markers that text cannot say."""
    return {labels: [one for one in found if one[1] != STALE_BITS] for labels, found in samples.items()}
