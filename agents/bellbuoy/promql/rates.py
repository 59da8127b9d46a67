"""What counters and gauges did in a window: rate, increase, delta, irate, idelta, changes, resets.

Each takes a block of windows and gives `(values, present)` [series, steps]. The extended forms (anchored, smoothed)
take the samples just outside the window for its ends, instead of extrapolating.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from bellbuoy.promql.values import Floats, Ints, Mask
from bellbuoy.promql.windows import Block, Windows

_MOST_AT_ONCE = 1 << 20


def extrapolated(block: Block, *, is_counter: bool, is_rate: bool) -> tuple[Floats, Mask]:
    """The change over the window, extrapolated to its ends as far as samples make likely."""
    counts = block.counts
    began = block.samples.starts if is_counter else None
    present = counts >= (2 if began is None else 1)
    if not present.any():
        return np.zeros(counts.shape), present
    times, values = block.timestamps, block.values
    end = len(values) - 1
    first, last = np.clip(block.low, 0, end), np.clip(block.high - 1, 0, end)
    first_values = values[first]
    change = values[last] - first_values
    if is_counter:
        # What counters had before a reset counts where the window has both the sample before and the one after.
        after, rows = _resets(block)
        first_step, stop = block.ends.searchsorted(times[after]), block.starts.searchsorted(times[after - 1])
        _add(change, rows, first_step, stop, values[after - 1])
    with np.errstate(all="ignore"):
        sampled = (times[last] - times[first]) / 1000
        average = sampled / (counts - 1)
        if began is not None:
            # A counter that began in the window was zero then, and nothing is to be guessed on that side.
            start = began[first]
            since_start = (start != 0) & (start > block.starts) & (start < times[first])
            present &= since_start | (counts > 1)
            average = np.where(counts > 1, average, 0.0)
            change = np.where(since_start, change + first_values, change)
            sampled = np.where(since_start, (times[last] - start) / 1000, sampled)
        threshold = average * 1.1
        to_start = (times[first] - block.starts) / 1000
        to_end = (block.ends - times[last]) / 1000
        to_start = np.where(to_start >= threshold, average / 2, to_start)
        to_end = np.where(to_end >= threshold, average / 2, to_end)
        if is_counter:
            to_zero = sampled * (first_values / change)
            bounded = (change > 0) & (first_values >= 0) & (to_zero < to_start)
            to_start = np.where(bounded, to_zero, to_start)
        if began is not None:
            to_start = np.where(since_start, 0.0, to_start)
        factor = (sampled + to_start + to_end) / sampled
        if is_rate:
            factor /= block.range_seconds
        return change * factor, present


def is_start_reset(before_began: Ints, before: Ints, began: Ints, time: Ints) -> Mask:
    """Whether a counter began anew after the sample before: that one's start and time, and the later one's.

    A start of 0 is not known; one that is the sample's own time is not known either; one before the earlier sample is
    an overlap, which is no reset. At the earlier sample's time it is one where that sample's own start is known.
    """
    known = (before_began != began) & (began != 0) & (began < time)
    at_sample = (began == before) & (before_began <= before) & (before_began != 0) & (before_began != before)
    return np.asarray(known & ((began > before) | at_sample))


def _resets(block: Block) -> tuple[Ints, Ints]:
    """`(flat index, row)` of each sample that is smaller than the one before it in its series, or began after it."""
    flat, offsets, values = block.flat, block.samples.offsets, block.values
    with np.errstate(invalid="ignore"):
        fell = values[flat.start + 1 : flat.stop] < values[flat.start : flat.stop - 1]
    began = block.samples.starts
    if began is not None:
        began, times = began[flat], block.timestamps[flat]
        fell |= is_start_reset(began[:-1], times[:-1], began[1:], times[1:])
    after = np.flatnonzero(fell) + flat.start + 1
    series = offsets.searchsorted(after, "right") - 1
    inside = offsets[series] != after
    return after[inside], series[inside] - block.rows.start


def _add(change: Floats, rows: Ints, first: Ints, stop: Ints, amounts: Floats) -> None:
    """Add each amount to its row of `change`, from step `first` up to, without, step `stop`."""
    lengths = np.maximum(stop - first, 0)
    for chunk in _chunks(lengths):
        size = lengths[chunk]
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        columns = np.repeat(first[chunk], size) + within
        np.add.at(change, (np.repeat(rows[chunk], size), columns), np.repeat(amounts[chunk], size))


def _chunks(lengths: Ints) -> list[slice]:
    """Slices of the list, each of a bounded sum."""
    total = np.cumsum(lengths)
    if len(total) == 0 or total[-1] <= _MOST_AT_ONCE:
        return [slice(0, len(lengths))]
    cuts = total.searchsorted(np.arange(_MOST_AT_ONCE, int(total[-1]), _MOST_AT_ONCE))
    edges = [0, *sorted({int(cut) for cut in cuts} - {0}), len(lengths)]
    return [slice(a, b) for a, b in pairwise(edges)]


def overlaps(block: Block) -> tuple[Ints, Ints]:
    """`(series, how many windows)` where a sample began before the one before it was taken, and not when that began.

    Windows of one kind of samples count.
    """
    samples = block.samples
    began, times = samples.starts, samples.timestamps
    nothing = np.zeros(0, np.int64)
    if began is None or len(began) == 0:
        return nothing, nothing
    overlap = np.zeros(len(began), np.int64)
    overlap[1:] = (began[1:] != 0) & (began[1:] < times[:-1]) & (began[1:] != began[:-1])
    total = np.cumsum(overlap)
    end = len(began) - 1
    first, last = np.clip(block.low, 0, end), np.clip(block.high - 1, 0, end)
    overlapping = (total[last] > total[first]) & (block.counts > 1)
    if samples.histograms is not None:
        marked = samples.marked_before[block.high] - samples.marked_before[block.low]
        overlapping &= (marked == 0) | (marked == block.counts)
    windows = overlapping.sum(axis=1)
    rows = np.flatnonzero(windows)
    return rows + block.rows.start, windows[rows]


def instant(block: Block, *, is_rate: bool) -> tuple[Floats, Mask]:
    """The change between the last two samples: irate (per second, resets seen) and idelta."""
    present = block.counts >= 2
    end = len(block.values) - 1
    last, before = np.clip(block.high - 1, 0, end), np.clip(block.high - 2, 0, end)
    newest, previous = block.values[last], block.values[before]
    seconds = (block.timestamps[last] - block.timestamps[before]) / 1000
    with np.errstate(all="ignore"):
        change = newest - previous
        if is_rate:
            fell = newest < previous
            if (began := block.samples.starts) is not None:
                times = block.timestamps
                fell |= is_start_reset(began[before], times[before], began[last], times[last])
            change = np.where(fell, newest, change) / seconds
    return change, present & (seconds != 0)


def transitions(
    block: Block, *, only_falls: bool, is_anchored: bool, adjust: Callable[[Ints, slice], Ints] | None = None
) -> tuple[Floats, Mask]:
    """How often the value changed (NaN to NaN is no change), or only how often it fell.

    `adjust` is given which samples of a slice of the flat ones did, and knows better of those that are no floats.
    """
    flat, values = block.flat, block.values
    here = values[flat]
    marks = np.zeros(len(here), np.int64)
    with np.errstate(invalid="ignore"):
        if only_falls:
            marks[1:] = here[1:] < here[:-1]
        else:
            marks[1:] = (here[1:] != here[:-1]) & ~(np.isnan(here[1:]) & np.isnan(here[:-1]))
    if only_falls and (began := block.samples.starts) is not None:
        began, times = began[flat], block.timestamps[flat]
        marks[1:] |= is_start_reset(began[:-1], times[:-1], began[1:], times[1:])
    if adjust is not None:
        marks = adjust(marks, flat)
    total = np.cumsum(marks)
    low, high = block.low, block.high
    present = high > low
    if is_anchored:
        inside = block.search(block.starts, "right")
        present = high > inside
        low = np.maximum(low, inside - 1)
    end = max(len(here) - 1, 0)
    first, last = np.clip(low - flat.start, 0, end), np.clip(high - 1 - flat.start, 0, end)
    if len(total) == 0:
        return np.zeros(present.shape), np.zeros(present.shape, np.bool_)
    return (total[last] - total[first]).astype(np.float64), present


def anchored(block: Block, *, is_counter: bool, is_rate: bool) -> tuple[Floats, Mask]:
    """The change from the last sample at or before the window's start to the last one in it."""
    inside = block.search(block.starts, "right")
    present = block.high > inside
    end = max(len(block.values) - 1, 0)
    if len(block.values) == 0:
        return np.zeros(present.shape), np.zeros(present.shape, np.bool_)
    first = np.clip(np.maximum(block.low, inside - 1), 0, end)
    last = np.clip(block.high - 1, 0, end)
    change = block.values[last] - block.values[first]
    if is_counter:
        # The sample after a reset lies in the window, the one before it at least in its reach.
        after, rows = _resets(block)
        times, starts = block.timestamps, block.starts
        stop = np.minimum(starts.searchsorted(times[after]), (starts - block.reach).searchsorted(times[after - 1]))
        _add(change, rows, block.ends.searchsorted(times[after]), stop, block.values[after - 1])
    return change / block.range_seconds if is_rate else change, present


def smoothed(block: Block, *, is_counter: bool, is_rate: bool) -> tuple[Floats, Mask]:
    """The change between values interpolated at the window's two ends."""
    times, values = block.timestamps, block.values
    low, high = block.low, block.high
    present = high > low
    if not present.any():
        return np.zeros(present.shape), present
    end = len(values) - 1
    after_start, at_end = block.search(block.starts, "right"), block.search(block.ends, "left")
    newest = np.clip(high - 1, 0, end)
    first = np.clip(np.maximum(low, np.minimum(after_start, newest) - 1), 0, end)
    last = np.clip(np.minimum(at_end, newest), 0, end)
    starts, ends = np.broadcast_to(block.starts, low.shape), np.broadcast_to(block.ends, low.shape)
    present = present & (times[last] > starts) & (times[first] <= ends)
    following = np.minimum(first + 1, end)
    left = np.where(
        times[first] < starts, _between(block, first, following, starts, is_counter=is_counter), values[first]
    )
    previous = np.maximum(last - 1, 0)
    interpolate = (last > low) & (times[last] > ends)
    right = np.where(interpolate, _between(block, previous, last, ends, is_counter=is_counter), values[last])
    change = right - left
    if is_counter:
        # Between samples strictly inside the window, then at its two ends.
        after, rows = _resets(block)
        first_step = block.ends.searchsorted(times[after], "right")
        _add(change, rows, first_step, block.starts.searchsorted(times[after - 1]), values[after - 1])
        any_inside = at_end > after_start
        first_inside = values[np.clip(after_start, 0, end)]
        last_inside = values[np.clip(at_end - 1, 0, end)]
        with np.errstate(invalid="ignore"):
            change += np.where(any_inside & (first_inside < left), left, 0.0)
            change += np.where(any_inside & (right < last_inside), last_inside, 0.0)
            change += np.where(~any_inside & (right < left), left, 0.0)
    return change / block.range_seconds if is_rate else change, present


def _between(block: Block, before: Ints, after: Ints, at: Ints, *, is_counter: bool) -> Floats:
    """The value at a time between two samples, on a straight line; a counter that was reset starts from zero."""
    times, values = block.timestamps, block.values
    y1, y2 = values[before], values[after]
    with np.errstate(all="ignore"):
        if is_counter:
            y1 = np.where(y2 < y1, 0.0, y1)
        return np.asarray(y1 + (y2 - y1) * (at - times[before]) / (times[after] - times[before]))


def interpolated(block: Block) -> tuple[Floats, Mask]:
    """The value at each step itself, on a straight line between the samples around it; the last one serves on."""
    times, values = block.timestamps, block.values
    end = len(values) - 1
    following = block.search(block.ends, "left")
    before = np.clip(following - 1, 0, end)
    after = np.clip(following, 0, end)
    ends = np.broadcast_to(block.ends, block.low.shape)
    has_after, has_before = following < block.high, following > block.low
    exact = has_after & (times[after] == ends)
    line = np.where(has_after & has_before, _between(block, before, after, ends, is_counter=False), values[before])
    return np.where(exact, values[after], line), exact | has_before


def extended_samples(times: Ints, values: Floats, windows: Windows, *, smoothed: bool) -> tuple[Ints, Floats]:
    """An anchored or smoothed range vector as it is shown: its samples, and one at each end of the window."""
    start, end = int(windows.starts[0]), int(windows.ends[0])
    nothing = times[:0], values[:0]
    if len(times) == 0 or times[-1] <= start or (smoothed and times[0] > end):
        return nothing
    inside = (times > start) & (times < end)
    if smoothed:
        left, right = np.interp([start, end], times, values)
    else:
        before = values[times <= start]
        left, right = (before[-1] if len(before) else values[0]), values[times <= end][-1]
    return np.concatenate([[start], times[inside], [end]]), np.concatenate([[left], values[inside], [right]])
