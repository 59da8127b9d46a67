"""What functions of windows make of native histograms.

A window may have floats, histograms, or both. `Share` says of a block's windows how many of each; a function then takes
one kind and says that it left out the other, or takes either and refuses both together.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bellbuoy._core import Histograms
from bellbuoy.promql import rates
from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.native import as_gauges, equal, metrics, say_total
from bellbuoy.promql.nodes import Expr
from bellbuoy.promql.values import Floats, Ints, Mask, marks, numbers_of
from bellbuoy.promql.windows import GAUGE_HINT, Block, Samples

CUSTOM_SCHEMA = -53
Found = tuple[Mask, Histograms]
"""Windows, and a histogram for each of them, row by row."""
Native = Callable[["Share"], Found]


@dataclass(frozen=True)
class Share:
    """What a block's windows have of floats and of histograms, and what is said about them."""

    block: Block
    expr: Expr
    notes: Annotations

    @cached_property
    def low(self) -> Ints:
        """Each window's first among the samples' `numbers`."""
        return self.block.samples.marked_before[self.block.low]

    @cached_property
    def high(self) -> Ints:
        """The one after each window's last."""
        return self.block.samples.marked_before[self.block.high]

    @cached_property
    def histograms(self) -> Ints:
        """How many histograms each window has."""
        return self.high - self.low

    @cached_property
    def mixed(self) -> Mask:
        """Windows that have both."""
        return (self.histograms > 0) & (self.histograms < self.block.counts)

    @property
    def all(self) -> Histograms:
        """The samples' histograms."""
        histograms = self.block.samples.histograms
        if histograms is None:
            raise TypeError("BUG: a share of nothing")
        return histograms

    def refuse_mixed(self) -> None:
        """Say that windows with both give nothing."""
        for metric in self.metrics(self.mixed):
            self.notes.mixed_window(self.expr, metric)

    def metrics(self, windows: Mask) -> list[str]:
        """The names of the series that have any of these windows."""
        return metrics(self.block.samples.labels, self.block.rows.start + np.flatnonzero(windows.any(axis=1)))

    def where(self, chosen: Mask, some: Mask) -> Mask:
        """Of the chosen windows, those for which the flag is set."""
        windows = np.zeros_like(chosen)
        windows[chosen] = some
        return windows

    def say(self, chosen: Mask, flags: NDArray[np.uint16]) -> Mask:
        """Annotate what rates of the chosen windows flagged; which of them have a result."""
        notes, expr = self.notes, self.expr
        failed = flags & Histograms.INCOMPATIBLE != 0
        for flag, add in (
            (Histograms.INCOMPATIBLE, notes.mixed_buckets),
            (Histograms.GAUGE, notes.not_counter),
            (Histograms.NOT_GAUGE, notes.not_gauge),
        ):
            for metric in self.metrics(self.where(chosen, flags & flag != 0)):
                add(expr, metric)
        if ((flags & Histograms.RECONCILED != 0) & ~failed).any():
            notes.reconciled_bounds(expr, "subtraction")
        if ((flags & Histograms.RECONCILED_SUM != 0) & ~failed).any():
            notes.reconciled_bounds(expr, "addition")
        return np.asarray(~failed & (flags & Histograms.NONE == 0))


def resets(samples: Samples) -> Mask:
    """For each of the samples' `numbers`, whether its counter was reset since the one before it, in the same series."""
    histograms = samples.histograms
    marked = samples.marked
    if histograms is None or len(marked) < 2:
        return np.zeros(len(marked), np.bool_)
    numbers = samples.numbers
    found = np.zeros(len(marked), np.bool_)
    found[1:] = histograms.resets(numbers[1:], numbers[:-1])
    if samples.starts is not None:
        times, starts = samples.timestamps[marked], samples.starts[marked]
        found[1:] |= rates.is_start_reset(starts[:-1], times[:-1], starts[1:], times[1:])
    return found


def bare(samples: Samples) -> Samples:
    """The same, histograms without their buckets, which say instead whether their counters were reset."""
    histograms = samples.histograms
    if histograms is None or len(samples.marked) == 0:
        return samples
    marked, numbers = samples.marked, samples.numbers
    hints = histograms.hints()[numbers]
    series = samples.offsets.searchsorted(marked, "right")
    follows = np.flatnonzero((series[1:] == series[:-1]) & (hints[1:] == 0)) + 1
    reset = histograms.resets(numbers[follows], numbers[follows - 1])
    hints[follows] = np.where(reset, 1, 2)
    values = samples.values.copy()
    values[marked] = marks(np.arange(len(marked), dtype=np.int64))
    return replace(samples, values=values, histograms=histograms.stats(numbers).with_hints(hints))


def combined(share: Share, *, mean: bool) -> Found:
    """sum_over_time and avg_over_time."""
    share.refuse_mixed()
    chosen = (share.histograms > 0) & ~share.mixed
    function = share.all.mean if mean else share.all.total
    results, flags, _ = function(share.block.samples.numbers, share.low[chosen], share.high[chosen])
    good = say_total(flags, lambda failed: share.metrics(share.where(chosen, failed)), share.expr, share.notes)
    return _kept(share, chosen, good, results)


def _kept(share: Share, chosen: Mask, good: Mask, results: Histograms) -> Found:
    return share.where(chosen, good), results.take(np.flatnonzero(good))


def rate(share: Share, reset: Mask | None, *, is_counter: bool, is_rate: bool) -> Found:
    """rate, increase and delta, extrapolated to the windows' ends as far as samples make likely."""
    share.refuse_mixed()
    block, numbers, histograms = share.block, share.block.samples.numbers, share.all
    several = (share.histograms > 1) & ~share.mixed
    if reset is None:
        reset = np.zeros(len(numbers), np.bool_)
    growth, flags = histograms.rate(numbers, share.low[several], share.high[several], reset, is_counter=is_counter)
    good = share.say(several, flags)
    chosen, growth = _kept(share, several, good, growth)
    window = _Extent.of(share, chosen)
    since_start = window.known_start() if is_counter else np.zeros(len(window.starts), np.bool_)
    if since_start.any():
        first = numbers[share.low[chosen]]
        rows = np.flatnonzero(since_start)
        sums, sum_flags = growth.add(rows, histograms, first[rows])
        growth = Histograms.concat([growth, sums])
        index = np.arange(len(first), dtype=np.int64)
        index[rows] = len(first) + np.arange(len(rows))
        growth = growth.take(index)
        fine = np.ones(len(first), np.bool_)
        fine[rows] = sum_flags & Histograms.INCOMPATIBLE == 0
        for metric in share.metrics(share.where(chosen, ~fine)):
            share.notes.mixed_buckets(share.expr, metric)
        if (sum_flags & Histograms.RECONCILED != 0).any():
            share.notes.reconciled_bounds(share.expr, "addition")
        chosen, growth = _kept(share, chosen, fine, growth)
        window, since_start = _Extent.of(share, chosen), since_start[fine]
    if is_counter and block.samples.starts is not None:
        single = (share.histograms == 1) & ~share.mixed
        alone = share.where(single, _Extent.of(share, single).known_start())
        chosen, growth = _merged(chosen, growth, alone, histograms.take(numbers[share.low[alone]]))
        window = _Extent.of(share, chosen)
        since_start = window.known_start()
    firsts = histograms.take(numbers[share.low[chosen]]).counts()
    factors = window.factors(since_start, firsts, growth.counts(), is_counter=is_counter)
    if is_rate:
        factors /= block.range_seconds
    return chosen, growth.scale(np.arange(len(growth), dtype=np.int64), factors)


def _merged(first: Mask, of_first: Histograms, second: Mask, of_second: Histograms) -> Found:
    """Two disjoint sets of windows, in the order of windows."""
    where = first | second
    index = np.empty(int(where.sum()), np.int64)
    index[first[where]] = np.arange(len(of_first))
    index[second[where]] = len(of_first) + np.arange(len(of_second))
    return where, Histograms.concat([of_first, of_second]).take(index)


@dataclass(frozen=True)
class _Extent:
    """Where chosen windows begin and end, and their histograms do; milliseconds."""

    starts: Ints
    ends: Ints
    first: Ints
    last: Ints
    began: Ints
    counts: Ints

    @staticmethod
    def of(share: Share, chosen: Mask) -> "_Extent":
        block, samples = share.block, share.block.samples
        first = samples.marked[share.low[chosen]]
        last = samples.marked[share.high[chosen] - 1]
        began = np.zeros(len(first), np.int64) if samples.starts is None else samples.starts[first]
        steps = np.nonzero(chosen)[1]
        times = samples.timestamps
        counts = share.histograms[chosen]
        return _Extent(block.starts[steps], block.ends[steps], times[first], times[last], began, counts)

    def known_start(self) -> Mask:
        """Whether the counter began in the window, before its first sample."""
        return np.asarray((self.began != 0) & (self.began > self.starts) & (self.began < self.first))

    def factors(self, since_start: Mask, first: Floats, growth: Floats, *, is_counter: bool) -> Floats:
        """By how much growth between samples is to be stretched to be that of the window."""
        with np.errstate(all="ignore"):
            average = (self.last - self.first) / 1000 / (self.counts - 1)
            average = np.where(self.counts > 1, average, 0.0)
            sampled = (self.last - np.where(since_start, self.began, self.first)) / 1000
            to_start, to_end = (self.first - self.starts) / 1000, (self.ends - self.last) / 1000
            to_start = np.where(to_start >= average * 1.1, average / 2, to_start)
            to_end = np.where(to_end >= average * 1.1, average / 2, to_end)
            if is_counter:
                to_zero = sampled * (first / growth)
                to_start = np.where((growth > 0) & (first >= 0) & (to_zero < to_start), to_zero, to_start)
            to_start = np.where(since_start, 0.0, to_start)
            return np.where(sampled == 0, 1.0, (sampled + to_start + to_end) / sampled)


def extended_rate(share: Share, *, is_counter: bool, is_rate: bool, smoothed: bool) -> Found:
    """The same of selectors that are anchored or smoothed."""
    share.refuse_mixed()
    block, samples = share.block, share.block.samples
    chosen = (share.histograms > 0) & ~share.mixed
    steps = np.nonzero(chosen)[1]
    growth, flags = share.all.extended_rate(
        samples.numbers,
        samples.timestamps[samples.marked],
        share.low[chosen],
        share.high[chosen],
        block.starts[steps],
        block.ends[steps],
        is_counter=is_counter,
        smoothed=smoothed,
    )
    chosen, growth = _kept(share, chosen, share.say(chosen, flags), growth)
    if is_rate:
        growth = growth.divide(np.arange(len(growth), dtype=np.int64), np.full(len(growth), block.range_seconds))
    return chosen, growth


def instant_rate(share: Share, reset: Mask, *, is_rate: bool) -> tuple[Mask, Histograms, Mask]:
    """irate and idelta: of the last two samples; and the windows where these are one of each kind."""
    block, samples = share.block, share.block.samples
    last = np.maximum(block.high - 1, 0)
    before = np.maximum(block.high - 2, 0)
    two = block.counts >= 2
    mixed = two & (samples.is_marked[last] != samples.is_marked[before])
    for metric in share.metrics(mixed):
        share.notes.mixed_window(share.expr, metric)
    chosen = two & ~mixed & samples.is_marked[last]
    chosen &= samples.timestamps[last] != samples.timestamps[before]
    newest, previous = share.high[chosen] - 1, share.high[chosen] - 2
    numbers, histograms = samples.numbers, share.all
    gauge = [histograms.take(numbers[which]).hints() == GAUGE_HINT for which in (newest, previous)]
    wrong, add = (
        (gauge[0] | gauge[1], share.notes.not_counter) if is_rate else (~(gauge[0] & gauge[1]), share.notes.not_gauge)
    )
    for metric in share.metrics(share.where(chosen, wrong)):
        add(share.expr, metric)
    differences, flags = histograms.subtract(numbers[newest], histograms, numbers[previous])
    count = len(newest)
    index = np.arange(count, dtype=np.int64)
    if is_rate:
        whole = reset[newest]
        index = np.where(whole, index + count, index)
        flags = np.where(whole, 0, flags)
    good = flags & Histograms.INCOMPATIBLE == 0
    for metric in share.metrics(share.where(chosen, ~good)):
        share.notes.mixed_buckets(share.expr, metric)
    if ((flags & Histograms.RECONCILED != 0) & good).any():
        share.notes.reconciled_bounds(share.expr, "subtraction")
    growth = as_gauges(Histograms.concat([differences, histograms.take(numbers[newest])]).take(index)).compact()
    if is_rate:
        seconds = (samples.timestamps[last] - samples.timestamps[before])[chosen] / 1000
        growth = growth.divide(np.arange(count, dtype=np.int64), seconds)
    where, growth = _kept(share, chosen, good, growth)
    return where, growth, mixed


@dataclass(frozen=True)
class Transitions:
    """For each sample of all series whether it is a change (or a reset) after the one before it, if either is marked.

    `known` says which samples it knows about; for the others floats decide.
    """

    known: Mask
    changed: Mask

    def adjust(self, marks: Ints, flat: slice) -> Ints:
        """What floats say of a slice of the samples, and what is known better."""
        return np.where(self.known[flat], self.changed[flat], marks)


def transitions(samples: Samples, *, only_falls: bool) -> Transitions:
    """Where histograms changed, or their counters were reset; where floats and histograms follow each other is both."""
    is_marked = samples.is_marked
    known, changed = np.zeros(len(is_marked), np.bool_), np.zeros(len(is_marked), np.bool_)
    if samples.histograms is None or len(is_marked) < 2:
        return Transitions(known, changed)
    known[1:] = is_marked[1:] | is_marked[:-1]
    changed[1:] = is_marked[1:] != is_marked[:-1]
    both = np.flatnonzero(is_marked[1:] & is_marked[:-1]) + 1
    now, before = numbers_of(samples.values[both]), numbers_of(samples.values[both - 1])
    if not only_falls:
        changed[both] = ~equal(samples.histograms.take(now), samples.histograms.take(before))
        return Transitions(known, changed)
    changed[both] = samples.histograms.resets(now, before)
    if samples.starts is not None:
        starts, times = samples.starts, samples.timestamps
        changed[both] |= rates.is_start_reset(starts[both - 1], times[both - 1], starts[both], times[both])
    return Transitions(known, changed)


def interpolated(share: Share) -> Found:
    """A smoothed selector's value at each step itself: between two samples, or the last one."""
    share.refuse_mixed()
    block, samples, histograms = share.block, share.block.samples, share.all
    following = block.search(block.ends, "left")
    chosen = (share.histograms > 0) & ~share.mixed
    end = len(samples.values) - 1
    after, before = np.clip(following, 0, end), np.clip(following - 1, 0, end)
    ends = np.broadcast_to(block.ends, following.shape)
    has_after, has_before = chosen & (following < block.high), chosen & (following > block.low)
    exact = has_after & (samples.timestamps[after] == ends)
    between = has_after & has_before & ~exact
    carried = has_before & ~has_after

    def numbers(where: Mask, index: Ints) -> Ints:
        return numbers_of(samples.values[index[where]])

    earlier, later = (histograms.take(numbers(between, which)).schemas() == CUSTOM_SCHEMA for which in (before, after))
    unlike = earlier != later
    for metric in share.metrics(share.where(between, unlike)):
        share.notes.mixed_buckets(share.expr, metric)
    between = share.where(between, ~unlike)
    first, second = numbers(between, before), numbers(between, after)
    is_counter = histograms.take(first).hints() != GAUGE_HINT
    is_counter |= histograms.take(second).hints() != GAUGE_HINT
    times = samples.timestamps
    left, right = times[before[between]], times[after[between]]
    fractions = (ends[between] - left) / (right - left)
    lines, flags = histograms.interpolate(first, second, fractions, is_counter)
    between, lines = _kept(share, between, share.say(between, flags), lines)
    last_ones = histograms.take(numbers(carried, before))
    last_ones = last_ones.with_hints(np.zeros(len(last_ones), np.uint8))
    where, found = _merged(between, lines, carried, last_ones)
    return _merged(where, found, exact, histograms.take(numbers(exact, after)))
