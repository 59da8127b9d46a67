"""What a node evaluates to, over the whole step grid at once.

A vector is `labels` and two matrices, one row a series, one column a step. Presence is a mask of its own, since every
NaN is a value. `drop_name` marks rows whose metric name goes when the query ends: until then `label_replace` and
aggregations still see it. Arrays are never written to once they are in a value, so that they may be shared.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bellbuoy._core import HISTOGRAM_MARK, STALE_BITS, Histograms, LabelSets
from bellbuoy.promql.errors import ExecutionError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

METADATA = ("__name__", "__type__", "__unit__")
"""What says which metric it is, and goes when a value is no longer that metric's."""

DUPLICATES = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True)
class Scalar:
    """One number a step."""

    values: Floats


@dataclass(frozen=True)
class Text:
    """A string, the same at each step."""

    value: str


@dataclass(frozen=True)
class Vector:
    """Series over the grid: `values` and `present` are [series, steps], `drop_name` is [series].

    With `histograms`, a value may be the mark of one of them. Arithmetic on a mark destroys it: what computes takes the
    `floats`, and `native` computes the rest.
    """

    labels: LabelSets
    values: Floats
    present: Mask
    drop_name: Mask
    histograms: Histograms | None = None

    @property
    def steps(self) -> int:
        """How many steps the grid has."""
        return int(self.values.shape[1])

    @property
    def marked(self) -> Mask:
        """Which cells are histograms."""
        if self.histograms is None:
            return np.zeros(self.present.shape, np.bool_)
        return self.present & is_histogram(self.values)

    def weight(self) -> int:
        """As many samples as it counts for: one a cell, and more for those that are histograms."""
        if self.histograms is None:
            return int(self.values.size)
        numbers = numbers_of(self.values[self.marked])
        return int(self.values.size) + int(self.histograms.weights()[numbers].sum())

    def floats(self) -> "Vector":
        """The cells that are no histograms."""
        if self.histograms is None:
            return self
        return replace(self, present=self.present & ~is_histogram(self.values), histograms=None)

    def take(self, rows: Ints) -> "Vector":
        """These rows, in this order."""
        parts = self.labels.take(rows), self.values[rows], self.present[rows], self.drop_name[rows]
        return Vector(*parts, self.histograms)

    def with_values(self, values: Floats, present: Mask | None = None, *, drop_name: bool = False) -> "Vector":
        """The same series with other values; with `drop_name` their names go at the end."""
        names = np.ones(len(self.labels), np.bool_) if drop_name else self.drop_name
        return replace(self, values=values, present=self.present if present is None else present, drop_name=names)

    def compact(self) -> "Vector":
        """Without the rows that are absent at every step."""
        rows = self.present.any(axis=1)
        return self if rows.all() else self.take(np.flatnonzero(rows))


def empty(steps: int) -> Vector:
    """A vector of no series."""
    shape = (0, steps)
    return Vector(LabelSets.from_dicts([]), np.empty(shape), np.empty(shape, np.bool_), np.empty(0, np.bool_))


def unlabeled(values: Floats, present: Mask | None = None, labels: dict[str, str] | None = None) -> Vector:
    """A vector of one series with these values, one a step."""
    mask = np.ones((1, len(values)), np.bool_) if present is None else present[None, :]
    return Vector(LabelSets.from_dicts([labels or {}]), values[None, :], mask, np.zeros(1, np.bool_))


def is_stale(values: Floats) -> Mask:
    """Which values are stale markers. Other NaNs are not."""
    return np.asarray(values.view(np.int64) == STALE_BITS)


def is_histogram(values: Floats) -> Mask:
    """Which values are marks of histograms."""
    return np.asarray(values.view(np.int64) >> 32 == HISTOGRAM_MARK)


def numbers_of(values: Floats) -> Ints:
    """The numbers of histograms that these marks stand for."""
    return np.asarray(values.view(np.int64) & 0xFFFFFFFF)


def marks(numbers: Ints) -> Floats:
    """The values that stand for the histograms of these numbers."""
    return np.asarray(numbers | (HISTOGRAM_MARK << 32)).view(np.float64)


def drop_names(labels: LabelSets, rows: Mask) -> LabelSets:
    """The label sets, those of these rows without their name."""
    if not rows.any():
        return labels
    bare = labels.drop(METADATA)
    if rows.all():
        return bare
    count = len(labels)
    choice = np.arange(count, dtype=np.int64)
    return LabelSets.concat([labels, bare]).take(np.where(rows, choice + count, choice))


def merge_equal(vector: Vector) -> Vector:
    """Rows of equal labels made one. Two that are present at the same step are an error.

    Rows that differ in whether their name is dropped are one as well, and then the name is dropped.
    """
    groups, firsts = vector.labels.group()
    if len(firsts) == len(groups):
        return vector
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(len(firsts)))
    present = vector.present[order]
    if (np.add.reduceat(present, starts, axis=0, dtype=np.int64) > 1).any():
        raise ExecutionError(DUPLICATES)
    bits = np.where(present, vector.values[order].view(np.int64), 0)  # a sum of floats would change NaNs
    values = np.add.reduceat(bits, starts, axis=0).view(np.float64)
    return Vector(
        vector.labels.take(firsts),
        values,
        np.logical_or.reduceat(present, starts, axis=0),
        np.logical_or.reduceat(vector.drop_name[order], starts),
        vector.histograms,
    )


def stack(vectors: list[Vector]) -> Vector:
    """The rows of all, one after the other."""
    histograms, values = joined([(vector.values, vector.histograms) for vector in vectors])
    return Vector(
        LabelSets.concat([vector.labels for vector in vectors]),
        np.concatenate(values),
        np.concatenate([vector.present for vector in vectors]),
        np.concatenate([vector.drop_name for vector in vectors]),
        histograms,
    )


def joined(parts: list[tuple[Floats, Histograms | None]]) -> tuple[Histograms | None, list[Floats]]:
    """One list of all parts' histograms, and the parts' values with marks of that list."""
    lists: list[Histograms] = []
    values: list[Floats] = []
    count = 0
    for part, histograms in parts:
        if histograms is None:
            values.append(part)
            continue
        if count:
            part = np.where(is_histogram(part), marks(numbers_of(part) + count), part)
        values.append(part)
        lists.append(histograms)
        count += len(histograms)
    if not lists:
        return None, values
    return lists[0] if len(lists) == 1 else Histograms.concat(lists), values


def finish(vector: Vector) -> Vector:
    """What leaves the query: names dropped where they are to be, absent rows gone, equal rows made one."""
    vector = vector.compact()
    labels = drop_names(vector.labels, vector.drop_name)
    return merge_equal(replace(vector, labels=labels, drop_name=np.zeros(len(labels), np.bool_)))
