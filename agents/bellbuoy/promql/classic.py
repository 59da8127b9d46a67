"""Quantiles and fractions of classic histograms: series with an `le` label, one for each bucket.

Histograms of one layout (the same bounds) are computed together, over all steps. Where buckets are missing at a step,
that cell is computed from those that are there.
"""

from collections.abc import Callable, Iterator

import numpy as np

from bellbuoy._core import LabelSets
from bellbuoy.promql.annotations import Annotations, Falls
from bellbuoy.promql.nodes import Expr
from bellbuoy.promql.values import Floats, Ints, Vector, empty

_TOLERANCE = 1e-12
"""Relative differences of counts below are rounding errors, and no news."""

Compute = Callable[[Floats, Floats, Ints], tuple[Floats, Floats]]
"""`(bounds [b], counts [n, b], step of each n)` to `(result [n], falls [n, 3])`.

Falls are where counts fell from bucket to bucket: the lowest and the highest bound, and how deep; 0 where they did not.
"""


class Histograms:
    """The classic histograms in a vector of floats at these times, found by their labels without `le`."""

    def __init__(self, vector: Vector, times: Ints, expr: Expr, annotations: Annotations) -> None:
        self._times, self._annotations, self._expr = times, annotations, expr
        bounds = _bounds(vector, expr, annotations)
        rows = np.flatnonzero(~np.isnan(bounds))
        self._vector, self._bounds = vector.take(rows), bounds[rows]
        self._labels = self._vector.labels.drop(["le"])
        self._groups, self._firsts = self._labels.group()

    def compute(self, function: Compute) -> Vector:
        """The function of every histogram at every step."""
        vector, steps = self._vector, self._vector.steps
        count = len(self._firsts)
        if count == 0:
            return empty(steps)
        values, present = np.zeros((count, steps)), np.zeros((count, steps), np.bool_)
        fell: list[tuple[Ints, Ints, Floats]] = []
        for members, rows, bounds in self._layouts():
            there = vector.present[rows]
            present[members] = there.any(axis=1)
            full = there.all(axis=1)
            which, at = np.nonzero(full)
            counts = vector.values[rows[which], at[:, None]]
            values[members[which], at], falls = function(bounds, counts, at)
            some = falls[:, 2] > 0
            if some.any():
                fell.append((members[which[some]], at[some], falls[some]))
            for member, step in np.argwhere(~full & there.any(axis=1)):
                some = there[member, :, step]
                counts = vector.values[rows[member][some], step][None, :]
                result, falls = function(bounds[some], counts, np.array([step]))
                values[members[member], step] = result[0]
                if falls[0, 2] > 0:
                    fell.append((members[member : member + 1], np.array([step]), falls))
        labels = self._labels.take(self._firsts)
        self._say(labels, fell)
        return Vector(labels, values, present, np.ones(count, np.bool_))

    def _say(self, labels: LabelSets, fell: list[tuple[Ints, Ints, Floats]]) -> None:
        names = labels.get("__name__") if fell else []
        for members, steps, falls in fell:
            for member in np.unique(members).tolist():
                mine = members == member
                lowest, highest, deepest = falls[mine].T
                times = self._times[steps[mine]]
                ends = int(times.min()), int(times.max())
                extent = Falls(float(lowest.min()), float(highest.max()), float(deepest.max()), len(times), *ends)
                self._annotations.forced_monotonicity(self._expr, names[member], extent)

    def _layouts(self) -> Iterator[tuple[Ints, Ints, Floats]]:
        """`(histograms [g], their rows [g, b] by ascending bound, the bounds [b])` for each distinct list of bounds."""
        order = np.lexsort((self._bounds, self._groups))
        sizes = np.bincount(self._groups, minlength=len(self._firsts))
        starts = np.cumsum(sizes) - sizes
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            rows = order[starts[members][:, None] + np.arange(size)]
            layouts, which = np.unique(self._bounds[rows], axis=0, return_inverse=True)
            which = which.ravel()
            for number, bounds in enumerate(layouts):
                chosen = which == number
                yield members[chosen], rows[chosen], bounds


def _bounds(vector: Vector, expr: Expr, annotations: Annotations) -> Floats:
    known: dict[str, float] = {}
    texts = vector.labels.get("le")
    bounds = np.empty(len(texts))
    names: list[str] | None = None
    for row, text in enumerate(texts):
        bound = known.get(text)
        if bound is None:
            bound = known[text] = _bound(text)
        bounds[row] = bound
        if bound != bound:
            names = vector.labels.get("__name__") if names is None else names
            annotations.bad_bucket(expr, names[row], text)
    return bounds


def _bound(text: str) -> float:
    try:
        return float(text) if "_" not in text and text == text.strip() else float("nan")
    except ValueError:
        return float("nan")


def _coalesced(bounds: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Buckets of equal bounds, written differently, added up."""
    firsts = np.flatnonzero(np.concatenate([[True], bounds[1:] != bounds[:-1]]))
    return bounds[firsts], np.add.reduceat(counts, firsts, axis=1)


def _monotonic(bounds: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Counts that never fall from bucket to bucket, and where that took more than rounding errors."""
    counts = counts.copy()
    falls = np.zeros((len(counts), 3))
    previous = counts[:, 0].copy()
    with np.errstate(all="ignore"):
        for bucket in range(1, counts.shape[1]):
            current = counts[:, bucket]
            difference = np.abs(current - previous)
            close = difference / (np.abs(current) + np.abs(previous)) < _TOLERANCE
            fell = ~close & (current < previous)
            if fell.any():
                falls[fell & (falls[:, 2] == 0), 0] = bounds[bucket]
                falls[fell, 1] = bounds[bucket]
                falls[fell, 2] = np.maximum(falls[fell, 2], difference[fell])
            keep = close | fell
            counts[:, bucket] = np.where(keep, previous, current)
            previous = np.where(keep, previous, current)
    return counts, falls


def quantile(quantiles: Floats) -> Compute:
    """The estimated quantile, one a step, on a straight line within its bucket."""

    def compute(bounds: Floats, counts: Floats, steps: Ints) -> tuple[Floats, Floats]:
        q = quantiles[steps]
        falls = np.zeros((len(counts), 3))
        result = np.full(len(counts), np.nan)
        if len(counts) and bounds[-1] == np.inf:
            bounds, counts = _coalesced(bounds, counts)
            counts, falls = _monotonic(bounds, counts)
            if len(bounds) >= 2:
                result = _interpolate(bounds, counts, q)
        valid = (q >= 0) & (q <= 1)
        outside = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.nan))
        return np.where(valid, result, outside), np.where(valid[:, None], falls, 0.0)

    return compute


def _interpolate(bounds: Floats, counts: Floats, q: Floats) -> Floats:
    with np.errstate(all="ignore"):
        observations = counts[:, -1]
        rank = q * observations
        bucket = (~(counts[:, :-1] >= rank[:, None])).sum(axis=1)
        row, before = np.arange(len(counts)), np.maximum(bucket - 1, 0)
        is_first = bucket == 0
        start = np.where(is_first, 0.0, bounds[before])
        below = np.where(is_first, 0.0, counts[row, before])
        share = (rank - below) / (counts[row, bucket] - below)
        result = start + (bounds[bucket] - start) * share
    if bounds[0] <= 0:
        result = np.where(is_first, bounds[0], result)
    result = np.where(bucket == len(bounds) - 1, bounds[-2], result)
    return np.where(observations == 0, np.nan, result)


def fraction(lower: Floats, upper: Floats) -> Compute:
    """The estimated share of observations between the bounds, which are one a step."""

    def compute(bounds: Floats, counts: Floats, steps: Ints) -> tuple[Floats, Floats]:
        low, high = lower[steps], upper[steps]
        none = np.zeros((len(counts), 3))
        if len(counts) == 0 or bounds[-1] != np.inf:
            return np.full(len(counts), np.nan), none
        bounds, counts = _coalesced(bounds, counts)
        total = counts[:, -1]
        with np.errstate(all="ignore"):
            share = (_below(bounds, counts, high) - _below(bounds, counts, low)) / total
        share = np.where(low >= high, 0.0, share)
        return np.where((total == 0) | np.isnan(low) | np.isnan(high), np.nan, share), none

    return compute


def _below(bounds: Floats, counts: Floats, values: Floats) -> Floats:
    """How many observations lie below each value."""
    lowest = 0.0 if bounds[0] > 0 else -np.inf
    lowers = np.concatenate([[lowest], bounds[:-1]])
    last = len(bounds) - 1
    bucket = np.searchsorted(bounds, values, "right")
    inside = np.minimum(bucket, last)
    row = np.arange(len(counts))
    before = np.where(inside == 0, 0.0, counts[row, np.maximum(inside - 1, 0)])
    here, start, end = counts[row, inside], lowers[inside], bounds[inside]
    with np.errstate(all="ignore"):
        within = before + (here - before) * (values - start) / (end - start)
    within = np.where(start == -np.inf, here, within)
    within = np.where(start >= values, before, within)
    result = np.where(bucket > last, counts[:, -1], within)
    return np.where(result > counts[:, -1], counts[:, -1], result)
