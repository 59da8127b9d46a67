"""Samples that two servers are given alike: ours in a folder of its storage, Prometheus by remote write.

Half an hour of some sixty series of all that queries may trip over: counters that reset, gauges with NaN and
infinities and below zero, series that end in a stale marker and come back, gaps longer than the lookback, jitter,
classic histograms, label sets that match one to one and many to one, names that need quotes. Values are multiples of
1/8, so that sums are exact in any order. Series go in sorted by their labels, since where values tie the first wins.
"""

import math
import random
import struct
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cramjam
import numpy as np

from bellbuoy.server.api.protobuf import put_bytes, put_double, put_number, put_text
from bellbuoy.tsdb import LabelSets, Storage

START_MS = 1_700_000_000_000
LENGTH_SECONDS = 1800
RETENTION = "36500d"
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
# The same data whatever is asked: a seed is of queries only.
_SEED = 316
_PLACES = [(job, instance) for job in ("api", "web") for instance in ("a:1", "b:1", "c:1")]
_BOUNDS = ("0.125", "0.5", "1", "4", "+Inf")
_ROOMS = ("attic", "cellar", "hall", "kitchen", "porch")


@dataclass(frozen=True)
class Series:
    """Labels, and samples in order of time; milliseconds since the epoch."""

    labels: dict[str, str]
    samples: list[tuple[int, float]]


def series() -> list[Series]:
    """All of them, sorted."""
    chance = random.Random(_SEED)
    found = [*_counters(chance), *_gauges(chance), *_histograms(chance), *_infos(chance)]
    return sorted(found, key=lambda one: sorted(one.labels.items()))


def _times(chance: random.Random, *, interval: float, jitter: float) -> list[int]:
    """Milliseconds of scrapes."""
    count = int(LENGTH_SECONDS / interval)
    return [START_MS + round(1000 * (at * interval + chance.uniform(0, jitter))) for at in range(count)]


def _counter(chance: random.Random, times: list[int], *, most: int) -> list[tuple[int, float]]:
    samples, value = [], chance.randrange(1000) / 8
    for at in times:
        value = chance.randrange(8) / 8 if chance.random() < 0.02 else value + chance.randrange(most) / 8
        samples.append((at, value))
    return samples


def _with_leave(chance: random.Random, samples: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A spell away that begins with a stale marker."""
    gone = chance.randrange(20, 60)
    back = gone + chance.randrange(5, 30)
    return [*samples[:gone], (samples[gone][0], STALE), *samples[back:]]


def _counters(chance: random.Random) -> Iterator[Series]:
    for at, (job, instance) in enumerate(_PLACES):
        place = {"job": job, "instance": instance}
        times = _times(chance, interval=15, jitter=0.9)
        for code in ("200", "404", "500"):
            samples = _counter(chance, times, most=40)
            if at % 3 == 2:
                samples = _with_leave(chance, samples)
            yield Series({"__name__": "requests_total", **place, "code": code}, samples)
        yield Series({"__name__": "cpu_seconds_total", **place}, _counter(chance, times, most=120))


def _gauges(chance: random.Random) -> Iterator[Series]:
    def walk(times: list[int], odd: Callable[[], float | None]) -> list[tuple[int, float]]:
        value, samples = chance.randrange(-400, 400), []
        for at in times:
            value += chance.randrange(-40, 41)
            other = odd()
            samples.append((at, value / 8 if other is None else other))
        return samples

    def sometimes() -> float | None:
        return chance.choice((math.nan, math.inf, -math.inf, 0.0, -0.0)) if chance.random() < 0.05 else None

    for at, room in enumerate(_ROOMS):
        times = _times(chance, interval=10 + 3 * at, jitter=8)
        floor = "0" if room in ("hall", "kitchen", "porch") else ("2" if room == "attic" else "-1")
        labels = {"__name__": "temperature_celsius", "room": room, "floor": floor}
        yield Series(labels, walk(times, sometimes if at % 2 else lambda: None))
    for job, instance in _PLACES:
        samples = walk(_times(chance, interval=15, jitter=0.9), lambda: None)
        yield Series({"__name__": "queue_length", "job": job, "instance": instance}, samples)
    for part in ("x", "y", "z"):
        samples = walk(_times(chance, interval=20, jitter=15), lambda: None)
        # Gaps that nothing marks: some shorter than the lookback, some longer.
        away = chance.randrange(10, 40)
        kept = samples[:away] + samples[away + chance.randrange(8, 30) :]
        yield Series({"__name__": "flaky", "part": part}, kept)
    yield Series({"__name__": "room.light", "where is": "hall"}, walk(_times(chance, interval=30, jitter=0), sometimes))
    yield Series({"__name__": "not_a_number"}, [(at, math.nan) for at in _times(chance, interval=30, jitter=0)])


def _histograms(chance: random.Random) -> Iterator[Series]:
    for job in ("api", "web"):
        times = _times(chance, interval=15, jitter=0.9)
        buckets: list[list[float]] = []
        total, sums, counts = 0.0, [], [0.0] * len(_BOUNDS)
        for _ in times:
            if chance.random() < 0.02:
                counts, total = [0.0] * len(_BOUNDS), 0.0
            for at in range(len(_BOUNDS)):
                more = chance.randrange(4)
                total += more * (0.125, 0.25, 0.75, 2, 8)[at]
                counts[at:] = [count + more for count in counts[at:]]
            buckets.append(list(counts))
            sums.append(total)
        for at, bound in enumerate(_BOUNDS):
            labels = {"__name__": "latency_seconds_bucket", "job": job, "le": bound}
            yield Series(labels, [(time, row[at]) for time, row in zip(times, buckets, strict=True)])
        yield Series({"__name__": "latency_seconds_sum", "job": job}, list(zip(times, sums, strict=True)))
        last = [(time, row[-1]) for time, row in zip(times, buckets, strict=True)]
        yield Series({"__name__": "latency_seconds_count", "job": job}, last)


def _infos(chance: random.Random) -> Iterator[Series]:
    for at, (job, instance) in enumerate(_PLACES):
        place = {"job": job, "instance": instance}
        samples = [(time, 1.0) for time in _times(chance, interval=15, jitter=0.9)]
        if at == 1:
            samples = _with_leave(chance, samples)
        yield Series({"__name__": "build_info", **place, "version": f"1.{at % 2}"}, samples)
        yield Series({"__name__": "target_info", **place, "region": ("north", "south")[at % 2]}, samples)


def write(folder: Path, found: list[Series]) -> None:
    """Into a storage of ours."""
    storage = Storage(str(folder))
    for one in found:
        times, values = zip(*one.samples, strict=True)
        labels = LabelSets.from_dicts([one.labels] * len(times))
        storage.append(labels, np.array(times, np.int64), np.array(values, np.float64))
    storage.close()


def send(url: str, found: list[Series]) -> None:
    """To a server that takes remote writes (version 1). Raises URLError."""
    body = b"".join(put_bytes(1, _message(one)) for one in found)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    packed = bytes(cramjam.snappy.compress_raw(body))
    request = urllib.request.Request(f"{url}/api/v1/write", packed, headers)
    with urllib.request.urlopen(request, timeout=30):
        pass


def _message(one: Series) -> bytes:
    """A TimeSeries: labels are field 1, samples field 2."""
    labels = (put_text(1, name) + put_text(2, value) for name, value in sorted(one.labels.items()))
    samples = (put_double(1, value) + put_number(2, time) for time, value in one.samples)
    return b"".join(put_bytes(1, label) for label in labels) + b"".join(put_bytes(2, sample) for sample in samples)
