"""The evaluator: a syntax tree and a grid of steps in, one value for the whole grid out.

Each node is evaluated once, over all steps at once. A subquery evaluates its expression over a grid of its own and
makes windows of the result. What does not depend on the step (everything pinned by @) is evaluated for one step and
spread. Functions of windows are in `rates` and `over_time`, of buckets in `classic`, of groups in `grouping`, of
pairs of series in `matching`; here they are looked up, given their arguments, and their results put together. Float
samples only: native histograms have no place in a Selection yet.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias

import numpy as np

from bellbuoy.promql import classic, elementwise, grouping, labelling, matching, over_time, rates
from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.nodes import (
    SET_OPERATORS,
    TRIMS,
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    unwrap,
)
from bellbuoy.promql.values import Floats, Ints, Mask, Scalar, Text, Vector, empty, stack, unlabeled
from bellbuoy.promql.windows import Block, Samples, Selected, Windows, latest

Value: TypeAlias = Scalar | Text | Vector | Windows
Kernel: TypeAlias = Callable[[Block], tuple[Floats, Mask]]

TOO_MANY = "query processing would load too many samples into memory in query execution"
_MAX_LIMIT = 2**63 - 1
_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
_KEEPS_NAME = frozenset({"first_over_time", "last_over_time"})
_TIMED = frozenset({"time", "timestamp", "start_timestamp", "predict_linear"}) | elementwise.DATE_FUNCTIONS

_EXTENDED = {
    "anchored": ("changes", "delta", "increase", "rate", "resets"),
    "smoothed": ("delta", "increase", "rate"),
}

_KERNELS: dict[str, Kernel] = {
    "avg_over_time": over_time.averages,
    "count_over_time": over_time.counts,
    "first_over_time": over_time.firsts,
    "idelta": lambda block: rates.instant(block, is_rate=False),
    "irate": lambda block: rates.instant(block, is_rate=True),
    "last_over_time": over_time.lasts,
    "mad_over_time": over_time.absolute_deviations,
    "max_over_time": lambda block: over_time.extremes(block, np.fmax),
    "min_over_time": lambda block: over_time.extremes(block, np.fmin),
    "present_over_time": over_time.presence,
    "stddev_over_time": lambda block: over_time.variances(block, root=True),
    "stdvar_over_time": lambda block: over_time.variances(block, root=False),
    "sum_over_time": over_time.sums,
    "ts_of_first_over_time": over_time.first_times,
    "ts_of_last_over_time": over_time.last_times,
    "ts_of_max_over_time": lambda block: over_time.extreme_times(block, largest=True),
    "ts_of_min_over_time": lambda block: over_time.extreme_times(block, largest=False),
    "deriv": over_time.slopes,
}


class Queryable(Protocol):
    """Where samples come from: the storage, or anything that selects as it does."""

    def select(
        self, matchers: Sequence[tuple[str, str, str]], start: int, end: int, *, max_samples: int = 0
    ) -> Selected:
        """All samples with start <= t <= end of the series that match. Raises OverflowError past max_samples."""
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


class Evaluator:
    """Evaluates over one grid of steps; subqueries make others for theirs."""

    def __init__(self, query: Query, times: Ints) -> None:
        self._query = query
        self._times = times
        self._notes = query.annotations

    # -- nodes

    def evaluate(self, expr: Expr) -> Value:
        """The expression's value at every step."""
        self._query.check()
        steps = len(self._times)
        if steps > 1 and _is_invariant(expr):
            once = Evaluator(self._query, self._times[:1]).evaluate(expr)
            return _spread(once, steps)
        value = self._node(expr)
        if isinstance(value, Vector) and value.values.size > self._query.max_samples:
            raise ExecutionError(TOO_MANY)
        return value

    def _node(self, expr: Expr) -> Value:
        match expr:
            case NumberLiteral():
                return Scalar(np.full(len(self._times), expr.value))
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
                return self._call(expr)
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
        limit = self._query.max_samples
        try:
            selection = self._query.queryable.select(selector.all_matchers, start, end, max_samples=limit)
        except OverflowError as e:
            raise ExecutionError(TOO_MANY) from e
        self._query.check()
        return Samples.of(selection, keep_stale=keep_stale)

    def _ends(self, offset: Duration | None, at: At | None) -> Ints:
        """The times that a selector looks at, one a step."""
        times = self._times
        if at is not None:
            fixed = {"start": self._query.start, "end": self._query.end}.get(at) if isinstance(at, str) else None
            times = np.full(len(times), round(float(at) * 1000) if fixed is None else fixed, np.int64)
        return times - (0 if offset is None else self._milliseconds(offset))

    def _selector(self, expr: VectorSelector) -> Vector:
        ends, lookback = self._ends(expr.offset, expr.at), self._query.lookback_ms
        if expr.smoothed:
            return self._smoothed(expr, ends)
        samples = self._select(expr, int(ends[0]) - lookback + 1, int(ends[-1]), keep_stale=True)
        index, present = latest(samples, ends, lookback)
        if len(samples.timestamps) == 0:
            return empty(len(ends))
        return Vector(samples.labels, samples.values[index], present, samples.drop_name).compact()

    def _smoothed(self, expr: VectorSelector, ends: Ints) -> Vector:
        lookback = self._query.lookback_ms
        samples = self._select(expr, int(ends[0]) - lookback + 1, int(ends[-1]) + lookback, keep_stale=False)
        windows = Windows(samples, ends, lookback, after_ms=lookback)
        return self._map(windows, rates.interpolated, drop_name=False)

    def sample_times(self, expr: VectorSelector) -> Vector:
        """The selector's samples' own times instead of their values."""
        ends, lookback = self._ends(expr.offset, expr.at), self._query.lookback_ms
        samples = self._select(expr, int(ends[0]) - lookback + 1, int(ends[-1]), keep_stale=True)
        index, present = latest(samples, ends, lookback)
        if len(samples.timestamps) == 0:
            return empty(len(ends))
        return Vector(samples.labels, samples.timestamps[index] / 1000, present, samples.drop_name).compact()

    def _windows(self, expr: MatrixSelector | Subquery) -> Windows:
        extent = self._milliseconds(expr.range, positive=True)
        if isinstance(expr, Subquery):
            return self._subquery(expr, extent)
        selector = expr.selector
        ends = self._ends(selector.offset, selector.at)
        before = self._query.lookback_ms if selector.anchored or selector.smoothed else 0
        after = self._query.lookback_ms if selector.smoothed else 0
        start, end = int(ends[0]) - extent - before + 1, int(ends[-1]) + after
        return Windows(self._select(selector, start, end, keep_stale=False), ends, extent, before, after)

    def _subquery(self, expr: Subquery, extent: int) -> Windows:
        step = self._query.subquery_step_ms if expr.step is None else self._milliseconds(expr.step, positive=True)
        ends = self._ends(expr.offset, expr.at)
        first = ((int(ends[0]) - extent) // step + 1) * step
        times = np.arange(first, int(ends[-1]) + 1, step, dtype=np.int64)
        if len(times) > self._query.max_samples:
            raise ExecutionError(TOO_MANY)
        if len(times) == 0:
            return Windows(Samples.of_vector(empty(0), times), ends, extent)
        inner = Evaluator(self._query, times).vector(expr.expr)
        return Windows(Samples.of_vector(inner.compact(), times), ends, extent)

    def _milliseconds(self, duration: Duration, *, positive: bool = False) -> int:
        seconds = self._seconds(duration)
        if not abs(seconds) * 1000 < _MAX_LIMIT:
            raise ExecutionError("duration out of range")
        milliseconds = round(seconds * 1000)
        if positive and milliseconds <= 0:
            raise ExecutionError("duration must be greater than 0")
        return milliseconds

    def _seconds(self, duration: Duration | None) -> float:
        if duration is None:
            return 0.0
        if isinstance(duration, NumberLiteral):
            return duration.value
        if duration.operator == "step":
            return self._query.step / 1000
        if duration.operator == "range":
            return (self._query.end - self._query.start) / 1000
        left, right = self._seconds(duration.left), self._seconds(duration.right)
        return _arithmetic(duration, left, right)

    # -- operators

    def _unary(self, expr: Unary) -> Value:
        value = self.evaluate(expr.expr)
        if expr.operator == "+":
            return value
        if isinstance(value, Scalar):
            return Scalar(-value.values)
        if isinstance(value, Vector):
            return value.with_values(-value.values, drop_name=True)
        raise ExecutionError("BUG: unary operator on a range vector")

    def _binary(self, expr: Binary) -> Value:
        left, right = self.evaluate(expr.left), self.evaluate(expr.right)
        if expr.operator in TRIMS:
            return self._trim(expr, left, right)
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            return Scalar(matching.compute(expr.operator, left.values, right.values))
        if isinstance(left, Vector) and isinstance(right, Vector):
            if expr.operator in SET_OPERATORS:
                return matching.set_operation(expr, left, right)
            return matching.between_vectors(expr, left, right)
        if isinstance(left, Vector | Scalar) and isinstance(right, Vector | Scalar):
            return matching.with_scalar(expr, left, right)
        raise ExecutionError("BUG: binary operator on a range vector")

    def _trim(self, expr: Binary, left: Value, right: Value) -> Vector:
        """`</` and `>/` cut observations off native histograms; floats have none, which is said."""
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            raise ExecutionError(f'operator "{expr.operator}" not allowed for Scalar operations')
        if any(isinstance(side, Vector) and side.present.any() for side in (left, right)):
            text = f'incompatible sample types encountered for binary operator "{expr.operator}"'
            self._notes.info(expr, f"{text}: float {expr.operator} float")
        return empty(len(self._times))

    # -- aggregations

    def _aggregate(self, expr: Aggregate) -> Vector:
        parameter = None if expr.parameter is None else self.evaluate(expr.parameter)
        if isinstance(parameter, Text):
            labelling.check_label_name(parameter.value, "label name")
        if isinstance(parameter, Scalar):
            self._check_parameter(expr, parameter.values)
        groups = grouping.Groups.of(self.vector(expr.expr), expr.labels, without=expr.without)
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
                raise ExecutionError(f"Scalar value {value:g} {way} int64")

    def _with_parameter(self, expr: Aggregate, groups: grouping.Groups, values: Floats) -> Vector:
        place = expr.parameter if expr.parameter is not None else expr
        match expr.operator:
            case "quantile":
                self._check_quantile(place, values)
                return grouping.quantiles(groups, values)
            case "limit_ratio":
                for value in dict.fromkeys(values[np.abs(values) > 1].tolist()):
                    self._notes.invalid_ratio(place, value, math.copysign(1.0, value))
                return grouping.select_ratio(groups, np.clip(values, -1.0, 1.0))
            case "limitk":
                return grouping.select_first(groups, values.astype(np.int64))
        chosen, order = grouping.select_extreme(groups, values.astype(np.int64), largest=expr.operator == "topk")
        return chosen.take(order) if self._query.step == 0 else chosen

    def _check_quantile(self, place: Expr, values: Floats) -> None:
        for value in dict.fromkeys(values[~((values >= 0) & (values <= 1))].tolist()):
            self._notes.invalid_quantile(place, value)
            if value != value:
                return

    # -- functions

    def _call(self, expr: Call) -> Value:
        name, arguments = expr.function, expr.arguments
        _check_extended(expr)
        if name in elementwise.MATH:
            vector = self.vector(arguments[0])
            with np.errstate(all="ignore"):
                return vector.with_values(elementwise.MATH[name](vector.values), drop_name=True)
        if name in elementwise.DATE_FUNCTIONS:
            if not arguments:
                return unlabeled(elementwise.date_part(name, self._times / 1000))
            vector = self.vector(arguments[0])
            return vector.with_values(elementwise.date_part(name, vector.values), drop_name=True)
        if name in _KERNELS:
            return self._over(expr, arguments[0], _KERNELS[name])
        return _FUNCTIONS[name](self, expr)

    def windows(self, expr: Expr) -> Windows:
        """The value of an expression that the type checker knows to be a range vector."""
        value = self.evaluate(expr)
        if not isinstance(value, Windows):
            raise ExecutionError(f"BUG: {type(value).__name__} where a range vector belongs")
        return value

    def _over(self, expr: Call, argument: Expr, kernel: Kernel) -> Vector:
        return self._map(self.windows(argument), kernel, drop_name=expr.function not in _KEEPS_NAME)

    def _map(self, windows: Windows, kernel: Kernel, *, drop_name: bool) -> Vector:
        """The function of every window."""
        samples, steps = windows.samples, len(windows.ends)
        count = len(samples.labels)
        if count == 0 or len(samples.timestamps) == 0:
            return empty(steps)
        if count * steps > self._query.max_samples:
            raise ExecutionError(TOO_MANY)
        values, present = np.empty((count, steps)), np.empty((count, steps), np.bool_)
        for block in windows.blocks():
            self._query.check()
            values[block.rows], present[block.rows] = kernel(block)
        names = np.ones(count, np.bool_) if drop_name else samples.drop_name
        return Vector(samples.labels, values, present, names).compact()

    # Functions of one kind each, in the order of their names.

    def _absent(self, expr: Call) -> Vector:
        there = self.vector(expr.arguments[0]).present.any(axis=0)
        return unlabeled(np.ones(len(self._times)), np.logical_not(there), labelling.labels_of_absent(expr))

    def _absent_over_time(self, expr: Call) -> Vector:
        there = self._map(self.windows(expr.arguments[0]), over_time.presence, drop_name=True).present.any(axis=0)
        return unlabeled(np.ones(len(self._times)), np.logical_not(there), labelling.labels_of_absent(expr))

    def _clamp(self, expr: Call) -> Vector:
        vector = self.vector(expr.arguments[0])
        bounds = [self.scalar(argument) for argument in expr.arguments[1:]]
        values, present = vector.values, vector.present
        if expr.function == "clamp_max":
            values = np.minimum(values, bounds[0])
        elif expr.function == "clamp_min":
            values = np.maximum(values, bounds[0])
        else:
            values = np.maximum(bounds[0], np.minimum(bounds[1], values))
            present = present & ~(bounds[0] > bounds[1])
        return vector.with_values(values, present, drop_name=True)

    def _edge(self, expr: Call) -> Scalar:
        query = self._query
        value = {"start": query.start, "end": query.end, "step": query.step, "range": query.end - query.start}
        return Scalar(np.full(len(self._times), value[expr.function] / 1000))

    def _double_exponential_smoothing(self, expr: Call) -> Vector:
        smoothing, trend = self.scalar(expr.arguments[1]), self.scalar(expr.arguments[2])
        windows = self.windows(expr.arguments[0])
        for values, name, short in ((smoothing, "smoothing", "sf"), (trend, "trend", "tf")):
            wrong = values[(values <= 0) | (values >= 1)]
            if len(wrong) and len(windows.samples.labels):
                raise ExecutionError(f"invalid {name} factor. Expected: 0 < {short} < 1, got: {wrong[0]:f}")
        return self._map(windows, lambda b: over_time.smoothed_exponentially(b, smoothing, trend), drop_name=True)

    def _histogram_fraction(self, expr: Call) -> Vector:
        lower, upper = self.scalar(expr.arguments[0]), self.scalar(expr.arguments[1])
        histograms = classic.Histograms(self.vector(expr.arguments[2]), expr.arguments[2], self._notes)
        return histograms.compute(classic.fraction(lower, upper))

    def _histogram_quantile(self, expr: Call) -> Vector:
        quantile = self.scalar(expr.arguments[0])
        self._check_quantile(expr.arguments[0], quantile)
        histograms = classic.Histograms(self.vector(expr.arguments[1]), expr.arguments[1], self._notes)
        return histograms.compute(classic.quantile(quantile))

    def _histogram_quantiles(self, expr: Call) -> Vector:
        label = self._text(expr.arguments[1])
        labelling.check_label_name(label, "label name")
        histograms = classic.Histograms(self.vector(expr.arguments[0]), expr.arguments[0], self._notes)
        parts = []
        for argument in expr.arguments[2:]:
            quantile = self.scalar(argument)
            self._check_quantile(argument, quantile)
            part = histograms.compute(classic.quantile(quantile))
            values = quantile if len(set(quantile.tolist())) > 1 else quantile[:1]
            for step, value in enumerate(values.tolist()):
                here = part.present if len(values) == 1 else part.present & (np.arange(part.steps) == step)
                labels = part.labels.set(label, [_openmetrics(value)] * len(part.labels))
                parts.append(replace(part, labels=labels, present=here))
        return stack(parts) if parts else empty(len(self._times))

    def _integral(self, expr: Call) -> Vector:
        rule = np.full(len(self._times), 2.0)
        if len(expr.arguments) > 1:
            rule = self.scalar(expr.arguments[1])
            for value in dict.fromkeys(rule[~np.isin(rule, (0.0, 1.0, 2.0))].tolist()):
                text = f"integral rule should be 0 (left), 1 (right) or 2 (mid-point), got {value:g}, using mid-point"
                self._notes.warn(expr.arguments[1], text)
        return self._map(self.windows(expr.arguments[0]), lambda b: over_time.integrals(b, rule), drop_name=True)

    def _info(self, expr: Call) -> Vector:
        raise ExecutionError("info() is not available; join with on() and group_left() instead")

    def _label_join(self, expr: Call) -> Vector:
        target, separator, *sources = [self._text(argument) for argument in expr.arguments[1:]]
        return labelling.join_labels(self.vector(expr.arguments[0]), target, separator, sources)

    def _label_replace(self, expr: Call) -> Vector:
        target, template, source, pattern = [self._text(argument) for argument in expr.arguments[1:]]
        return labelling.replace_label(self.vector(expr.arguments[0]), target, template, source, pattern)

    def _max_of(self, expr: Call) -> Scalar:
        left, right = (self.scalar(argument) for argument in expr.arguments)
        return Scalar(np.maximum(left, right) if expr.function == "max_of" else np.minimum(left, right))

    def _of_native(self, expr: Call) -> Vector:
        """Functions of native histograms, of which float samples have none."""
        self.vector(expr.arguments[0])
        return empty(len(self._times))

    def _pi(self, expr: Call) -> Scalar:
        return Scalar(np.full(len(self._times), math.pi))

    def _predict_linear(self, expr: Call) -> Vector:
        seconds, times = self.scalar(expr.arguments[1]), self._times

        def predict(block: Block) -> tuple[Floats, Mask]:
            slope, intercept, present = over_time.regressions(block, times)
            with np.errstate(invalid="ignore"):
                return slope * seconds + intercept, present

        return self._over(expr, expr.arguments[0], predict)

    def _quantile_over_time(self, expr: Call) -> Vector:
        quantile = self.scalar(expr.arguments[0])
        windows = self.windows(expr.arguments[1])
        if len(windows.samples.labels):
            self._check_quantile(expr.arguments[0], quantile)
        return self._map(windows, lambda block: over_time.quantiles(block, quantile), drop_name=True)

    def _rate(self, expr: Call) -> Vector:
        """rate, increase, delta, changes and resets: what may be anchored, and most of it smoothed."""
        name, argument = expr.function, unwrap(expr.arguments[0])
        selector = argument.selector if isinstance(argument, MatrixSelector) else None
        is_anchored = selector is not None and selector.anchored
        is_counter, is_rate = name != "delta", name == "rate"
        if name in ("changes", "resets"):
            only_falls = name == "resets"
            return self._over(
                expr, argument, lambda b: rates.transitions(b, only_falls=only_falls, is_anchored=is_anchored)
            )
        form = rates.extrapolated
        if selector is not None and (is_anchored or selector.smoothed):
            form = rates.anchored if is_anchored else rates.smoothed
        result = self._over(expr, argument, lambda b: form(b, is_counter=is_counter, is_rate=is_rate))
        if is_counter:
            for metric in dict.fromkeys(result.labels.get("__name__")):
                if metric and not metric.endswith(_COUNTER_SUFFIXES):
                    self._notes.possible_non_counter(expr.arguments[0], metric)
        return result

    def _round(self, expr: Call) -> Vector:
        vector = self.vector(expr.arguments[0])
        nearest = self.scalar(expr.arguments[1]) if len(expr.arguments) > 1 else np.ones(len(self._times))
        return vector.with_values(elementwise.round_to(vector.values, nearest), drop_name=True)

    def _scalar(self, expr: Call) -> Scalar:
        vector = self.vector(expr.arguments[0])
        alone = vector.present.sum(axis=0) == 1
        return Scalar(np.where(alone, np.where(vector.present, vector.values, 0.0).sum(axis=0), np.nan))

    def _sort(self, expr: Call) -> Vector:
        vector = self.vector(expr.arguments[0])
        if self._query.step:
            self._notes.ineffective_sort(expr)
            return vector
        descending = expr.function.endswith("_desc")
        if expr.function.startswith("sort_by_label"):
            labels = [self._text(argument) for argument in expr.arguments[1:]]
            return vector.take(labelling.order_by_labels(vector, labels, descending=descending))
        return vector.take(labelling.order_by_value(vector, descending=descending))

    def _text(self, expr: Expr) -> str:
        value = self.evaluate(expr)
        if not isinstance(value, Text):
            raise ExecutionError(f"BUG: {type(value).__name__} where a string belongs")
        return value.value

    def _time(self, expr: Call) -> Scalar:
        return Scalar(self._times / 1000)

    def _timestamp(self, expr: Call) -> Vector:
        selector = unwrap(expr.arguments[0])
        if isinstance(selector, VectorSelector) and not selector.smoothed:
            times = self.sample_times(selector)
            return times.with_values(times.values, drop_name=True)
        vector = self.vector(selector)
        values = np.broadcast_to(self._times / 1000, vector.values.shape)
        return vector.with_values(values, drop_name=True)

    def _start_timestamp(self, expr: Call) -> Vector:
        """When each sample's counter began to count, which no sample here says."""
        vector = self.vector(expr.arguments[0])
        return vector.with_values(vector.values, np.zeros_like(vector.present), drop_name=True)

    def _vector(self, expr: Call) -> Vector:
        return unlabeled(self.scalar(expr.arguments[0]))

    functions: "ClassVar[dict[str, Callable[[Evaluator, Call], Value]]]" = {
        "absent": _absent,
        "absent_over_time": _absent_over_time,
        **dict.fromkeys(("changes", "delta", "increase", "rate", "resets"), _rate),
        **dict.fromkeys(("clamp", "clamp_max", "clamp_min"), _clamp),
        "double_exponential_smoothing": _double_exponential_smoothing,
        **dict.fromkeys(("end", "range", "start", "step"), _edge),
        "histogram_fraction": _histogram_fraction,
        "histogram_quantile": _histogram_quantile,
        "histogram_quantiles": _histogram_quantiles,
        **dict.fromkeys((f"histogram_{part}" for part in ("avg", "count", "stddev", "stdvar", "sum")), _of_native),
        "info": _info,
        "integral": _integral,
        "label_join": _label_join,
        "label_replace": _label_replace,
        **dict.fromkeys(("max_of", "min_of"), _max_of),
        "pi": _pi,
        "predict_linear": _predict_linear,
        "quantile_over_time": _quantile_over_time,
        "round": _round,
        "scalar": _scalar,
        **dict.fromkeys(("sort", "sort_by_label", "sort_by_label_desc", "sort_desc"), _sort),
        "start_timestamp": _start_timestamp,
        "time": _time,
        "timestamp": _timestamp,
        "vector": _vector,
    }


_FUNCTIONS = Evaluator.functions


def _check_extended(expr: Call) -> None:
    for argument in map(unwrap, expr.arguments):
        if not isinstance(argument, MatrixSelector):
            continue
        for modifier, allowed in _EXTENDED.items():
            if getattr(argument.selector, modifier) and expr.function not in allowed:
                names = ", ".join(allowed)
                text = f"{modifier} modifier can only be used with: {names} - not with {expr.function}"
                raise ExecutionError(text)


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
            case Subquery() if node.at is not None:
                pinned = True
                continue
            case Call() if node.function in _TIMED:
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


def _arithmetic(duration: DurationExpr, left: float, right: float) -> float:
    match duration.operator:
        case "()":
            return left
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/" | "%" if right == 0:
            raise ExecutionError("division by zero" if duration.operator == "/" else "modulo by zero")
        case "/":
            return left / right
        case "%":
            return math.fmod(left, right)
        case "^":
            try:
                return math.pow(left, right)
            except (OverflowError, ValueError) as e:
                raise ExecutionError("duration out of range") from e
        case "min_of":
            return min(left, right)
        case "max_of":
            return max(left, right)
    raise ExecutionError(f"BUG: no duration operator {duration.operator}")


def _openmetrics(value: float) -> str:
    """A number as OpenMetrics writes it in a label: 1.0, not 1."""
    if value == 0:
        return "0.0"
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = np.format_float_positional(value, unique=True, trim="0")
    return text if 1e-4 <= abs(value) < 1e21 else repr(value)
