"""The evaluator: a syntax tree and a grid of steps in, one value for the whole grid out.

Each node is evaluated once, over all steps at once. A subquery evaluates its expression over a grid of its own and
makes windows of the result. What does not depend on the step (everything pinned by @) is evaluated for one step and
spread. Functions of windows are in `rates` and `over_time`, of buckets in `classic`, of groups in `grouping`, of
pairs of series in `matching`; here they are looked up, given their arguments, and their results put together. Cells
and samples that are native histograms are known by their marks; what becomes of them stands in `native`,
`native_windows` and `native_groups`, which nobody calls where there are none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bellbuoy._core import StorageError
from bellbuoy.exposition import go_number
from bellbuoy.promql import (
    elementwise,
    fused,
    grouping,
    labelling,
    matching,
    native,
    native_groups,
    native_windows,
    rates,
    windowed,
)
from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.calls import TIMED, Value, call
from bellbuoy.promql.durations import milliseconds
from bellbuoy.promql.errors import TOO_MANY, ExecutionError, TooManySamples
from bellbuoy.promql.nodes import (
    SET_OPERATORS,
    TRIMS,
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    left_chain,
)
from bellbuoy.promql.recorder import Recorder
from bellbuoy.promql.values import Floats, Ints, Scalar, Text, Vector, empty
from bellbuoy.promql.windows import Samples, Selected, Windows, latest


class Queryable(Protocol):
    """Where samples come from: the storage, or anything that selects as it does."""

    def select(
        self, matchers: Sequence[tuple[str, str, str]], start: int, end: int, *, max_samples: int = 0
    ) -> Selected:
        """All samples with start <= t <= end of the series that match. Raises OverflowError past max_samples."""
        ...


class SharedValues(Protocol):
    """What several queries at the same time have in common, so that it is evaluated once."""

    def value(self, expr: Expr, make: Callable[[], Value]) -> Value:
        """The expression's value: one that another query left, or what `make` gives."""
        ...


@dataclass(frozen=True)
class Query:
    """What stays the same while one query is evaluated."""

    queryable: Queryable
    annotations: Annotations
    start: int
    end: int
    step: int
    """Zero for an instant query."""
    lookback_ms: int
    subquery_step_ms: int
    max_samples: int
    check: Callable[[], None]
    """Raises when the query is canceled or out of time."""
    bare: frozenset[int] = frozenset()
    """The selectors, by their `id`, of whose histograms nobody will look at the buckets."""
    recorder: Recorder | None = None
    """Writes down what each node took, if that was asked for."""
    shared: SharedValues | None = None
    """Of an instant query only."""
    at_once: int = 0
    """How many samples a selector may load before the query is evaluated in pieces of its time; 0: max_samples."""


class Evaluator:
    """Evaluates over one grid of steps; subqueries make others for theirs."""

    def __init__(self, query: Query, times: Ints, end: int | None = None) -> None:
        self.query = query
        self.times = times
        # Of a grid that was asked for up to then; its last step may be earlier.
        self.end = int(times[-1]) if end is None else end
        self.notes = query.annotations

    # -- nodes

    def evaluate(self, expr: Expr) -> Value:
        """The expression's value at every step."""
        shared = self.query.shared
        if shared is None or len(self.times) != 1 or self.times[0] != self.query.start:
            return self._fresh(expr)
        return shared.value(expr, lambda: self._fresh(expr))

    def _fresh(self, expr: Expr) -> Value:
        self.query.check()
        steps = len(self.times)
        if steps > 1 and _is_invariant(expr):
            once = Evaluator(self.query, self.times[:1]).evaluate(expr)
            return _spread(once, steps)
        recorder = self.query.recorder
        value: Value = self._node(expr) if recorder is None else recorder.node(expr, self.times, self._node)
        if isinstance(value, Vector) and value.weight() > self.query.max_samples:
            raise ExecutionError(TOO_MANY)
        return value

    def _node(self, expr: Expr) -> Value:
        match expr:
            case NumberLiteral():
                return Scalar(np.full(len(self.times), expr.value))
            case StringLiteral():
                return Text(expr.value)
            case Paren():
                return self.evaluate(expr.expr)
            case VectorSelector():
                return self._selector(expr)
            case MatrixSelector() | Subquery():
                return self._windows(expr)
            case Unary():
                return self._unary(expr)
            case Binary():
                return self._binary(expr)
            case Aggregate():
                return self._aggregate(expr)
            case Call():
                return call(self, expr)
        raise ExecutionError(f"BUG: cannot evaluate {type(expr).__name__}")

    def vector(self, expr: Expr) -> Vector:
        """The value of an expression that the type checker knows to be a vector."""
        value = self.evaluate(expr)
        if not isinstance(value, Vector):
            raise ExecutionError(f"BUG: {type(value).__name__} where a vector belongs")
        return value

    def scalar(self, expr: Expr) -> Floats:
        """The numbers of an expression that the type checker knows to be a scalar."""
        value = self.evaluate(expr)
        if not isinstance(value, Scalar):
            raise ExecutionError(f"BUG: {type(value).__name__} where a scalar belongs")
        return value.values

    # -- selectors

    def _select(self, selector: VectorSelector, start: int, end: int, *, keep_stale: bool) -> Samples:
        limit = at_once = self.query.max_samples
        if self.query.at_once and selector.at is None:
            at_once = min(limit, self.query.at_once)
        try:
            selection = self.query.queryable.select(selector.all_matchers, start, end, max_samples=at_once)
        except OverflowError as e:
            raise TooManySamples(TOO_MANY) from e
        except StorageError as e:  # such as too many matchers
            raise ExecutionError(str(e)) from e
        self.query.check()
        samples = Samples.of(selection, keep_stale=keep_stale)
        if samples.histograms is not None and id(selector) in self.query.bare:
            samples = native_windows.bare(samples)
        if len(samples.labels) * len(self.times) > limit:
            raise ExecutionError(TOO_MANY)
        return samples

    def _ends(self, offset: Duration | None, at: At | None) -> Ints:
        """The times that a selector looks at, one a step."""
        times, moment = self.times, self.moment(at)
        if moment is not None:
            times = np.full(len(times), round(moment * 1000), np.int64)
        return times - self.offset_ms(offset)

    def moment(self, at: At | None) -> float | None:
        """The time that an @ names, in seconds."""
        if isinstance(at, str):
            return (self.query.start if at == "start" else self.query.end) / 1000
        return at

    def offset_ms(self, offset: Duration | None) -> int:
        """How long an offset is; none is 0."""
        return 0 if offset is None else self._milliseconds(offset)

    def _selector(self, expr: VectorSelector) -> Vector:
        ends, lookback = self._ends(expr.offset, expr.at), self.query.lookback_ms
        if expr.smoothed:
            return self._smoothed(expr, ends)
        samples = self._select(expr, int(ends[0]) - lookback + 1, int(ends[-1]), keep_stale=True)
        if len(samples.timestamps) == 0:
            return empty(len(ends))
        values, present = fused.latest(samples, ends, lookback, self.query.check)
        return Vector(samples.labels, values, present, samples.drop_name, samples.histograms).compact()

    def _smoothed(self, expr: VectorSelector, ends: Ints) -> Vector:
        lookback = self.query.lookback_ms
        samples = self._select(expr, int(ends[0]) - lookback + 1, int(ends[-1]) + lookback, keep_stale=False)
        windows = Windows(samples, ends, lookback, after_ms=lookback)
        vector = windowed.of_either(self, windows, expr, rates.interpolated, native_windows.interpolated)
        return replace(vector, drop_name=np.zeros(len(vector.labels), np.bool_))

    def sample_times(self, expr: VectorSelector, *, of_starts: bool = False, only_floats: bool = False) -> Vector:
        """The selector's samples' own times instead of their values; `of_starts`: when their counters began.

        Raises ExecutionError for a histogram where only floats may be: in an info metric.
        """
        ends, lookback = self._ends(expr.offset, expr.at), self.query.lookback_ms
        samples = self._select(expr, int(ends[0]) - lookback + 1, int(ends[-1]), keep_stale=True)
        times = samples.starts if of_starts else samples.timestamps
        if times is None or len(times) == 0:
            return empty(len(ends))
        index, present = latest(samples, ends, lookback)
        if only_floats and samples.histograms is not None:
            marked = (present & samples.is_marked[index]).any(axis=1)
            for labels in samples.labels.take(np.flatnonzero(marked)).to_dicts():
                raise ExecutionError(
                    f"this should be an info metric, with float samples: {labelling.show_labels(labels)}"
                )
        return Vector(samples.labels, times[index] / 1000, present, samples.drop_name).compact()

    def _windows(self, expr: MatrixSelector | Subquery) -> Windows:
        extent = self._milliseconds(expr.range, positive=True)
        if isinstance(expr, Subquery):
            return self._subquery(expr, extent)
        selector = expr.selector
        ends = self._ends(selector.offset, selector.at)
        before = self.query.lookback_ms if selector.anchored or selector.smoothed else 0
        after = self.query.lookback_ms if selector.smoothed else 0
        start, end = int(ends[0]) - extent - before + 1, int(ends[-1]) + after
        return Windows(self._select(selector, start, end, keep_stale=False), ends, extent, before, after)

    def _subquery(self, expr: Subquery, extent: int) -> Windows:
        step = self.query.subquery_step_ms if expr.step is None else self._milliseconds(expr.step, positive=True)
        ends = self._ends(expr.offset, expr.at)
        first = ((int(ends[0]) - extent) // step + 1) * step
        count = max(0, (int(ends[-1]) - first) // step + 1)
        if count > self.query.max_samples:
            raise ExecutionError(TOO_MANY)
        times = first + step * np.arange(count, dtype=np.int64)
        if len(times) == 0:
            return Windows(Samples.of_vector(empty(0), times), ends, extent)
        inner = Evaluator(self.query, times, int(ends[-1])).vector(expr.expr)
        return Windows(Samples.of_vector(inner.compact(), times), ends, extent)

    def _milliseconds(self, duration: Duration, *, positive: bool = False) -> int:
        query = self.query
        return milliseconds(duration, step_ms=query.step, range_ms=query.end - query.start, positive=positive)

    # -- operators

    def _unary(self, expr: Unary) -> Value:
        value = self.evaluate(expr.expr)
        if expr.operator == "+":
            return value
        if isinstance(value, Scalar):
            return Scalar(-value.values)
        if isinstance(value, Vector):
            if value.histograms is not None:
                return native.negative(value)
            return value.with_values(-value.values, drop_name=True)
        raise ExecutionError("BUG: unary operator on a range vector")

    def _binary(self, expr: Binary) -> Value:
        chain = left_chain(expr)  # a long chain of operators is no deep recursion
        value = self.evaluate(chain[0].left)
        for link in chain:
            self.query.check()
            value = self._operate(link, value, self.evaluate(link.right))
        return value

    def _operate(self, expr: Binary, left: Value, right: Value) -> Value:
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            if expr.operator in TRIMS:
                raise ExecutionError(f'operator "{expr.operator}" not allowed for Scalar operations')
            return Scalar(elementwise.binary(expr.operator, left.values, right.values))
        if isinstance(left, Vector) and isinstance(right, Vector):
            if expr.operator in SET_OPERATORS:
                return matching.set_operation(expr, left, right)
            return matching.between_vectors(expr, left, right, self.notes)
        if isinstance(left, Vector | Scalar) and isinstance(right, Vector | Scalar):
            return matching.with_scalar(expr, left, right, self.notes)
        raise ExecutionError("BUG: binary operator on a range vector")

    # -- aggregations

    def _aggregate(self, expr: Aggregate) -> Vector:
        parameter = None if expr.parameter is None else self.evaluate(expr.parameter)
        if isinstance(parameter, Text):
            labelling.check_label_name(parameter.value, "label name")
        if isinstance(parameter, Scalar):
            self._check_parameter(expr, parameter.values)
        groups = grouping.Groups.of(self.vector(expr.expr), expr.labels, without=expr.without)
        if groups.vector.histograms is not None and expr.operator not in native_groups.OF_ALL:
            if expr.operator in ("sum", "avg"):
                return native_groups.combined(groups, expr, self.notes)
            groups = native_groups.floats(groups, expr, parameter, self.notes)
        match parameter:
            case Text():
                return grouping.count_values(groups, parameter.value)
            case Scalar():
                return self._with_parameter(expr, groups, parameter.values)
        return grouping.aggregate(expr.operator, groups)

    def _check_parameter(self, expr: Aggregate, values: Floats) -> None:
        name = {"limit_ratio": "Ratio", "quantile": ""}.get(expr.operator, "Parameter")
        if name and np.isnan(values).any():
            raise ExecutionError(f"{name} value is NaN")
        if expr.operator in ("topk", "bottomk", "limitk"):
            for value in values[np.abs(values) >= 2.0**63]:
                way = "overflows" if value > 0 else "underflows"
                raise ExecutionError(f"Scalar value {go_number(float(value))} {way} int64")

    def _with_parameter(self, expr: Aggregate, groups: grouping.Groups, values: Floats) -> Vector:
        place = expr.parameter if expr.parameter is not None else expr
        match expr.operator:
            case "quantile":
                self.check_quantile(place, values)
                return grouping.quantiles(groups, values)
            case "limit_ratio":
                for value in dict.fromkeys(values[np.abs(values) > 1].tolist()):
                    self.notes.invalid_ratio(place, value, math.copysign(1.0, value))
                return grouping.select_ratio(groups, np.clip(values, -1.0, 1.0))
            case "limitk":
                return grouping.select_first(groups, values.astype(np.int64))
        chosen, order = grouping.select_extreme(groups, values.astype(np.int64), largest=expr.operator == "topk")
        return chosen.take(order) if self.query.step == 0 else chosen

    def check_quantile(self, place: Expr, values: Floats) -> None:
        for value in dict.fromkeys(values[~((values >= 0) & (values <= 1))].tolist()):
            self.notes.invalid_quantile(place, value)
            if value != value:
                return

    # -- what functions need

    def windows(self, expr: Expr) -> Windows:
        """The value of an expression that the type checker knows to be a range vector."""
        value = self.evaluate(expr)
        if not isinstance(value, Windows):
            raise ExecutionError(f"BUG: {type(value).__name__} where a range vector belongs")
        return value


def _is_invariant(expr: Expr) -> bool:
    """Whether the value is the same at every step: each selector pinned by @, and no function of the step's time."""
    pinned = False
    stack_ = [expr]
    while stack_:
        node = stack_.pop()
        match node:
            case VectorSelector():
                if node.at is None:
                    return False
                pinned = True
            case Subquery():
                # Its steps move with the time, even where what it evaluates does not.
                if node.at is None:
                    return False
                pinned = True
                continue
            case Call() if node.function in TIMED:
                return False
            case Call() if node.function in ("start", "end", "step", "range"):
                pass
        stack_.extend(node.children())
    return pinned and not isinstance(expr, MatrixSelector | Subquery)


def _spread(value: Value, steps: int) -> Value:
    match value:
        case Scalar():
            return Scalar(np.broadcast_to(value.values, (steps,)))
        case Vector():
            shape = (len(value.labels), steps)
            values, present = np.broadcast_to(value.values, shape), np.broadcast_to(value.present, shape)
            return replace(value, values=values, present=present)
    return value
