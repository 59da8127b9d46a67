"""Sums that do not lose small terms beside large ones, as Prometheus's do not.

`Running` adds to many windows' sums at once and keeps what rounding loses; `Ranked` gives it the windows' samples by
position. `grouped_sum` adds rows of a matrix pairwise in a tree with error terms, which costs log n passes.
"""

import math
from collections.abc import Iterator

import numpy as np

from bellbuoy.promql.values import Floats, Ints


class Running:
    """Compensated sums, side by side. The first `m` of them take part in an `add`."""

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size)
        self.error = np.zeros(size)

    def add(self, terms: Floats) -> None:
        """Add a term to each of the first `len(terms)` sums."""
        m = len(terms)
        before, error = self.total[:m], self.error[:m]
        with np.errstate(over="ignore", invalid="ignore"):
            after = before + terms
            virtual = after - before
            error += (before - (after - virtual)) + (terms - virtual)
        if not np.isfinite(after).all():
            error[np.isinf(after)] = 0.0
        self.total[:m] = after

    @property
    def result(self) -> Floats:
        """The sums."""
        return np.where(np.isinf(self.total), self.total, self.total + self.error)


class Ranked:
    """Windows that are not empty, longest first, so that those with a sample at position j are the first m of them."""

    def __init__(self, low: Ints, counts: Ints) -> None:
        flat = counts.ravel()
        order = np.argsort(-flat, kind="stable")
        self.size = int(np.count_nonzero(flat))
        self.order = order[: self.size]
        self.counts = flat[self.order]
        self.low = low.ravel()[self.order]
        self._shape = counts.shape

    def positions(self) -> Iterator[Ints]:
        """For each position, the flat indexes of the samples there: of the first m windows."""
        if self.size == 0:
            return
        longest = int(self.counts[0])
        ascending = self.counts[::-1]
        for position in range(longest):
            m = self.size - int(ascending.searchsorted(position, "right"))
            yield self.low[:m] + position

    def spread(self, results: Floats) -> Floats:
        """Results of the ranked windows, back in their places; zero where a window is empty."""
        out = np.zeros(self._shape)
        out.ravel()[self.order] = results
        return out


def window_sums(low: Ints, counts: Ints, values: Floats) -> Floats:
    """The sum of each window."""
    ranked = Ranked(low, counts)
    running = Running(ranked.size)
    for index in ranked.positions():
        running.add(values[index])
    return ranked.spread(running.result)


def window_means(low: Ints, counts: Ints, values: Floats) -> Floats:
    """The mean of each window, also where the sum itself overflows."""
    ranked = Ranked(low, counts)
    running = Running(ranked.size)
    for index in ranked.positions():
        running.add(values[index])
    with np.errstate(all="ignore"):
        means = running.total / ranked.counts + running.error / ranked.counts
    for place in np.flatnonzero(np.isinf(running.total) | np.isnan(running.total)):
        first = int(ranked.low[place])
        means[place] = mean(values[first : first + int(ranked.counts[place])].tolist())
    return ranked.spread(means)


def mean(values: list[float]) -> float:
    """Prometheus's mean of one list: a compensated sum, incremental once the sum overflows."""
    total, error, average, incremental = values[0], 0.0, 0.0, False
    for position, value in enumerate(values[1:], 2):
        if not incremental:
            new_total, new_error = _neumaier(value, total, error)
            if not math.isinf(new_total):
                total, error = new_total, new_error
                continue
            incremental = True
            average, error = total / (position - 1), error / (position - 1)
        share = (position - 1) / position
        average, error = _neumaier(value / position, share * average, share * error)
    return average + error if incremental else total / len(values) + error / len(values)


def _neumaier(term: float, total: float, error: float) -> tuple[float, float]:
    after = total + term
    if math.isinf(after):
        return after, 0.0
    if abs(total) >= abs(term):
        return after, error + ((total - after) + term)
    return after, error + ((term - after) + total)


def grouped_sum(rows: Floats, starts: Ints) -> tuple[Floats, Floats]:
    """`(sums, errors)` of runs of rows: run i begins at `starts[i]`. The true sum is near their sum."""
    sums, errors = rows, np.zeros(rows.shape)
    lengths = np.diff(np.append(starts, len(rows)))
    with np.errstate(all="ignore"):
        while len(lengths) and lengths.max() > 1:
            firsts = np.cumsum(lengths) - lengths
            halves = (lengths + 1) // 2
            where = np.repeat(np.cumsum(halves) - halves, halves)
            left = np.repeat(firsts, halves) + 2 * (np.arange(int(halves.sum())) - where)
            paired = np.flatnonzero(left + 1 < np.repeat(firsts + lengths, halves))
            new_sums, new_errors = sums[left], errors[left]
            a, b = new_sums[paired], sums[left[paired] + 1]
            total = a + b
            virtual = total - a
            lost = (a - (total - virtual)) + (b - virtual)
            new_sums[paired] = total
            joined = new_errors[paired] + errors[left[paired] + 1] + lost
            new_errors[paired] = np.where(np.isfinite(total), joined, 0.0)
            sums, errors, lengths = new_sums, new_errors, halves
    return sums, errors
