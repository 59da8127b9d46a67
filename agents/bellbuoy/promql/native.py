"""What works on the cells of a vector that are native histograms: operators, and functions that read them.

Whoever calls has looked whether there are any. Histograms lie in lists of the core, whose operations take columns of
them: cells are gathered, computed at once, and what comes back is put into their places, as marks or as numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bellbuoy._core import Histograms, LabelSets
from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.elementwise import binary
from bellbuoy.promql.nodes import COMPARISONS, TRIMS, Binary, Expr
from bellbuoy.promql.values import (
    Floats,
    Ints,
    Mask,
    Vector,
    is_histogram,
    marks,
    merge_equal,
    numbers_of,
    stack,
)
from bellbuoy.promql.windows import GAUGE_HINT


class Cells:
    """Values that are being put together from floats and histograms of several operations."""

    def __init__(self, values: Floats, histograms: Histograms | None = None) -> None:
        self.values = values
        self._parts = [] if histograms is None else [histograms]
        self._count = 0 if histograms is None else len(histograms)

    def put(self, where: Mask, histograms: Histograms, rows: slice = slice(None)) -> None:
        """Set these cells, of these rows, to the histograms, row by row."""
        self.values[rows][where] = marks(np.arange(len(histograms), dtype=np.int64) + self._count)
        self._parts.append(histograms)
        self._count += len(histograms)

    @property
    def histograms(self) -> Histograms | None:
        """What the marks among the values stand for."""
        if not self._count:
            return None
        return self._parts[0] if len(self._parts) == 1 else Histograms.concat(self._parts)


@dataclass(frozen=True)
class Side:
    """One side of a binary operator, cell by cell."""

    values: Floats
    histograms: Histograms | None = None

    def marked(self, met: Mask) -> Mask:
        """Which of these cells are histograms."""
        return met & is_histogram(self.values) if self.histograms is not None else np.zeros_like(met)

    def at(self, where: Mask) -> tuple[Histograms, Ints]:
        """The histograms in these cells: a list, and their numbers in it."""
        if self.histograms is None:
            raise TypeError("BUG: marked cells without histograms")
        return self.histograms, numbers_of(self.values[where])


@dataclass(frozen=True)
class Remark:
    """An annotation, and the steps that it is about."""

    steps: Mask
    say: Callable[[], None]


@dataclass(frozen=True)
class Outcome:
    """What a binary operator gave: values, where a comparison holds, and where there is nothing for want of sense."""

    values: Floats
    holds: Mask
    failed: Mask
    histograms: Histograms | None
    remarks: tuple[Remark, ...]


class Operation:
    """A binary operator on cells, some of which may be histograms. What it cannot do it remarks."""

    def __init__(self, expr: Binary, left: Side, right: Side, met: Mask, notes: Annotations) -> None:
        self._expr, self._left, self._right, self._notes = expr, left, right, notes
        operator = expr.operator
        shape = met.shape
        values = np.zeros(shape) if operator in TRIMS else binary(operator, left.values, right.values)
        values = np.array(np.broadcast_to(values, shape))
        self.holds = values != 0 if operator in COMPARISONS else np.ones(shape, np.bool_)
        if operator in COMPARISONS and not expr.returns_bool:
            self._cells = Cells(np.array(np.broadcast_to(left.values, shape)), left.histograms)
        else:
            self._cells = Cells(values)
        self.failed = np.zeros(shape, np.bool_)
        self._remarks: list[Remark] = []
        self._run(met)

    def outcome(self) -> Outcome:
        """What came of it."""
        cells = self._cells
        values = cells.values
        if self._expr.returns_bool:
            values = self.holds.astype(np.float64)
        return Outcome(values, self.holds, self.failed, cells.histograms, tuple(self._remarks))

    def _run(self, met: Mask) -> None:
        left, right = self._left.marked(met), self._right.marked(met)
        operator = self._expr.operator
        if operator in TRIMS:
            self._fail(met & ~left & ~right, "float", "float")
        if (here := left & right).any():
            self._of_two(here)
        if (here := right & ~left).any():
            if operator == "*":
                histograms, numbers = self._right.at(here)
                self._cells.put(here, histograms.scale(numbers, self._left.values[here]).compact())
            else:
                self._fail(here, "float", "histogram")
        if (here := left & ~right).any():
            self._with_number(here)

    def _with_number(self, here: Mask) -> None:
        histograms, numbers = self._left.at(here)
        other = self._right.values[here]
        match self._expr.operator:
            case "*":
                self._cells.put(here, histograms.scale(numbers, other).compact())
            case "/":
                self._cells.put(here, histograms.divide(numbers, other).compact())
            case "</" | ">/":
                self._cells.put(here, histograms.trim(numbers, other, upper=self._expr.operator == "</"))
            case _:
                self._fail(here, "histogram", "float")

    def _of_two(self, here: Mask) -> None:
        (left, left_numbers), (right, right_numbers) = self._left.at(here), self._right.at(here)
        match self._expr.operator:
            case "==" | "!=":
                same = equal(left.take(left_numbers), right.take(right_numbers))
                self.holds[here] = same if self._expr.operator == "==" else ~same
            case "+":
                self._combined(here, "addition", *left.add(left_numbers, right, right_numbers))
            case "-":
                differences, flags = left.subtract(left_numbers, right, right_numbers)
                self._combined(here, "subtraction", as_gauges(differences), flags)
            case _:
                self._fail(here, "histogram", "histogram")

    def _combined(self, here: Mask, operation: str, results: Histograms, flags: NDArray[np.uint16]) -> None:
        incompatible, collided = flags & Histograms.INCOMPATIBLE != 0, flags & Histograms.COLLISION != 0
        failed = incompatible | collided
        reconciled = (flags & Histograms.RECONCILED != 0) & ~failed
        notes, expr = self._notes, self._expr
        self._remark(here, incompatible, lambda: notes.incompatible_buckets(expr, expr.operator))
        self._remark(here, collided & ~incompatible, lambda: notes.colliding_resets(expr, operation))
        self._remark(here, reconciled, lambda: notes.reconciled_bounds(expr, operation))
        self.failed[here] |= failed
        self._cells.put(here, results.compact())

    def _remark(self, here: Mask, some: Mask, say: Callable[[], None]) -> None:
        if some.any():
            cells = np.zeros_like(here)
            cells[here] = some
            self._remarks.append(Remark(np.asarray(cells.any(axis=0)), say))

    def _fail(self, here: Mask, left: str, right: str) -> None:
        if here.any():
            expr = self._expr
            say = partial(self._notes.incompatible_types, expr, left, expr.operator, right)
            self._remarks.append(Remark(np.asarray(here.any(axis=0)), say))
            self.failed |= here


def equal(left: Histograms, right: Histograms) -> Mask:
    """Whether pairs are the same; buckets without observations are no difference."""
    everything = np.arange(len(left), dtype=np.int64)
    return left.compact().equal(everything, right.compact(), everything)


def as_gauges(histograms: Histograms) -> Histograms:
    """The same, which may go up and down."""
    return histograms.with_hints(np.full(len(histograms), GAUGE_HINT, np.uint8))


def negative(vector: Vector) -> Vector:
    """Each float's, and each histogram's, opposite."""
    marked = vector.marked
    cells = Cells(np.where(marked, 0.0, -vector.values))
    if vector.histograms is not None and marked.any():
        numbers = numbers_of(vector.values[marked])
        cells.put(marked, vector.histograms.scale(numbers, np.full(len(numbers), -1.0)))
    return replace(vector.with_values(cells.values, drop_name=True), histograms=cells.histograms)


def read(vector: Vector, function: Callable[[Histograms, Ints, Ints, Ints], Floats]) -> Vector:
    """A number for each histogram. The function is given a list, the numbers in it, and their rows and steps."""
    marked = vector.marked
    values = np.zeros(marked.shape)
    if vector.histograms is not None and marked.any():
        rows, steps = np.nonzero(marked)
        values[marked] = function(vector.histograms, numbers_of(vector.values[marked]), rows, steps)
    result = vector.with_values(values, marked, drop_name=True)
    return replace(result, histograms=None).compact()


READERS: dict[str, Callable[[Histograms, Ints, Ints, Ints], Floats]] = {
    "histogram_avg": lambda histograms, numbers, *_: _averages(histograms, numbers),
    "histogram_count": lambda histograms, numbers, *_: histograms.counts()[numbers],
    "histogram_stddev": lambda histograms, numbers, *_: _deviations(histograms, numbers),
    "histogram_stdvar": lambda histograms, numbers, *_: histograms.variance(numbers),
    "histogram_sum": lambda histograms, numbers, *_: histograms.sums()[numbers],
}


def _averages(histograms: Histograms, numbers: Ints) -> Floats:
    with np.errstate(all="ignore"):
        return np.asarray((histograms.sums() / histograms.counts())[numbers])


def _deviations(histograms: Histograms, numbers: Ints) -> Floats:
    with np.errstate(all="ignore"):
        return np.sqrt(histograms.variance(numbers))


def quantiles(vector: Vector, quantile: Floats, expr: Expr, notes: Annotations) -> Vector:
    """The estimated quantile of each histogram, one quantile a step."""

    def compute(histograms: Histograms, numbers: Ints, rows: Ints, steps: Ints) -> Floats:
        values, flags = histograms.quantile(numbers, quantile[steps])
        for metric in metrics(vector.labels, rows[flags & Histograms.NAN != 0]):
            notes.nan_quantile(expr, metric)
        for metric in metrics(vector.labels, rows[flags & Histograms.SKEWED != 0]):
            notes.skewed_quantile(expr, metric)
        return values

    return read(vector, compute)


def fractions(vector: Vector, bounds: tuple[Floats, Floats], expr: Expr, notes: Annotations) -> Vector:
    """The estimated share of each histogram's observations between the bounds, which are one a step."""

    def compute(histograms: Histograms, numbers: Ints, rows: Ints, steps: Ints) -> Floats:
        values, flags = histograms.fraction(numbers, bounds[0][steps], bounds[1][steps])
        for metric in metrics(vector.labels, rows[flags & Histograms.NAN != 0]):
            notes.nan_fraction(expr, metric)
        return values

    return read(vector, compute)


def beside_classic(classic: Vector, own: Vector, expr: Expr, notes: Annotations) -> Vector:
    """Results of classic and of native histograms. Where one is there as both, it has none, which is said."""
    if len(own.labels) == 0:
        return classic
    if len(classic.labels) == 0:
        return own
    groups, firsts = LabelSets.concat([classic.labels, own.labels]).group()
    if len(firsts) == len(groups):
        return stack([classic, own])
    of_classic, of_own = groups[: len(classic.labels)], groups[len(classic.labels) :]
    twice = np.zeros((len(firsts), classic.steps), np.bool_)
    twice[of_classic] = classic.present
    both = np.zeros_like(twice)
    both[of_own] = own.present
    twice &= both
    for metric in metrics(own.labels, np.flatnonzero(twice[of_own].any(axis=1))):
        notes.mixed_classic_native(expr, metric)
    classic = replace(classic, present=classic.present & ~twice[of_classic])
    return merge_equal(stack([classic, replace(own, present=own.present & ~twice[of_own])]))


def metrics(labels: LabelSets, rows: Ints) -> list[str]:
    """The distinct metric names of these rows."""
    if len(rows) == 0:
        return []
    return list(dict.fromkeys(labels.take(np.unique(rows)).get("__name__")))


def say_total(flags: NDArray[np.uint16], names: Callable[[Mask], list[str]], expr: Expr, notes: Annotations) -> Mask:
    """Says what sums and means of histograms met on their way; `names` of those that failed. Which have a result."""
    failed = flags & Histograms.INCOMPATIBLE != 0
    for metric in names(failed):
        notes.mixed_buckets(expr, metric)
    if ((flags & Histograms.RECONCILED != 0) & ~failed).any():
        notes.reconciled_bounds(expr, "aggregation")
    if ((flags & Histograms.COLLISION != 0) & ~failed).any():
        notes.colliding_resets(expr, "aggregation")
    return np.asarray(~failed)
