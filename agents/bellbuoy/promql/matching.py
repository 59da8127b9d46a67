"""Binary operators: which series meet which, and what comes of it.

Series are paired once by their labels, for all steps; whether both are there is a mask. What may not be (two
candidates on the "one" side at one step) is checked on counts a step, as Prometheus checks it, before pairs are made.
"""

from dataclasses import dataclass, replace

import numpy as np

from bellbuoy import _core
from bellbuoy._core import Histograms, LabelSets
from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.elementwise import binary
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.labelling import show_labels
from bellbuoy.promql.native import Operation, Remark, Side
from bellbuoy.promql.nodes import COMPARISONS, SAME_METRIC, TRIMS, Binary, Matching
from bellbuoy.promql.values import METADATA, Floats, Ints, Mask, Scalar, Vector, empty, merge_equal, stack

_MANY_TO_ONE = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
_AMBIGUOUS = "multiple matches for labels: grouping labels must ensure unique matches"


def with_scalar(expr: Binary, left: Vector | Scalar, right: Vector | Scalar, notes: Annotations) -> Vector:
    """An operator between a vector and a scalar, whichever side it is on."""
    vector = left if isinstance(left, Vector) else right
    if not isinstance(vector, Vector):
        raise ExecutionError("BUG: neither side is a vector")
    filters = expr.operator in COMPARISONS and not expr.returns_bool
    if vector.histograms is None and expr.operator not in TRIMS:
        values = np.broadcast_to(binary(expr.operator, _matrix(left), _matrix(right)), vector.values.shape)
        if filters:
            return vector.with_values(vector.values, vector.present & (values != 0))
        return vector.with_values(values, drop_name=True)
    shape = vector.values.shape
    sides = [Side(np.broadcast_to(_matrix(side), shape), _histograms(side)) for side in (left, right)]
    outcome = Operation(expr, sides[0], sides[1], vector.present, notes).outcome()
    for remark in outcome.remarks:
        remark.say()
    present = vector.present & ~outcome.failed
    if filters:
        return vector.with_values(vector.values, present & outcome.holds)
    drop_name = expr.operator not in TRIMS
    return replace(vector.with_values(outcome.values, present, drop_name=drop_name), histograms=outcome.histograms)


def _matrix(side: Vector | Scalar) -> Floats:
    return side.values if isinstance(side, Vector) else side.values[None, :]


def _histograms(side: Vector | Scalar) -> Histograms | None:
    return side.histograms if isinstance(side, Vector) else None


class _Signatures:
    """The groups that a matching puts the series of both sides in, numbered alike on both."""

    def __init__(self, matching: Matching, left: Vector, right: Vector) -> None:
        self._matching = matching
        keys = LabelSets.concat([self.of(left.labels), self.of(right.labels)])
        groups, firsts = keys.group()
        self.left, self.right = groups[: len(left.labels)], groups[len(left.labels) :]
        self.count = len(firsts)
        self.labels = keys.take(firsts)

    def of(self, labels: LabelSets) -> LabelSets:
        """The part of the labels that is compared."""
        names = list(self._matching.labels)
        return labels.keep(names) if self._matching.on else labels.drop([*names, *METADATA])

    def present(self, groups: Ints, vector: Vector) -> Ints:
        """How many series each group has at each step."""
        values, present = np.ascontiguousarray(vector.values), np.ascontiguousarray(vector.present)
        counts, _ = _core.aggregate_groups("count", groups, self.count, values, present)
        return counts.astype(np.int64)

    def present_in(self, parts: list["_Part"]) -> Ints:
        """How many pairs of each group made sense at each step."""
        counts = np.zeros((self.count, parts[0].met.shape[1]), np.int64)
        for part in parts:
            np.add.at(counts, part.groups, part.met)
        return counts


def between_vectors(expr: Binary, left: Vector, right: Vector, notes: Annotations) -> Vector:
    """An arithmetic or comparison operator between two vectors."""
    matching = expr.matching
    fills = matching.fill_left is not None or matching.fill_right is not None
    if not fills and (len(left.labels) == 0 or len(right.labels) == 0):
        return empty(left.steps)
    many, one = (right, left) if matching.group == "right" else (left, right)
    signatures = _Signatures(matching, many, one)
    many_counts, one_counts = signatures.present(signatures.left, many), signatures.present(signatures.right, one)
    meeting = np.ones(many.steps, np.bool_) if fills else many.present.any(axis=0) & one.present.any(axis=0)
    crowded = (one_counts > 1) & meeting
    if crowded.any():
        raise ExecutionError(_duplicate_text(expr, signatures, one, crowded))
    pairs = _Pairs(expr, notes)
    parts = [_matched(pairs, signatures, many, one)]
    if _fill(matching, one=True) is not None:
        parts.append(_filled(pairs, signatures.left, many, one_counts, signatures, of_many=True))
    # What the operator is not defined on counts as not matched.
    matched = signatures.present_in(parts) if pairs.may_fail(many, one) else None
    if matching.group is None:
        # What would be for the many side when the one side is filled in counts as a match, too.
        may_match = (one_counts == 1) | (_fill(matching, one=True) is not None)
        if ((many_counts > 1) & may_match if matched is None else matched > 1).any():
            raise ExecutionError(_MANY_TO_ONE)
    if _fill(matching, one=False) is not None:
        counts = many_counts if matched is None else matched
        parts.append(_filled(pairs, signatures.right, one, counts, signatures, of_many=False))
    _say(parts)
    results = [part for part in parts if len(part.vector.labels)]
    if not results:
        return empty(left.steps)
    merged = stack([part.vector for part in results])
    if matching.group:
        _check_unique(merged.labels, np.concatenate([part.met for part in results]))
    return merge_equal(merged)


def _fill(matching: Matching, *, one: bool) -> float | None:
    """The value for a missing series of the one or the many side."""
    is_left = one == (matching.group == "right")
    literal = matching.fill_left if is_left else matching.fill_right
    return None if literal is None else literal.value


@dataclass(frozen=True)
class _Part:
    """Some results: the vector, where its pairs met and made sense, the group of each, and what is to be said."""

    vector: Vector
    met: Mask
    groups: Ints
    remarks: tuple[Remark, ...] = ()


def _say(parts: list[_Part]) -> None:
    """Annotate; of each step, as Prometheus does, only what was met last."""
    covered = np.zeros(parts[0].met.shape[1], np.bool_)
    for part in reversed(parts):
        for remark in part.remarks:
            if (remark.steps & ~covered).any():
                remark.say()
        for remark in part.remarks:
            covered |= remark.steps


def _matched(pairs: "_Pairs", signatures: _Signatures, many: Vector, one: Vector) -> _Part:
    """Every pair of series of one group, and where both are there."""
    order = np.argsort(signatures.right, kind="stable")
    ones = signatures.right[order]
    first, stop = ones.searchsorted(signatures.left, "left"), ones.searchsorted(signatures.left, "right")
    number = stop - first
    many_rows = np.repeat(np.arange(len(many.labels)), number)
    within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    one_rows = order[np.repeat(first, number) + within]
    met = many.present[many_rows] & one.present[one_rows]
    if not met.all():
        some = met.any(axis=1)
        many_rows, one_rows, met = many_rows[some], one_rows[some], met[some]
    labels = _labels(pairs.expr, many.labels.take(many_rows), one.labels.take(one_rows))
    sides = Side(many.values[many_rows], many.histograms), Side(one.values[one_rows], one.histograms)
    return pairs.part(labels, *sides, met, signatures.left[many_rows])


def _filled(
    pairs: "_Pairs", groups: Ints, side: Vector, others: Ints, signatures: _Signatures, *, of_many: bool
) -> _Part:
    """The series of one side where the other is missing, whose value is then the fill's."""
    expr = pairs.expr
    value = _fill(expr.matching, one=of_many)
    alone = side.present & (others[groups] == 0)
    rows = np.flatnonzero(alone.any(axis=1))
    other = Side(np.full((len(rows), side.steps), np.nan if value is None else value))
    own, shared = side.labels.take(rows), signatures.labels.take(groups[rows])
    mine = Side(side.values[rows], side.histograms)
    met = alone[rows]
    if of_many:
        return pairs.part(_labels(expr, own, shared), mine, other, met, groups[rows])
    return pairs.part(_labels(expr, shared, own), other, mine, met, groups[rows])


class _Pairs:
    """The operator on paired cells."""

    def __init__(self, expr: Binary, notes: Annotations) -> None:
        self.expr, self._notes = expr, notes

    def may_fail(self, many: Vector, one: Vector) -> bool:
        """Whether there may be pairs that it is not defined on."""
        return many.histograms is not None or one.histograms is not None or self.expr.operator in TRIMS

    def part(self, labels: LabelSets, many: Side, one: Side, met: Mask, groups: Ints) -> _Part:
        """What becomes of them."""
        expr = self.expr
        left, right = (one, many) if expr.matching.group == "right" else (many, one)
        remarks: tuple[Remark, ...] = ()
        if left.histograms is None and right.histograms is None and expr.operator not in TRIMS:
            values = binary(expr.operator, left.values, right.values)
            holds, histograms = values != 0 if expr.operator in COMPARISONS else met, None
            filtered = left.values
        else:
            outcome = Operation(expr, left, right, met, self._notes).outcome()
            met, remarks = met & ~outcome.failed, outcome.remarks
            values, holds, histograms = outcome.values, outcome.holds, outcome.histograms
            filtered = values
        kept, names = met, np.full(len(labels), expr.returns_bool)
        if expr.operator in COMPARISONS and not expr.returns_bool:
            values, kept = filtered, met & holds
        return _Part(Vector(labels, values, kept, names, histograms), met, groups, remarks)


def _labels(expr: Binary, many: LabelSets, one: LabelSets) -> LabelSets:
    """The result's labels: the many side's, or those matched on, and what group_left or group_right includes."""
    matching = expr.matching
    labels = many if expr.operator in SAME_METRIC else many.drop(METADATA)
    if matching.group is None:
        names = list(matching.labels)
        labels = labels.keep(names) if matching.on else labels.drop(names)
    for name in matching.include:
        labels = labels.set(name, one.get(name))
    return labels


def _check_unique(labels: LabelSets, met: Mask) -> None:
    groups, firsts = labels.group()
    if len(firsts) == len(groups):
        return
    counts = np.zeros((len(firsts), met.shape[1]), np.int64)
    np.add.at(counts, groups, met)
    if (counts > 1).any():
        raise ExecutionError(_AMBIGUOUS)


def _duplicate_text(expr: Binary, signatures: _Signatures, one: Vector, crowded: Mask) -> str:
    group, step = (int(place) for place in np.argwhere(crowded)[0])
    rows = np.flatnonzero((signatures.right == group) & one.present[:, step])
    sets = one.labels.take(rows)
    series = ", ".join(show_labels(labels) for labels in sets.take(sets.order()[:2]).to_dicts())
    side = "left" if expr.matching.group == "right" else "right"
    shown = show_labels(signatures.labels[group])
    return (
        f"found duplicate series for the match group {shown} on the {side} hand-side of the operation: [{series}]"
        ";many-to-many matching not allowed: matching labels must be unique on one side"
    )


def set_operation(expr: Binary, left: Vector, right: Vector) -> Vector:
    """and, or, unless: series of one side by whether the other has any of their group at the step."""
    if len(right.labels) == 0:
        return empty(left.steps) if expr.operator == "and" else left
    if len(left.labels) == 0:
        return right if expr.operator == "or" else left
    signatures = _Signatures(expr.matching, left, right)
    if expr.operator == "or":
        taken = signatures.present(signatures.left, left)[signatures.right] > 0
        rest = replace(right, present=right.present & ~taken)
        return merge_equal(stack([left, rest.compact()]))
    there = signatures.present(signatures.right, right)[signatures.left] > 0
    keep = there if expr.operator == "and" else ~there
    return replace(left, present=left.present & keep)
