"""Aggregations: series grouped by labels, and each group made into one series or a choice of its own.

Rows are brought into the order of their groups once; what follows is array operations over runs of rows.
"""

from dataclasses import dataclass

import numpy as np

from bellbuoy import _core
from bellbuoy._core import Histograms, LabelSets
from bellbuoy.exposition import go_decimal
from bellbuoy.promql.hashing import xxh64
from bellbuoy.promql.over_time import quantile_of_sorted
from bellbuoy.promql.sums import grouped_sum, mean
from bellbuoy.promql.values import METADATA, Floats, Ints, Mask, Vector, empty, is_histogram, numbers_of

FUSED = frozenset({"avg", "count", "group", "max", "min", "sum"})
"""What the core does in one pass."""


@dataclass(frozen=True)
class Groups:
    """A vector's rows by group: `order` sorts them, group i is `order[starts[i]:starts[i + 1]]`."""

    vector: Vector
    labels: LabelSets
    order: Ints
    starts: Ints
    of_row: Ints
    """Each row's group."""

    @staticmethod
    def of(vector: Vector, labels: tuple[str, ...], *, without: bool) -> "Groups":
        """By these labels, or by all but these and the name."""
        names = list(labels)
        keys = vector.labels.drop([*names, *METADATA]) if without else vector.labels.keep(names)
        groups, firsts = keys.group()
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(len(firsts)))
        return Groups(vector, keys.take(firsts), order, starts, groups)

    @property
    def sizes(self) -> Ints:
        """Rows in each group."""
        return np.diff(np.append(self.starts, len(self.order)))

    def result(self, values: Floats, present: Mask) -> Vector:
        """A vector of one row a group; its name goes if any member's does."""
        drop = np.logical_or.reduceat(self.vector.drop_name[self.order], self.starts)
        return Vector(self.labels, values, present, drop)


def aggregate(operator: str, groups: Groups) -> Vector:
    """sum, avg, count, min, max, group, stddev and stdvar, of floats; count and group of all cells."""
    vector = groups.vector
    if len(vector.labels) == 0:
        return empty(vector.steps)
    if operator not in FUSED:
        return groups.result(*by_numpy(operator, groups))
    values, present = np.ascontiguousarray(vector.values), np.ascontiguousarray(vector.present)
    return groups.result(*_core.aggregate_groups(operator, groups.of_row, len(groups.starts), values, present))


def by_numpy(operator: str, groups: Groups) -> tuple[Floats, Mask]:
    """Values and presence of each group; what the core computes means this."""
    vector = groups.vector
    order, starts = groups.order, groups.starts
    there = vector.present[order]
    present = np.logical_or.reduceat(there, starts, axis=0)
    number = np.add.reduceat(there, starts, axis=0, dtype=np.float64)
    rows = vector.values[order]
    with np.errstate(all="ignore"):
        match operator:
            case "count":
                values = number
            case "group":
                values = np.ones(present.shape)
            case "max" | "min":
                best = np.fmax if operator == "max" else np.fmin
                values = best.reduceat(np.where(there, rows, np.nan), starts, axis=0)
            case "sum":
                values = _sum(np.where(there, rows, 0.0), starts)
            case "avg":
                values = _average(groups, np.where(there, rows, 0.0), number)
            case _:
                values = _variance(groups, rows, there, number)
                values = np.sqrt(values) if operator == "stddev" else values
    return np.asarray(values), present


def _sum(rows: Floats, starts: Ints) -> Floats:
    sums, errors = grouped_sum(rows, starts)
    return np.where(np.isinf(sums), sums, sums + errors)


def _average(groups: Groups, rows: Floats, number: Floats) -> Floats:
    sums, errors = grouped_sum(rows, groups.starts)
    values = sums / number + errors / number
    for group, step in np.argwhere(~np.isfinite(sums) & (number > 0)):  # it may have overflowed on the way
        members = groups.order[groups.starts[group] : groups.starts[group] + groups.sizes[group]]
        there = groups.vector.present[members, step]
        values[group, step] = mean(groups.vector.values[members[there], step].tolist())
    return np.asarray(values)


def _variance(groups: Groups, rows: Floats, there: Mask, number: Floats) -> Floats:
    """Population variance, with values moved so that each group's first is zero: equal values give exactly zero."""
    starts, sizes = groups.starts, groups.sizes
    position = np.arange(len(rows))[:, None]
    first = np.minimum.reduceat(np.where(there, position, len(rows) - 1), starts, axis=0)
    origin = np.take_along_axis(rows, first, axis=0)
    moved = np.where(there, rows - np.repeat(origin, sizes, axis=0), 0.0)
    average = _sum(moved, starts) / number
    squares = np.where(there, (moved - np.repeat(average, sizes, axis=0)) ** 2, 0.0)
    return _sum(squares, starts) / number


def quantiles(groups: Groups, quantile: Floats) -> Vector:
    """The quantile of each group at each step, one quantile a step."""
    vector = groups.vector
    if len(vector.labels) == 0:
        return empty(vector.steps)
    count, steps = len(groups.starts), vector.steps
    values, present = np.zeros((count, steps)), np.zeros((count, steps), np.bool_)
    for group, (start, size) in enumerate(zip(groups.starts, groups.sizes, strict=True)):
        members = groups.order[start : start + size]
        there = vector.present[members]
        columns = np.sort(np.where(there, vector.values[members], np.nan), axis=0).T
        number = there.sum(axis=0)
        present[group] = number > 0
        nans = np.isnan(columns).sum(axis=1) - (size - number)
        values[group] = quantile_of_sorted(columns, np.maximum(number, 1), nans, quantile)
    return groups.result(values, present)


def select_first(groups: Groups, limits: Ints) -> Vector:
    """limitk: the first rows of each group, as many as the step's limit."""
    vector = groups.vector
    if len(vector.labels) == 0:
        return vector
    there = vector.present[groups.order].astype(np.int64)
    running = np.cumsum(there, axis=0)
    before = np.where(groups.starts[:, None] > 0, running[np.maximum(groups.starts - 1, 0)], 0)
    rank = running - np.repeat(before, groups.sizes, axis=0) - 1
    return _masked(groups, (there > 0) & (rank < limits))


def select_extreme(groups: Groups, limits: Ints, *, largest: bool) -> tuple[Vector, Ints]:
    """topk and bottomk: the vector with what is not chosen absent, and rows in the order of the last step's ranks."""
    vector = groups.vector
    if len(vector.labels) == 0:
        return vector, np.arange(0)
    values, there = vector.values[groups.order], vector.present[groups.order]
    group = groups.of_row[groups.order]
    key = -values if largest else values
    kind = np.where(there, np.isnan(values).astype(np.int64), 2)  # numbers, then NaN, then what is not there
    steps = vector.steps
    ranked = np.lexsort((np.where(kind == 0, key, 0.0).T, kind.T, np.broadcast_to(group, (steps, len(group)))), axis=-1)
    rank = np.empty((steps, len(group)), np.int64)
    np.put_along_axis(rank, ranked, np.arange(len(group)) - np.repeat(groups.starts, groups.sizes)[None, :], axis=1)
    chosen = there & (limits > rank.T)
    return _masked(groups, chosen), groups.order[ranked[-1]]


def select_ratio(groups: Groups, ratios: Floats) -> Vector:
    """limit_ratio: series whose hash falls into the share; a negative ratio selects the others."""
    vector = groups.vector
    if len(vector.labels) == 0:
        return vector
    places = np.array([_place(labels) for labels in vector.labels.to_dicts()])[:, None]
    chosen = np.where(ratios >= 0, places < ratios, places >= 1.0 + ratios)
    return vector.with_values(vector.values, vector.present & chosen)


def _place(labels: dict[str, str]) -> float:
    """Where between zero and one a series falls: by the hash of its labels that Prometheus has."""
    return xxh64(_packed(labels)) / 2**64


def _packed(labels: dict[str, str]) -> bytes:
    """Names and values, sorted, each after its length."""
    data = bytearray()
    for name, value in sorted(labels.items()):
        for text in (name, value):
            raw = text.encode("utf-8", "surrogateescape")
            data += bytes([len(raw)]) if len(raw) < 255 else b"\xff" + len(raw).to_bytes(3, "little")
            data += raw
    return bytes(data)


def _masked(groups: Groups, chosen: Mask) -> Vector:
    present = np.zeros(chosen.shape, np.bool_)
    present[groups.order] = chosen
    return groups.vector.with_values(groups.vector.values, present)


def count_values(groups: Groups, label: str) -> Vector:
    """How often each value occurs in each group, the value in the label."""
    vector = groups.vector
    if len(vector.labels) == 0:
        return empty(vector.steps)
    marked = vector.marked
    values = np.where(np.isnan(vector.values) & ~marked, np.nan, vector.values)  # one NaN for all
    row, step = np.nonzero(vector.present)
    bits = np.ascontiguousarray(values[row, step]).view(np.int64)
    distinct, code = np.unique(bits, return_inverse=True)
    keys, index = np.unique(groups.of_row[row] * len(distinct) + code, return_inverse=True)
    counts = np.zeros((len(keys), vector.steps))
    np.add.at(counts, (index, step), 1.0)
    texts = _texts(distinct.view(np.float64), vector.histograms)
    of_group = keys // len(distinct)
    labels = groups.labels.take(of_group).set(label, [texts[key % len(distinct)] for key in keys.tolist()])
    drop = np.logical_or.reduceat(vector.drop_name[groups.order], groups.starts)[of_group]
    same, firsts = labels.group()  # a label that was grouped by and is now the value makes groups one
    merged = np.zeros((len(firsts), vector.steps))
    np.add.at(merged, same, counts)
    dropped = np.zeros(len(firsts), np.bool_)
    np.logical_or.at(dropped, same, drop & (label != "__name__"))
    return Vector(labels.take(firsts), merged, merged > 0, dropped)


def _texts(values: Floats, histograms: Histograms | None) -> list[str]:
    texts = [go_decimal(value) for value in values.tolist()]
    if histograms is not None:
        places = np.flatnonzero(is_histogram(values))
        for place, text in zip(places.tolist(), histograms.texts(numbers_of(values[places])), strict=True):
            texts[place] = text
    return texts
