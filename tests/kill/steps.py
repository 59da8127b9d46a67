"""What is appended at each step: it follows from the step's number alone, so that the checker needs to be told no more.

A series is a number, and a sample's value follows from its series and time: whatever is invented, or lands in another
series, shows. Series 0 to 199 come in rows, of three writers; series with larger numbers, and some samples between the
rows of the others, take the general path.
"""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bellbuoy._core import LabelSets

START_MS = 1_600_000_000_000
STEP_MS = 120_000
HOUR_STEPS = 30
WIDTHS = (40, 12, 3)
"""Columns of each writer."""
PODS_HOURS = 11
"""How long a pod lives: each has series of its own."""
DELETABLE = 4
"""A series whose number is divisible by this may be deleted, and has no sample that comes later than by three hours."""

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]


@dataclass(frozen=True)
class Samples:
    """Series by their numbers, and a time for each."""

    series: Ints
    times: Ints

    @property
    def keys(self) -> Ints:
        """A number for each sample."""
        return np.asarray((self.series << 43) | (self.times - START_MS + (1 << 42)))


def merged(*parts: Ints) -> Ints:
    """All keys, sorted and once; `np.unique` hashes, which takes far longer for these."""
    keys = np.sort(np.concatenate(parts))
    return np.asarray(keys[np.diff(keys, prepend=-1) != 0])


def without(keys: Ints, others: Ints) -> Ints:
    """The keys that are not among the others; both are sorted."""
    if not len(others):
        return keys
    places = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return np.asarray(keys[others[places] != keys])


def of_keys(keys: Ints) -> Samples:
    """The samples that have these numbers."""
    return Samples(keys >> 43, (keys & ((1 << 43) - 1)) - (1 << 42) + START_MS)


def _mixed(of: Samples) -> Bits:
    """Noise that is the same each time."""
    mixed = of.series.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ of.times.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def values(of: Samples) -> NDArray[np.float64]:
    """Counters, hundredths, any bits, constants, and what is no usual number."""
    noise = _mixed(of)
    odd = np.array([-0.0, np.inf, -np.inf, 5e-324, 0.0, 1e300, 2.0**60, np.nan])
    odd[-1] = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    any_bits = ((noise >> np.uint64(12)) | np.uint64(0x4000000000000000)).view(np.float64)
    kinds = [
        (of.times // 1000).astype(np.float64),
        (noise % np.uint64(10_000)).astype(np.float64) / 100,
        any_bits,
        of.series.astype(np.float64) / 3,
        odd[(noise % np.uint64(8)).astype(np.int64)],
    ]
    return np.choose(of.series % 5, kinds)


def bits(of: Samples) -> Bits:
    return values(of).view(np.uint64)


def label_sets(series: Ints) -> LabelSets:
    return LabelSets.from_dicts(
        [{"__name__": f"m{one % 7}", "deletable": str(one % DELETABLE), "n": str(one)} for one in series.tolist()]
    )


def is_in_row(of: Samples) -> NDArray[np.bool_]:
    """Whether a series of a writer has a value at a time of its: columns come and go, some for hours."""
    hours = of.times // (3_600_000 * (1 + of.series % 3))
    return np.asarray(_mixed(Samples(of.series, hours)) % np.uint64(8) != 0)


def row(step: int, writer: int) -> Samples | None:
    """A writer's row; the slower ones have none at each step."""
    if step % (1 + writer):
        return None
    first = sum(WIDTHS[:writer])
    pod = 1000 * (1 + step // (PODS_HOURS * HOUR_STEPS))
    series = np.arange(first, first + WIDTHS[writer])
    # A third of the columns are of a pod.
    series = np.where(series % 3 == 0, series + pod, series)
    all_of_them = Samples(series, np.full(len(series), START_MS + step * STEP_MS + writer))
    there = is_in_row(all_of_them)
    return Samples(series[there], all_of_them.times[there])


def could_end(of: Samples) -> NDArray[np.bool_]:
    """Whether a stale marker may stand there: at a row of the series' writer that does not have it."""
    place = of.series % 1000
    writer = np.searchsorted(np.cumsum(WIDTHS), place, side="right")
    at = of.times - START_MS - writer
    on_time = (place < sum(WIDTHS)) & (at % STEP_MS == 0) & (at // STEP_MS % (1 + writer) == 0)
    of_pod = (of.series >= 1000) & (of.series // 1000 - 1 == at // STEP_MS // (PODS_HOURS * HOUR_STEPS))
    has = is_in_row(of) & (of_pod | (of.series < 1000))
    return np.asarray(on_time & ~has)


def loose(step: int) -> Samples:
    """What takes the general path: now, hours late, or days; of series without rows, or between the rows of others."""
    chance = random.Random(step)
    count = chance.choice((0, 0, 1, 3, 30))
    series = [
        chance.choice((chance.randrange(55, 60), 60 + chance.randrange(300), chance.randrange(40)))
        for _ in range(count)
    ]
    late = chance.choice((0, 0, 0, 1, 3, 50))
    times = []
    for one in series:
        hours = min(late, 3) if one % DELETABLE == 0 else late
        at = step - chance.randrange(1 + hours * HOUR_STEPS)
        times.append(START_MS + at * STEP_MS + 10_000 + chance.randrange(40_000))
    found = Samples(np.array(series, dtype=np.int64), np.array(times, dtype=np.int64))
    return of_keys(merged(found.keys))


def all_of(first: int, last: int) -> Ints:
    """The keys of all samples of these steps, both included."""
    rows = [row(step, writer) for step in range(first, last + 1) for writer in range(len(WIDTHS))]
    parts = [one.keys for one in rows if one is not None] + [loose(step).keys for step in range(first, last + 1)]
    return merged(*parts)
