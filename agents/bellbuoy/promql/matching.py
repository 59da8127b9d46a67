"""Binary operators: which series meet which, and what comes of it.

Series are paired once by their labels, for all steps; whether both are there is a mask. What may not be (two
candidates on the "one" side at one step) is checked on counts a step, as Prometheus checks it, before pairs are made.
"""

from dataclasses import replace

import numpy as np

from bellbuoy import _core
from bellbuoy._core import LabelSets
from bellbuoy.labels import is_legacy_label_name
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.lexer import quote
from bellbuoy.promql.nodes import COMPARISONS, Binary, Matching
from bellbuoy.promql.values import METADATA, Floats, Ints, Mask, Scalar, Vector, empty, merge_equal, stack

_MANY_TO_ONE = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
_AMBIGUOUS = "multiple matches for labels: grouping labels must ensure unique matches"


def compute(operator: str, left: Floats, right: Floats) -> Floats:
    """Arithmetic as Prometheus's; a comparison gives 1 or 0."""
    with np.errstate(all="ignore"):
        match operator:
            case "+":
                result = left + right
            case "-":
                result = left - right
            case "*":
                result = left * right
            case "/":
                result = left / right
            case "%":
                result = np.fmod(left, right)
            case "^":
                result = np.power(left, right)
            case "atan2":
                result = np.arctan2(left, right)
            case _:
                result = _compare(operator, left, right).astype(np.float64)
    return np.asarray(result)


def _compare(operator: str, left: Floats, right: Floats) -> Mask:
    match operator:
        case "==":
            return np.equal(left, right)
        case "!=":
            return np.not_equal(left, right)
        case "<":
            return np.less(left, right)
        case "<=":
            return np.less_equal(left, right)
        case ">":
            return np.greater(left, right)
        case ">=":
            return np.greater_equal(left, right)
    raise ExecutionError(f"BUG: no operator {operator}")


def with_scalar(expr: Binary, left: Vector | Scalar, right: Vector | Scalar) -> Vector:
    """An operator between a vector and a scalar, whichever side it is on."""
    vector = left if isinstance(left, Vector) else right
    if not isinstance(vector, Vector):
        raise ExecutionError("BUG: neither side is a vector")
    values = np.broadcast_to(compute(expr.operator, _matrix(left), _matrix(right)), vector.values.shape)
    if expr.operator not in COMPARISONS or expr.returns_bool:
        return vector.with_values(values, drop_name=True)
    return vector.with_values(vector.values, vector.present & (values != 0))


def _matrix(side: Vector | Scalar) -> Floats:
    return side.values if isinstance(side, Vector) else side.values[None, :]


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
        return labels.keep(names) if self._matching.on else labels.drop([*names, "__name__"])

    def present(self, groups: Ints, vector: Vector) -> Ints:
        """How many series each group has at each step."""
        values, present = np.ascontiguousarray(vector.values), np.ascontiguousarray(vector.present)
        counts, _ = _core.aggregate_groups("count", groups, self.count, values, present)
        return counts.astype(np.int64)


def between_vectors(expr: Binary, left: Vector, right: Vector) -> Vector:
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
    # What would be for the many side when the one side is filled in counts as a match, too.
    matched = (one_counts == 1) | (_fill(matching, one=True) is not None)
    if matching.group is None and ((many_counts > 1) & matched).any():
        raise ExecutionError(_MANY_TO_ONE)
    parts = [_matched(expr, signatures, many, one)]
    if _fill(matching, one=True) is not None:
        parts.append(_filled(expr, signatures.left, many, one_counts, signatures, of_many=True))
    if _fill(matching, one=False) is not None:
        parts.append(_filled(expr, signatures.right, one, many_counts, signatures, of_many=False))
    results = [part for part in parts if len(part[0].labels)]
    if not results:
        return empty(left.steps)
    merged = stack([vector for vector, _ in results])
    if matching.group:
        _check_unique(merged.labels, np.concatenate([met for _, met in results]))
    return merge_equal(merged)


def _fill(matching: Matching, *, one: bool) -> float | None:
    """The value for a missing series of the one or the many side."""
    is_left = one == (matching.group == "right")
    literal = matching.fill_left if is_left else matching.fill_right
    return None if literal is None else literal.value


def _matched(expr: Binary, signatures: _Signatures, many: Vector, one: Vector) -> tuple[Vector, Mask]:
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
    labels = _labels(expr, many.labels.take(many_rows), one.labels.take(one_rows))
    return _result(expr, labels, many.values[many_rows], one.values[one_rows], met, many.drop_name[many_rows])


def _filled(
    expr: Binary, groups: Ints, side: Vector, others: Ints, signatures: _Signatures, *, of_many: bool
) -> tuple[Vector, Mask]:
    """The series of one side where the other is missing, whose value is then the fill's."""
    value = _fill(expr.matching, one=of_many)
    alone = side.present & (others[groups] == 0)
    rows = np.flatnonzero(alone.any(axis=1))
    other = np.full((len(rows), side.steps), np.nan if value is None else value)
    own, shared = side.labels.take(rows), signatures.labels.take(groups[rows])
    met = alone[rows]
    if of_many:
        return _result(expr, _labels(expr, own, shared), side.values[rows], other, met, side.drop_name[rows])
    return _result(expr, _labels(expr, shared, own), other, side.values[rows], met, np.zeros(len(rows), np.bool_))


def _result(
    expr: Binary, labels: LabelSets, many: Floats, one: Floats, met: Mask, drop_name: Mask
) -> tuple[Vector, Mask]:
    left, right = (one, many) if expr.matching.group == "right" else (many, one)
    values = compute(expr.operator, left, right)
    if expr.operator not in COMPARISONS:
        return Vector(labels, values, met, drop_name), met
    if expr.returns_bool:
        return Vector(labels, values, met, np.ones(len(labels), np.bool_)), met
    return Vector(labels, left, met & (values != 0), np.zeros(len(labels), np.bool_)), met


def _labels(expr: Binary, many: LabelSets, one: LabelSets) -> LabelSets:
    """The result's labels: the many side's, or those matched on, and what group_left or group_right includes."""
    matching = expr.matching
    labels = many if expr.operator in COMPARISONS else many.drop(METADATA)
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
    series = ", ".join(_show(labels) for labels in sets.take(sets.order()[:2]).to_dicts())
    side = "left" if expr.matching.group == "right" else "right"
    shown = _show(signatures.labels[group])
    return (
        f"found duplicate series for the match group {shown} on the {side} hand-side of the operation: [{series}]"
        ";many-to-many matching not allowed: matching labels must be unique on one side"
    )


def _show(labels: dict[str, str]) -> str:
    pairs = (
        f"{name if is_legacy_label_name(name) else quote(name)}={quote(value)}"
        for name, value in sorted(labels.items())
    )
    return "{" + ", ".join(pairs) + "}"


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
