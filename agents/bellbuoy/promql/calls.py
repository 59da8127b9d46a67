"""Functions of PromQL, called with an evaluator for their arguments.

Most are one kernel over windows or one function of single values, and are looked up; those with arguments or rules of
their own stand below, in the order of their names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bellbuoy.exposition import go_number
from bellbuoy.labels import Matcher
from bellbuoy.promql import classic, elementwise, info, labelling, native, over_time, windowed
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.nodes import Call, Expr, VectorSelector, unwrap
from bellbuoy.promql.values import Floats, Mask, Scalar, Text, Vector, empty, stack, unlabeled
from bellbuoy.promql.windows import Block, Windows

if TYPE_CHECKING:
    from bellbuoy.promql.evaluator import Evaluator

Value: TypeAlias = Scalar | Text | Vector | Windows

TIMED = frozenset({"time", "timestamp", "start_timestamp", "predict_linear"}) | elementwise.DATE_FUNCTIONS


def call(ev: Evaluator, expr: Call) -> Value:
    """The function's value at every step."""
    name, arguments = expr.function, expr.arguments
    windowed.check_extended(expr)
    if name in elementwise.MATH:
        vector = ev.vector(arguments[0]).floats()
        with np.errstate(all="ignore"):
            return vector.with_values(elementwise.MATH[name](vector.values), drop_name=True)
    if name in elementwise.DATE_FUNCTIONS:
        if not arguments:
            return unlabeled(elementwise.date_part(name, ev.times / 1000))
        vector = ev.vector(arguments[0]).floats()
        return vector.with_values(elementwise.date_part(name, vector.values), drop_name=True)
    if name in windowed.FUNCTIONS:
        return windowed.call(ev, expr)
    if name in native.READERS:
        return native.read(ev.vector(arguments[0]), native.READERS[name])
    return _FUNCTIONS[name](ev, expr)


def _absent(ev: Evaluator, expr: Call) -> Vector:
    there = ev.vector(expr.arguments[0]).present.any(axis=0)
    return unlabeled(np.ones(len(ev.times)), np.logical_not(there), labelling.labels_of_absent(expr))


def _absent_over_time(ev: Evaluator, expr: Call) -> Vector:
    there = windowed.of_all(ev, ev.windows(expr.arguments[0]), over_time.presence).present.any(axis=0)
    return unlabeled(np.ones(len(ev.times)), np.logical_not(there), labelling.labels_of_absent(expr))


def _clamp(ev: Evaluator, expr: Call) -> Vector:
    vector = ev.vector(expr.arguments[0]).floats()
    bounds = [ev.scalar(argument) for argument in expr.arguments[1:]]
    values, present = vector.values, vector.present
    if expr.function == "clamp_max":
        values = elementwise.smaller(values, bounds[0])
    elif expr.function == "clamp_min":
        values = elementwise.larger(values, bounds[0])
    else:
        values = elementwise.larger(bounds[0], elementwise.smaller(bounds[1], values))
        present = present & ~(bounds[0] > bounds[1])
    return vector.with_values(values, present, drop_name=True)


def _edge(ev: Evaluator, expr: Call) -> Scalar:
    query = ev.query
    length = query.end - query.start
    # A range of one moment has no step.
    value = {"start": query.start, "end": query.end, "step": query.step if length else 0, "range": length}
    return Scalar(np.full(len(ev.times), value[expr.function] / 1000))


def _double_exponential_smoothing(ev: Evaluator, expr: Call) -> Vector:
    smoothing, trend = ev.scalar(expr.arguments[1]), ev.scalar(expr.arguments[2])
    windows = ev.windows(expr.arguments[0])
    for values, name, short in ((smoothing, "smoothing", "sf"), (trend, "trend", "tf")):
        wrong = values[(values <= 0) | (values >= 1)]
        if len(wrong) and len(windows.samples.labels):
            raise ExecutionError(f"invalid {name} factor. Expected: 0 < {short} < 1, got: {wrong[0]:f}")

    def smooth(block: Block) -> tuple[Floats, Mask]:
        return over_time.smoothed_exponentially(block, smoothing, trend)

    return windowed.of_floats(ev, windows, windowed.place_of(expr.arguments[0]), smooth)


def _histogram_fraction(ev: Evaluator, expr: Call) -> Vector:
    bounds = ev.scalar(expr.arguments[0]), ev.scalar(expr.arguments[1])
    argument = expr.arguments[2]
    vector = ev.vector(argument)
    result = _classic(ev, vector, argument).compute(classic.fraction(*bounds))
    if vector.histograms is None:
        return result
    return native.beside_classic(result, native.fractions(vector, bounds, argument, ev.notes), argument, ev.notes)


def _histogram_quantile(ev: Evaluator, expr: Call) -> Vector:
    quantile = ev.scalar(expr.arguments[0])
    ev.check_quantile(expr.arguments[0], quantile)
    vector = ev.vector(expr.arguments[1])
    return _quantiles(ev, vector, _classic(ev, vector, expr.arguments[1]), quantile, expr.arguments[1])


def _classic(ev: Evaluator, vector: Vector, argument: Expr) -> classic.Histograms:
    return classic.Histograms(vector.floats().compact(), ev.times, argument, ev.notes)


def _quantiles(
    ev: Evaluator, vector: Vector, histograms: classic.Histograms, quantile: Floats, argument: Expr
) -> Vector:
    result = histograms.compute(classic.quantile(quantile))
    if vector.histograms is None:
        return result
    return native.beside_classic(result, native.quantiles(vector, quantile, argument, ev.notes), argument, ev.notes)


def _histogram_quantiles(ev: Evaluator, expr: Call) -> Vector:
    label = _text(ev, expr.arguments[1])
    labelling.check_label_name(label, "label name")
    vector = ev.vector(expr.arguments[0])
    histograms = _classic(ev, vector, expr.arguments[0])
    parts = []
    for argument in expr.arguments[2:]:
        quantile = ev.scalar(argument)
        ev.check_quantile(argument, quantile)
        part = _quantiles(ev, vector, histograms, quantile, expr.arguments[0])
        values = quantile if len(set(quantile.tolist())) > 1 else quantile[:1]
        for step, value in enumerate(values.tolist()):
            here = part.present if len(values) == 1 else part.present & (np.arange(part.steps) == step)
            labels = part.labels.set(label, [_openmetrics(value)] * len(part.labels))
            parts.append(replace(part, labels=labels, present=here))
    return stack(parts) if parts else empty(len(ev.times))


def _integral(ev: Evaluator, expr: Call) -> Vector:
    rule = np.full(len(ev.times), 2.0)
    if len(expr.arguments) > 1:
        rule = ev.scalar(expr.arguments[1])
        for value in dict.fromkeys(rule[~np.isin(rule, (0.0, 1.0, 2.0))].tolist()):
            text = "strategy should be 0, 1, or 2 (default), using 2, got"
            ev.notes.warn(expr.arguments[1], f"{text} {go_number(value)}")
    argument = expr.arguments[0]
    windows, place = ev.windows(argument), windowed.place_of(argument)
    return windowed.of_floats(ev, windows, place, lambda block: over_time.integrals(block, rule))


def _info(ev: Evaluator, expr: Call) -> Vector:
    argument = expr.arguments[0]
    base = ev.vector(argument)
    selector = expr.arguments[1] if len(expr.arguments) > 1 else None
    matchers = [Matcher(*one) for one in selector.all_matchers] if isinstance(selector, VectorSelector) else []
    names = info.name_matchers(matchers)
    data = [matcher for matcher in matchers if matcher.name != "__name__"]
    exempt = [all(one.matches_value(name) for one in names) for name in base.labels.get("__name__")]
    found = [empty(len(ev.times))]
    for identity in info.identities(base.take(np.flatnonzero(np.logical_not(exempt)))):
        selected = VectorSelector("", (*names, *data, *identity))
        looked = info.looking(argument, selected, ev.moment, ev.offset_ms)
        found.append(ev.sample_times(looked, only_floats=True))
    return info.combine(base, stack(found), data, exempt)


def _label_join(ev: Evaluator, expr: Call) -> Vector:
    target, separator, *sources = [_text(ev, argument) for argument in expr.arguments[1:]]
    return labelling.join_labels(ev.vector(expr.arguments[0]), target, separator, sources)


def _label_replace(ev: Evaluator, expr: Call) -> Vector:
    target, template, source, pattern = [_text(ev, argument) for argument in expr.arguments[1:]]
    return labelling.replace_label(ev.vector(expr.arguments[0]), target, template, source, pattern)


def _max_of(ev: Evaluator, expr: Call) -> Scalar:
    left, right = (ev.scalar(argument) for argument in expr.arguments)
    return Scalar((elementwise.larger if expr.function == "max_of" else elementwise.smaller)(left, right))


def _pi(ev: Evaluator, expr: Call) -> Scalar:
    return Scalar(np.full(len(ev.times), math.pi))


def _predict_linear(ev: Evaluator, expr: Call) -> Vector:
    seconds, times = ev.scalar(expr.arguments[1]), ev.times

    def predict(block: Block) -> tuple[Floats, Mask]:
        slope, intercept, present = over_time.regressions(block, times)
        with np.errstate(invalid="ignore"):
            return slope * seconds + intercept, present

    argument = expr.arguments[0]
    return windowed.of_floats(ev, ev.windows(argument), windowed.place_of(argument), predict)


def _quantile_over_time(ev: Evaluator, expr: Call) -> Vector:
    quantile = ev.scalar(expr.arguments[0])
    windows = ev.windows(expr.arguments[1])
    if len(windows.samples.floats().timestamps):
        ev.check_quantile(expr.arguments[0], quantile)
    # The place of the info is the quantile's, as in Prometheus.
    return windowed.of_floats(ev, windows, expr.arguments[0], lambda block: over_time.quantiles(block, quantile))


def _round(ev: Evaluator, expr: Call) -> Vector:
    vector = ev.vector(expr.arguments[0]).floats()
    nearest = ev.scalar(expr.arguments[1]) if len(expr.arguments) > 1 else np.ones(len(ev.times))
    return vector.with_values(elementwise.round_to(vector.values, nearest), drop_name=True)


def _scalar(ev: Evaluator, expr: Call) -> Scalar:
    vector = ev.vector(expr.arguments[0]).floats()
    alone = vector.present.sum(axis=0) == 1
    return Scalar(np.where(alone, np.where(vector.present, vector.values, 0.0).sum(axis=0), np.nan))


def _sort(ev: Evaluator, expr: Call) -> Vector:
    vector = ev.vector(expr.arguments[0])
    by_label = expr.function.startswith("sort_by_label")
    if not by_label:
        vector = vector.floats().compact()
    if ev.times[0] != ev.end:
        ev.notes.ineffective_sort(expr)
        return vector
    descending = expr.function.endswith("_desc")
    if by_label:
        labels = [_text(ev, argument) for argument in expr.arguments[1:]]
        return vector.take(labelling.order_by_labels(vector, labels, descending=descending))
    return vector.take(labelling.order_by_value(vector, descending=descending))


def _text(ev: Evaluator, expr: Expr) -> str:
    value = ev.evaluate(expr)
    if not isinstance(value, Text):
        raise ExecutionError(f"BUG: {type(value).__name__} where a string belongs")
    return value.value


def _time(ev: Evaluator, expr: Call) -> Scalar:
    return Scalar(ev.times / 1000)


def _timestamp(ev: Evaluator, expr: Call) -> Vector:
    selector = unwrap(expr.arguments[0])
    if isinstance(selector, VectorSelector):
        times = ev.sample_times(selector)
        return times.with_values(times.values, drop_name=True)
    vector = ev.vector(selector)
    values = np.broadcast_to(ev.times / 1000, vector.values.shape)
    return replace(vector.with_values(values, drop_name=True), histograms=None)


def _start_timestamp(ev: Evaluator, expr: Call) -> Vector:
    """When each sample's counter began to count; of a selector only, and nothing where the storage does not know."""
    selector = unwrap(expr.arguments[0])
    if isinstance(selector, VectorSelector):
        starts = ev.sample_times(selector, of_starts=True)
        return starts.with_values(starts.values, drop_name=True)
    ev.vector(selector)
    return empty(len(ev.times))


def _vector(ev: Evaluator, expr: Call) -> Vector:
    return unlabeled(ev.scalar(expr.arguments[0]))


_FUNCTIONS: dict[str, Callable[[Evaluator, Call], Value]] = {
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    **dict.fromkeys(("clamp", "clamp_max", "clamp_min"), _clamp),
    "double_exponential_smoothing": _double_exponential_smoothing,
    **dict.fromkeys(("end", "range", "start", "step"), _edge),
    "histogram_fraction": _histogram_fraction,
    "histogram_quantile": _histogram_quantile,
    "histogram_quantiles": _histogram_quantiles,
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


def _openmetrics(value: float) -> str:
    """A number as OpenMetrics writes it in a label: 1.0, not 1."""
    if value == 0:
        return "0.0"
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    text = np.format_float_positional(value, unique=True, trim="0")
    return text if 1e-4 <= abs(value) < 1e21 else repr(value)
