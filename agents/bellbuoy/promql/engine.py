"""The engine: a query's text in, a QueryResult out. Synchronous; servers call it in threads of their own.

It parses, lays the grid of steps, watches limits, and makes the result what leaves the program: names dropped that
are to be, equal series made one, a range query's series sorted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event

import numpy as np

from bellbuoy._core import LabelSets
from bellbuoy.promql.annotations import Annotations
from bellbuoy.promql.calls import Value
from bellbuoy.promql.errors import TOO_MANY, ExecutionError, InvalidQuery, QueryCanceled, QueryTimeout
from bellbuoy.promql.evaluator import Evaluator, Query, Queryable, SharedValues
from bellbuoy.promql.nodes import Expr, MatrixSelector, bare_selectors, unwrap
from bellbuoy.promql.parser import parse
from bellbuoy.promql.pieces import in_pieces
from bellbuoy.promql.rates import extended_samples
from bellbuoy.promql.recorder import Recorder
from bellbuoy.promql.result import QueryResult
from bellbuoy.promql.values import Ints, Scalar, Text, Vector, drop_names, finish, is_histogram, unlabeled
from bellbuoy.promql.windows import Windows


@dataclass(frozen=True)
class EngineOptions:
    """Limits and defaults of every query."""

    lookback_seconds: float = 300.0
    """How long a sample serves an instant vector when no newer one comes: Prometheus's default."""
    max_samples: int = 50_000_000
    """How many samples a selector may load and a node may yield: about 400 MB for each."""
    timeout_seconds: float = 120.0
    """How long a query may take."""
    subquery_step_seconds: float = 60.0
    """The step of a subquery that names none: the evaluation interval."""


class Engine:
    """Answers queries from one source of samples. Thread-safe if that is."""

    def __init__(
        self, queryable: Queryable, options: EngineOptions | None = None, *, recorder: Recorder | None = None
    ) -> None:
        self._queryable = queryable
        self._options = options or EngineOptions()
        self._recorder = recorder

    def asking(
        self, queryable: Queryable, *, lookback_seconds: float | None = None, recorder: Recorder | None = None
    ) -> "Engine":
        """An engine for one query: of another source, with a lookback of its own, watched by a recorder."""
        options = self._options
        if lookback_seconds is not None:
            options = replace(options, lookback_seconds=lookback_seconds)
        return Engine(queryable, options, recorder=recorder)

    def instant(
        self,
        query: str,
        at_ms: int,
        *,
        cancelled: Event | Callable[[], bool] | None = None,
        expr: Expr | None = None,
        shared: SharedValues | None = None,
    ) -> QueryResult:
        """The query's value at one time. Raises QueryError.

        Who asks the same again and again gives what `parse` made of it as `expr`, and who asks much at one time may
        share values between queries.
        """
        expr = parse(query) if expr is None else expr
        _check_time(at_ms)
        times = np.array([at_ms], np.int64)
        annotations = Annotations(query)
        value = self._evaluate(expr, times, 0, annotations, cancelled, shared=shared)
        return _result(expr, value, times, annotations)

    def range(
        self,
        query: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        cancelled: Event | Callable[[], bool] | None = None,
        expr: Expr | None = None,
    ) -> QueryResult:
        """The query's value at each step from start to end, both included; `expr` as above. Raises QueryError."""
        expr = parse(query) if expr is None else expr
        if step_ms <= 0:
            raise InvalidQuery("zero or negative query resolution step widths are not accepted. Try a positive integer")
        if end_ms < start_ms:
            raise InvalidQuery("end timestamp must not be before start time")
        if expr.type not in ("scalar", "vector"):
            kind = {"matrix": "range vector"}.get(expr.type, expr.type)
            raise InvalidQuery(f'invalid expression type "{kind}" for range query, must be Scalar or instant Vector')
        _check_time(start_ms)
        _check_time(end_ms)
        count = (end_ms - start_ms) // step_ms + 1
        if count > self._options.max_samples:
            raise ExecutionError(TOO_MANY)
        times = start_ms + step_ms * np.arange(count, dtype=np.int64)
        annotations = Annotations(query)
        value = self._evaluate(expr, times, step_ms, annotations, cancelled, end_ms)
        vector = unlabeled(value.values) if isinstance(value, Scalar) else value
        if not isinstance(vector, Vector):
            raise TypeError("BUG: a range query gave neither scalar nor vector")
        if vector.histograms is not None and vector.weight() > self._options.max_samples:
            raise ExecutionError(TOO_MANY)
        vector = finish(vector)
        vector = vector.take(vector.labels.order())
        return _of_vector("matrix", vector, times, annotations)

    def _evaluate(
        self,
        expr: Expr,
        times: Ints,
        step_ms: int,
        annotations: Annotations,
        cancelled: Event | Callable[[], bool] | None,
        end_ms: int | None = None,
        *,
        shared: SharedValues | None = None,
    ) -> Value:
        options = self._options
        query = Query(
            queryable=self._queryable,
            annotations=annotations,
            start=int(times[0]),
            end=int(times[-1]) if end_ms is None else end_ms,
            step=step_ms,
            lookback_ms=round(options.lookback_seconds * 1000),
            subquery_step_ms=round(options.subquery_step_seconds * 1000),
            max_samples=options.max_samples,
            check=_checker(cancelled, options.timeout_seconds),
            bare=bare_selectors(expr),
            recorder=self._recorder,
            shared=shared,
        )
        try:
            if len(times) == 1:
                return Evaluator(query, times, query.end).evaluate(expr)

            def evaluate(part: Ints, at_once: int) -> Value:
                return Evaluator(replace(query, at_once=at_once), part, query.end).evaluate(expr)

            return in_pieces(evaluate, times)
        except RecursionError as e:
            raise ExecutionError("expression nested too deeply") from e


def _check_time(milliseconds: int) -> None:
    if abs(milliseconds) >= 2**62:
        raise InvalidQuery(f"time {milliseconds} ms is out of bounds")


def _checker(cancelled: Event | Callable[[], bool] | None, timeout_seconds: float) -> Callable[[], None]:
    deadline = time.monotonic() + timeout_seconds
    is_cancelled = cancelled.is_set if isinstance(cancelled, Event) else cancelled

    def check() -> None:
        if is_cancelled is not None and is_cancelled():
            raise QueryCanceled("query was canceled in expression evaluation")
        if time.monotonic() > deadline:
            raise QueryTimeout("query timed out in expression evaluation")

    return check


def _of_vector(kind: str, vector: Vector, times: Ints, annotations: Annotations) -> QueryResult:
    return QueryResult(
        "matrix" if kind == "matrix" else "vector",
        vector.labels,
        times,
        np.ascontiguousarray(vector.values),
        np.ascontiguousarray(vector.present),
        warnings=annotations.warnings,
        infos=annotations.infos,
        histograms=vector.histograms,
    )


def _result(expr: Expr, value: Value, times: Ints, annotations: Annotations) -> QueryResult:
    """An instant query's."""
    match value:
        case Vector():
            return _of_vector("vector", finish(value), times, annotations)
        case Windows():
            return _range_vector(expr, value, times, annotations)
        case Scalar():
            values, text, kind = value.values[None, :], "", "scalar"
        case Text():
            values, text, kind = np.zeros((1, 1)), value.value, "string"
    return QueryResult(
        "scalar" if kind == "scalar" else "string",
        LabelSets.from_dicts([{}]),
        times,
        values,
        np.ones((1, 1), np.bool_),
        text=text,
        warnings=annotations.warnings,
        infos=annotations.infos,
    )


def _range_vector(expr: Expr, windows: Windows, times: Ints, annotations: Annotations) -> QueryResult:
    expr = unwrap(expr)
    selector = expr.selector if isinstance(expr, MatrixSelector) else None
    extended = selector is not None and (selector.anchored or selector.smoothed)
    labels, offsets, timestamps, values = windows.samples.labels, [0], [], []
    rows: list[int] = []
    for block in windows.blocks():
        for row, (low, high) in enumerate(zip(block.low[:, 0].tolist(), block.high[:, 0].tolist(), strict=True)):
            when, what = windows.samples.timestamps[low:high], windows.samples.values[low:high]
            if extended and selector is not None:
                if is_histogram(what).any():
                    modifier = "smoothed" if selector.smoothed else "anchored"
                    raise ExecutionError(f"{modifier} modifier is not supported with histograms")
                when, what = extended_samples(when, what, windows, smoothed=selector.smoothed)
            if len(when):
                rows.append(block.rows.start + row)
                offsets.append(offsets[-1] + len(when))
                timestamps.append(when)
                values.append(what)
    chosen = np.array(rows, np.int64)
    return QueryResult(
        "matrix",
        drop_names(labels, windows.samples.drop_name).take(chosen),
        times,
        np.concatenate(values) if values else np.empty(0),
        np.empty((0, 0), np.bool_),
        offsets=np.array(offsets, np.int64),
        timestamps=np.concatenate(timestamps) if timestamps else np.empty(0, np.int64),
        warnings=annotations.warnings,
        infos=annotations.infos,
        histograms=windows.samples.histograms,
    )
