"""What aggregations make of native histograms.

Counting and choosing take any cell. Sums and means take floats or histograms, and refuse a group that has both. All
others take floats, and say that they left out histograms.
"""

from dataclasses import replace

import numpy as np

from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.grouping import Groups, aggregate
from bellbuoy.promql.native import Cells, metrics, say_total
from bellbuoy.promql.nodes import Aggregate
from bellbuoy.promql.values import Scalar, Vector, numbers_of

OF_ALL = frozenset({"count", "count_values", "group", "limit_ratio", "limitk"})


def floats(groups: Groups, expr: Aggregate, parameter: object, notes: Annotations) -> Groups:
    """The groups without histograms, which is said where there are any that would have taken part."""
    marked = groups.vector.marked
    place = expr.expr
    if expr.operator in ("topk", "bottomk"):
        place = expr
        if isinstance(parameter, Scalar):
            marked = marked & (parameter.values >= 1)
    if marked.any():
        notes.ignored_in_group(place, expr.operator)
    return replace(groups, vector=groups.vector.floats())


def combined(groups: Groups, expr: Aggregate, notes: Annotations) -> Vector:
    """sum and avg of each group."""
    vector, order = groups.vector, groups.order
    result = aggregate(expr.operator, replace(groups, vector=vector.floats()))
    histograms, marked = vector.histograms, vector.marked[order]
    if histograms is None or not marked.any():
        return result
    has_histogram = np.logical_or.reduceat(marked, groups.starts, axis=0)
    mixed = result.present & has_histogram
    if mixed.any():
        notes.mixed_group(expr.expr)
    group = groups.of_row[order]
    places, steps = np.nonzero(marked & ~mixed[group])
    present = result.present & ~mixed
    key = group[places] * vector.steps + steps
    sorted_ = np.argsort(key, kind="stable")
    places, steps, key = places[sorted_], steps[sorted_], key[sorted_]
    low = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else key
    high = np.append(low[1:], len(key)).astype(np.int64) if len(key) else key
    numbers = numbers_of(vector.values[order[places], steps])
    function = histograms.mean if expr.operator == "avg" else histograms.total
    sums, flags, culprits = function(numbers, low, high)
    told = say_total(flags, lambda failed: metrics(vector.labels, order[places[culprits[failed]]]), expr.expr, notes)
    good = np.flatnonzero(told)
    where = np.zeros(present.shape, np.bool_)
    where.ravel()[key[low[good]]] = True
    cells = Cells(np.array(result.values))
    cells.put(where, sums.take(good).compact())
    return replace(result, values=cells.values, present=present | where, histograms=cells.histograms)
