"""Functions of a window's samples: `sum_over_time` and its like.

Each takes a block of windows and gives `(values, present)` [series, steps]. Windows are worked on by position: all
first samples, all second ones, … so that a step of the loop is one array operation over every window that is that
long.
"""

from collections.abc import Callable

import numpy as np

from bellbuoy.promql.sums import Ranked, Running, window_means, window_sums
from bellbuoy.promql.values import Floats, Ints, Mask
from bellbuoy.promql.windows import Block

_SORTED_CELLS = 1 << 20


def sums(block: Block) -> tuple[Floats, Mask]:
    """The compensated sum."""
    return window_sums(block.low, block.counts, block.values), block.counts > 0


def averages(block: Block) -> tuple[Floats, Mask]:
    """The mean, also where the sum would overflow."""
    return window_means(block.low, block.counts, block.values), block.counts > 0


def counts(block: Block) -> tuple[Floats, Mask]:
    """How many samples there are."""
    return block.counts.astype(np.float64), block.counts > 0


def presence(block: Block) -> tuple[Floats, Mask]:
    """One where there is any sample."""
    return np.ones(block.counts.shape), block.counts > 0


def firsts(block: Block) -> tuple[Floats, Mask]:
    """The oldest value."""
    return block.values[_clip(block.low, block)], block.counts > 0


def lasts(block: Block) -> tuple[Floats, Mask]:
    """The newest value."""
    return block.values[_clip(block.high - 1, block)], block.counts > 0


def first_times(block: Block) -> tuple[Floats, Mask]:
    """When the oldest sample is from."""
    return block.timestamps[_clip(block.low, block)] / 1000, block.counts > 0


def last_times(block: Block) -> tuple[Floats, Mask]:
    """When the newest sample is from."""
    return block.timestamps[_clip(block.high - 1, block)] / 1000, block.counts > 0


def _clip(index: Ints, block: Block) -> Ints:
    return np.clip(index, 0, max(len(block.values) - 1, 0))


def extremes(block: Block, best: np.ufunc) -> tuple[Floats, Mask]:
    """The largest (`np.fmax`) or smallest (`np.fmin`) value; NaN only where all are."""
    present = block.counts > 0
    if not present.any():
        return np.zeros(present.shape), present
    padded = np.append(block.values, np.nan)
    edges = np.stack([block.low, block.high], axis=-1)
    edges[~present] = len(block.values)
    with np.errstate(invalid="ignore"):
        return best.reduceat(padded, edges.ravel())[::2].reshape(present.shape), present


def extreme_times(block: Block, *, largest: bool) -> tuple[Floats, Mask]:
    """When the largest or smallest value was seen last."""
    ranked = Ranked(block.low, block.counts)
    best, when = np.full(ranked.size, np.nan), np.zeros(ranked.size)
    for index in ranked.positions():
        m = len(index)
        values = block.values[index]
        with np.errstate(invalid="ignore"):
            better = (values >= best[:m]) if largest else (values <= best[:m])
        better |= np.isnan(best[:m])
        best[:m] = np.where(better, values, best[:m])
        when[:m] = np.where(better, block.timestamps[index], when[:m])
    return ranked.spread(when) / 1000, block.counts > 0


def variances(block: Block, *, root: bool) -> tuple[Floats, Mask]:
    """The population variance (Welford's method, compensated), or its root."""
    ranked = Ranked(block.low, block.counts)
    mean, squares = Running(ranked.size), Running(ranked.size)
    with np.errstate(all="ignore"):
        for position, index in enumerate(ranked.positions(), 1):
            m = len(index)
            values = block.values[index]
            delta = values - (mean.total[:m] + mean.error[:m])
            mean.add(delta / position)
            squares.add(delta * (values - (mean.total[:m] + mean.error[:m])))
        result = (squares.total + squares.error) / ranked.counts
        return ranked.spread(np.sqrt(result) if root else result), block.counts > 0


def quantiles(block: Block, quantile: Floats) -> tuple[Floats, Mask]:
    """The quantile, one a step."""
    return _sorted(block, lambda ranked, values: _quantile(values, ranked, quantile)), block.counts > 0


def absolute_deviations(block: Block) -> tuple[Floats, Mask]:
    """The median of the absolute deviations from the median; NaN where any value is."""
    half = np.full(len(block.ends), 0.5)

    def deviate(ranked: "_Rows", values: Floats) -> Floats:
        median = _quantile(values, ranked, half)
        any_nan = np.isnan(values).sum(axis=1) > values.shape[1] - ranked.counts
        with np.errstate(invalid="ignore"):
            deviations = np.sort(np.abs(values - median[:, None]), axis=1)
        return np.where(any_nan, np.nan, _quantile(deviations, ranked, half))

    return _sorted(block, deviate), block.counts > 0


class _Rows:
    """Some windows: how many samples each has, and which step it belongs to."""

    def __init__(self, counts: Ints, steps: Ints) -> None:
        self.counts, self.steps = counts, steps


def _sorted(block: Block, function: Callable[[_Rows, Floats], Floats]) -> Floats:
    """The function of windows as sorted rows, padded at their end with NaN, some windows at a time."""
    ranked = Ranked(block.low, block.counts)
    results = np.zeros(ranked.size)
    first = 0
    while first < ranked.size:
        width = int(ranked.counts[first])
        stop = min(ranked.size, first + max(1, _SORTED_CELLS // width))
        low, number = ranked.low[first:stop, None], ranked.counts[first:stop, None]
        column = np.arange(width)
        index = np.minimum(low + column, len(block.values) - 1)
        values = np.sort(np.where(column < number, block.values[index], np.nan), axis=1)
        rows = _Rows(ranked.counts[first:stop], ranked.order[first:stop] % block.counts.shape[1])
        results[first:stop] = function(rows, values)
        first = stop
    return ranked.spread(results)


def _quantile(values: Floats, rows: _Rows, quantile: Floats) -> Floats:
    missing = values.shape[1] - rows.counts
    nans = np.isnan(values).sum(axis=1) - missing
    return quantile_of_sorted(values, rows.counts, nans, quantile[rows.steps])


def quantile_of_sorted(values: Floats, counts: Ints, nans: Ints, quantile: Floats) -> Floats:
    """The quantile of each row: numbers ascending, then NaNs, of which `nans` are real and count as smallest."""
    with np.errstate(all="ignore"):
        rank = quantile * (counts - 1)
        lower = np.floor(np.nan_to_num(rank, nan=0.0, posinf=0.0, neginf=0.0)).clip(0, counts - 1).astype(np.int64)
        upper = np.minimum(lower + 1, counts - 1)
        weight = rank - np.floor(rank)
        rows, last = np.arange(len(values)), values.shape[1] - 1

        def at(place: Ints) -> Floats:
            real = values[rows, np.clip(place - nans, 0, last)]
            return np.where(place < nans, np.nan, real)

        low, high = at(lower), at(upper)
        result = np.where(weight == 0, low, low * (1 - weight) + high * weight)
    result = np.where(quantile < 0, -np.inf, np.where(quantile > 1, np.inf, result))
    return np.where(np.isnan(quantile), np.nan, result)


def regressions(block: Block, intercept_at: Ints | None) -> tuple[Floats, Floats, Mask]:
    """`(slope, intercept, present)` of a least-squares line; times count from `intercept_at` or the first sample's."""
    present = block.counts >= 2
    ranked = Ranked(block.low, np.where(present, block.counts, 0))
    size = ranked.size
    times, values = block.timestamps, block.values
    if size == 0:
        return np.zeros(present.shape), np.zeros(present.shape), present
    origin = times[ranked.low] if intercept_at is None else intercept_at[ranked.order % present.shape[1]]
    sum_x, sum_y, sum_xy, sum_xx = (Running(size) for _ in range(4))
    constant = np.ones(size, np.bool_)
    initial = values[ranked.low]
    with np.errstate(all="ignore"):
        for index in ranked.positions():
            m = len(index)
            x, y = (times[index] - origin[:m]) / 1000, values[index]
            constant[:m] &= y == initial[:m]
            sum_x.add(x)
            sum_y.add(y)
            sum_xy.add(x * y)
            sum_xx.add(x * x)
        n = ranked.counts
        x, y, xy, xx = (running.total + running.error for running in (sum_x, sum_y, sum_xy, sum_xx))
        slope = (xy - x * y / n) / (xx - x * x / n)
        intercept = y / n - slope * x / n
    infinite = np.isinf(initial)
    slope = np.where(constant, np.where(infinite, np.nan, 0.0), slope)
    intercept = np.where(constant, np.where(infinite, np.nan, initial), intercept)
    return ranked.spread(slope), ranked.spread(intercept), present


def slopes(block: Block) -> tuple[Floats, Mask]:
    """The change per second, by regression."""
    slope, _, present = regressions(block, None)
    return slope, present


def smoothed_exponentially(block: Block, smoothing: Floats, trend: Floats) -> tuple[Floats, Mask]:
    """Holt's double exponential smoothing; the factors are one a step."""
    present = block.counts >= 2
    ranked = Ranked(block.low, np.where(present, block.counts, 0))
    steps = ranked.order % present.shape[1]
    s, t = smoothing[steps], trend[steps]
    level, previous, slope = np.zeros(ranked.size), np.zeros(ranked.size), np.zeros(ranked.size)
    with np.errstate(all="ignore"):
        for position, index in enumerate(ranked.positions()):
            m = len(index)
            values = block.values[index]
            if position == 0:
                level[:m] = values
                continue
            if position == 1:
                slope[:m] = values - level[:m]
            else:
                slope[:m] = t[:m] * (level[:m] - previous[:m]) + (1 - t[:m]) * slope[:m]
            smooth = s[:m] * values + (1 - s[:m]) * (level[:m] + slope[:m])
            previous[:m] = level[:m]
            level[:m] = smooth
    return ranked.spread(level), present


def integrals(block: Block, rule: Floats) -> tuple[Floats, Mask]:
    """The area under the samples: rule 0 takes each interval's left value, 1 its right, all else the mean of both.

    NaN counts as zero.
    """
    ranked = Ranked(block.low, block.counts)
    rules = rule[ranked.order % block.counts.shape[1]]
    left_share = np.where(rules == 0, 1.0, np.where(rules == 1, 0.0, 0.5))
    running = Running(ranked.size)
    with np.errstate(all="ignore"):
        for position, index in enumerate(ranked.positions()):
            if position == 0:
                continue
            share = left_share[: len(index)]
            seconds = (block.timestamps[index] - block.timestamps[index - 1]) / 1000
            for values, part in ((block.values[index - 1], share), (block.values[index], 1 - share)):
                running.add(np.where(np.isnan(values) | (part == 0), 0.0, values * part * seconds))
        return ranked.spread(running.result), block.counts > 0
