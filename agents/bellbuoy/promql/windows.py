"""Samples in flat arrays, and for each series and step the window of them that a function sees.

Series scraped together have the same timestamps, so windows are found once for each distinct list of timestamps, all of
them by one searchsorted over keys that carry the list's number in their upper part. Functions then work on blocks of
series, small enough to stay in the processor's cache, with index arrays into the flat samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np

from bellbuoy._core import Histograms, LabelSets
from bellbuoy.promql.values import Floats, Ints, Mask, Vector, is_histogram, is_stale, numbers_of

GAUGE_HINT = 3
"""Of histograms' hints, the one that says that it is no counter."""
BLOCK_CELLS = 1 << 15
"""Series times steps a block: its index arrays stay near the processor."""


class Selected(Protocol):
    """What a select gives, the storage's own or another's: series i has the samples `offsets[i]:offsets[i + 1]`."""

    @property
    def labels(self) -> LabelSets: ...
    @property
    def offsets(self) -> Ints: ...
    @property
    def timestamps(self) -> Ints: ...
    @property
    def values(self) -> Floats: ...
    @property
    def histograms(self) -> Histograms | None: ...


@dataclass(frozen=True)
class Samples:
    """Series i has the samples `offsets[i]:offsets[i + 1]`, ascending in time; with `histograms`, marks among them.

    `starts` says when each sample's counter began to count, 0 where that is not known; None where it never is.
    """

    labels: LabelSets
    drop_name: Mask
    offsets: Ints
    timestamps: Ints
    values: Floats
    histograms: Histograms | None = None
    starts: Ints | None = None

    @staticmethod
    def of(selection: Selected, *, keep_stale: bool) -> "Samples":
        """What the storage found. Range vectors do not see stale markers, instant vectors end at them."""
        starts = getattr(selection, "start_timestamps", None)  # few storages have them
        samples = Samples(
            selection.labels,
            np.zeros(len(selection.labels), np.bool_),
            selection.offsets,
            selection.timestamps,
            selection.values,
            selection.histograms or None,
            starts,
        )
        return samples if keep_stale else samples.where(~is_stale(selection.values))

    @staticmethod
    def of_vector(vector: Vector, times: Ints) -> "Samples":
        """A subquery's: the present cells, row by row. Which of them were counters' resets is not known any more."""
        counts = vector.present.sum(axis=1)
        rows, columns = np.nonzero(vector.present)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        histograms = vector.histograms
        if histograms is not None:
            histograms = histograms.with_hints(histograms.hints() // GAUGE_HINT * GAUGE_HINT)
        values = vector.values[rows, columns]
        return Samples(vector.labels, vector.drop_name, offsets, times[columns], values, histograms)

    def where(self, wanted: Mask) -> "Samples":
        """Only these samples, of the same series."""
        if wanted.all():
            return self
        kept = np.concatenate([[0], np.cumsum(wanted)])
        return replace(
            self,
            offsets=kept[self.offsets],
            timestamps=self.timestamps[wanted],
            values=self.values[wanted],
            starts=None if self.starts is None else self.starts[wanted],
        )

    def floats(self) -> "Samples":
        """Those that are no histograms."""
        if self.histograms is None:
            return self
        return replace(self.where(~self.is_marked), histograms=None)

    @cached_property
    def is_marked(self) -> Mask:
        """Which samples are histograms."""
        return is_histogram(self.values)

    @cached_property
    def marked_before(self) -> Ints:
        """How many histograms come before each sample, and before the end."""
        return np.concatenate([[0], np.cumsum(self.is_marked)])

    @cached_property
    def marked(self) -> Ints:
        """Which samples are histograms, as indexes; window `low:high` has `marked_before[low]:marked_before[high]`."""
        return np.flatnonzero(self.is_marked)

    @cached_property
    def numbers(self) -> Ints:
        """The numbers of the `marked` samples' histograms."""
        return numbers_of(self.values[self.marked])

    @cached_property
    def clocks(self) -> tuple[Ints, Ints]:
        """`(clock of each series, a series of each clock)`: series of one clock have the same timestamps."""
        raw, edges = self.timestamps.tobytes(), (self.offsets * 8).tolist()
        numbers: dict[bytes, int] = {}
        clock: list[int] = []
        members: list[int] = []
        for series, (start, stop) in enumerate(pairwise(edges)):  # hashing a list's bytes is cheaper than sorting lists
            number = numbers.setdefault(raw[start:stop], len(numbers))
            if number == len(members):
                members.append(series)
            clock.append(number)
        return np.array(clock, np.int64), np.array(members, np.int64)

    def search(self, times: Ints, side: Literal["left", "right"]) -> Ints:
        """For each clock and time, how many of the clock's timestamps lie before it (`right`: at it, too)."""
        _, members = self.clocks
        starts = self.offsets[members]
        lengths = self.offsets[members + 1] - starts
        total = int(lengths.sum())
        if total == 0:
            return np.zeros((len(members), len(times)), np.int64)
        number = np.repeat(np.arange(len(members)), lengths)
        firsts = np.cumsum(lengths) - lengths
        flat = self.timestamps[np.repeat(starts - firsts, lengths) + np.arange(total)]
        low, high = int(flat.min()) - 1, int(flat.max()) + 1
        width = high - low + 1
        if width * len(members) >= 2**62:  # keys would not fit; times this far apart are rare, and may be slow
            ranges = zip(starts, starts + lengths, strict=True)
            one_by_one = [self.timestamps[first:stop].searchsorted(times, side) for first, stop in ranges]
            return np.stack(one_by_one)
        keys = flat - low + number * width
        wanted = np.clip(times, low, high) - low
        queries = (np.arange(len(members)) * width)[:, None] + wanted[None, :]
        return np.asarray(keys.searchsorted(queries.ravel(), side).reshape(queries.shape) - firsts[:, None])


@dataclass(frozen=True)
class Block:
    """Some series of a range vector. `low` and `high` [series, steps] index the flat arrays: a window is `low:high`.

    A window covers `starts < t <= ends`; extended ones (anchored, smoothed) reach further on a side, so that what lies
    just outside can be looked at. `reach` says how far, in milliseconds.
    """

    samples: Samples
    rows: slice
    low: Ints
    high: Ints
    starts: Ints
    ends: Ints
    reach: int = 0

    @property
    def timestamps(self) -> Ints:
        """Of all series."""
        return self.samples.timestamps

    @property
    def values(self) -> Floats:
        """Of all series."""
        return self.samples.values

    @cached_property
    def counts(self) -> Ints:
        """How many samples each window has."""
        return self.high - self.low

    @property
    def range_seconds(self) -> float:
        """How long the windows are."""
        return float(self.ends[0] - self.starts[0]) / 1000

    @property
    def flat(self) -> slice:
        """Where these series' samples lie in the flat arrays."""
        offsets = self.samples.offsets
        return slice(int(offsets[self.rows.start]), int(offsets[self.rows.stop]))

    def search(self, times: Ints, side: Literal["left", "right"]) -> Ints:
        """For each of these series and each step's time, the flat index of the first sample not before it."""
        clock, _ = self.samples.clocks
        found = self.samples.search(times, side)[clock[self.rows]]
        return found + self.samples.offsets[self.rows][:, None]


@dataclass(frozen=True)
class Windows:
    """A range vector over the grid: the windows that end at `ends`, one a step."""

    samples: Samples
    ends: Ints
    range_ms: int
    before_ms: int = 0
    after_ms: int = 0

    @property
    def starts(self) -> Ints:
        """The windows' open ends."""
        return self.ends - self.range_ms

    def blocks(self) -> Iterator[Block]:
        """All series, some at a time."""
        samples = self.samples
        clock, _ = samples.clocks
        count = len(samples.labels)
        if count == 0:
            return
        low = samples.search(self.starts - self.before_ms, "right")
        high = samples.search(self.ends + self.after_ms, "right")
        size = max(1, BLOCK_CELLS // max(1, len(self.ends)))
        for first in range(0, count, size):
            rows = slice(first, min(count, first + size))
            base = samples.offsets[rows][:, None]
            clocks = clock[rows]
            yield Block(samples, rows, low[clocks] + base, high[clocks] + base, self.starts, self.ends, self.before_ms)


def latest(samples: Samples, ends: Ints, lookback_ms: int) -> tuple[Ints, Mask]:
    """For each series and step the flat index of the newest sample, and whether there is one that is fresh.

    A sample serves for the lookback, the far end excluded; one that is a stale marker ends its series.
    """
    clock, _ = samples.clocks
    if len(samples.timestamps) == 0:
        shape = (len(samples.labels), len(ends))
        return np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    counts = samples.search(ends, "right")[clock]
    index = samples.offsets[:-1, None] + counts - 1
    safe = np.maximum(index, 0)
    present = (counts > 0) & (samples.timestamps[safe] > ends[None, :] - lookback_ms)
    present &= ~is_stale(samples.values[safe])
    return safe, present
