"""A rule on the stored history: when it would have fired, had it been there.

The expression is evaluated over the whole time at once, and its values are handed, one evaluation after the other, to
the same `AlertingRule` that a server runs: there is no second idea of what `for` or `keep_firing_for` mean. Where a
value depends on the query's own time (`@ end()`), or fails at some of the times, each evaluation is a query of its own.
What the rule would have recorded is not there: who reads other rules' results sees those that were stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bellbuoy.promql import (
    Engine,
    ExecutionError,
    Expr,
    QueryCanceled,
    QueryResult,
    Subquery,
    VectorSelector,
    parse,
    walk,
)
from bellbuoy.promql.nodes import Call, DurationExpr, MatrixSelector
from bellbuoy.rules.alerting import FIRING, PENDING, AlertingRule, TemplateContext, format_alert_value
from bellbuoy.rules.config import RuleConfig
from bellbuoy.rules.evaluation import query_samples, sample_values
from bellbuoy.rules.recording import RecordingRule, RuleError
from bellbuoy.rules.restoring import Key
from bellbuoy.tsdb import LabelSets

# As many points as a graph may have.
EVALUATIONS_LIMIT = 11_000
# What is told of; more is counted.
FIRINGS_LIMIT = 1_000
# The first ones are told with their annotations; these may ask the engine.
ANNOTATED_LIMIT = 100


class BacktestError(ValueError):
    """A backtest that cannot be made; the text says why and what to change."""


@dataclass(frozen=True)
class Window:
    """The time of a backtest, in milliseconds: evaluations at start, and each interval up to the end."""

    start_ms: int
    end_ms: int
    interval_ms: int

    def __post_init__(self) -> None:
        if self.interval_ms <= 0:
            raise BacktestError("cannot try the rule: interval must be more than 0; write a duration such as 1m")
        if self.end_ms < self.start_ms:
            raise BacktestError("cannot try the rule: end is before start; exchange them")
        if self.count > EVALUATIONS_LIMIT:
            raise BacktestError(
                f"cannot try the rule: {self.count} evaluations are more than {EVALUATIONS_LIMIT}; "
                "make the interval longer, or the time shorter"
            )

    @property
    def count(self) -> int:
        """How many evaluations there are."""
        return (self.end_ms - self.start_ms) // self.interval_ms + 1

    @property
    def times(self) -> range:
        """Their times."""
        return range(self.start_ms, self.end_ms + 1, self.interval_ms)


@dataclass(frozen=True)
class Firing:
    """One time that an alert fired. Times are seconds since 1970; `ended_at` is 0 while it still fires at the end."""

    labels: Mapping[str, str]
    active_at: float
    fired_at: float
    ended_at: float
    value: float
    annotations: Mapping[str, str]

    @property
    def key(self) -> Key:
        """What tells alerts apart."""
        return tuple(sorted(self.labels.items()))

    def seconds(self, end: float) -> float:
        """How long it fired, up to the end of the backtest."""
        return (self.ended_at or end) - self.fired_at


@dataclass
class Backtest:
    """What would have been: of an alert its firings, of a recording rule how many series it would have written."""

    window: Window
    pending: list[int] = field(default_factory=list)
    """Pending alerts at each evaluation; of a recording rule none."""
    firing: list[int] = field(default_factory=list)
    """Firing alerts, or recorded series, at each evaluation."""
    firings: list[Firing] = field(default_factory=list)
    fired: int = 0
    """How many firings there were, those that are not told of as well."""
    firing_seconds: float = 0.0
    """How long, of all of them."""
    errors: dict[str, int] = field(default_factory=dict)
    """Evaluations that would have failed, by reason."""
    warnings: list[str] = field(default_factory=list)

    def failed(self, error: Exception) -> None:
        """Count an evaluation that would have failed."""
        self.errors[str(error)] = self.errors.get(str(error), 0) + 1

    def tell(self, firing: Firing) -> None:
        """Note a firing whose end is known, or is that of the backtest."""
        self.fired += 1
        self.firing_seconds += firing.seconds(self.window.times[-1] / 1000)
        if len(self.firings) < FIRINGS_LIMIT:
            self.firings.append(firing)


def backtest(
    engine: Engine,
    rule: RuleConfig,
    window: Window,
    *,
    external_labels: Mapping[str, str] | None = None,
    external_url: str = "",
    limit: int = 0,
    query_offset_ms: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> Backtest:
    """Try the rule. Raises QueryError for what no evaluation could be, and when it is told to stop."""
    out = Backtest(window)
    steps = _Steps(engine, rule.expr, window, query_offset_ms, cancelled)
    out.warnings = list(steps.warnings)
    if rule.record:
        _record(RecordingRule(rule), steps, out, limit)
        return out

    def context(at_ms: int) -> TemplateContext:
        def query(text: str) -> list[dict[str, Any]]:
            return query_samples(engine, text, at_ms)

        return TemplateContext(external_labels or {}, external_url, query, now=at_ms / 1000)

    _alert(rule, steps, out, limit, context)
    return out


class _Steps:
    """The expression's value at each evaluation."""

    def __init__(
        self, engine: Engine, text: str, window: Window, offset_ms: int, cancelled: Callable[[], bool] | None
    ) -> None:
        self._engine, self._text, self.window = engine, text, window
        self._offset_ms, self._cancelled = offset_ms, cancelled
        self._expr = parse(text)
        self._whole: QueryResult | None = None
        self._labels: list[dict[str, str]] = []
        self.warnings: list[str] = []
        if _depends_on_its_time(self._expr) or self._expr.type not in ("vector", "scalar"):
            return
        start, end = window.start_ms - offset_ms, window.end_ms - offset_ms
        try:
            whole = engine.range(text, start, end, window.interval_ms, cancelled=cancelled, expr=self._expr)
        except ExecutionError:
            return  # it may fail at a few times only: they are looked at one by one
        self._whole, self.warnings, self._labels = whole, whole.warnings, whole.labels.to_dicts()

    def at(self, number: int) -> list[tuple[dict[str, str], Any]]:
        """Series and values at the evaluation of this number. Raises RuleError and QueryError."""
        if self._cancelled is not None and self._cancelled():
            raise QueryCanceled("query was canceled in expression evaluation")
        if self._whole is not None:
            rows = np.flatnonzero(self._whole.present[:, number])
            values = sample_values(np.ascontiguousarray(self._whole.values[rows, number]), self._whole.histograms)
            return [(self._labels[row], value) for row, value in zip(rows.tolist(), values, strict=True)]
        at_ms = self.window.times[number] - self._offset_ms
        result = self._engine.instant(self._text, at_ms, cancelled=self._cancelled, expr=self._expr)
        if result.kind not in ("vector", "scalar"):
            raise RuleError(f"rule result is a {result.kind}, not a vector or scalar; change the expression")
        values = sample_values(np.asarray(result.values, np.float64).reshape(-1), result.histograms)
        return list(zip(result.labels.to_dicts(), values, strict=True))


def _depends_on_its_time(expr: Expr) -> bool:
    """Whether an instant query may give something else than that step of a range query."""
    for node in walk(expr):
        if isinstance(node, VectorSelector | Subquery) and isinstance(node.at, str):
            return True
        if isinstance(node, Call) and node.function in ("start", "end", "step", "range"):
            return True
        if isinstance(node, VectorSelector | MatrixSelector | Subquery) and any(
            isinstance(getattr(node, name, None), DurationExpr) for name in ("offset", "range", "step")
        ):
            return True
    return False


def _record(rule: RecordingRule, steps: _Steps, out: Backtest, limit: int) -> None:
    for number in range(steps.window.count):
        count = 0
        try:
            labels = LabelSets.from_dicts([labels for labels, _ in steps.at(number)])
            count = len(rule.series(labels, limit=limit))
        except (RuleError, ExecutionError) as e:
            out.failed(e)
        out.pending.append(0)
        out.firing.append(count)


def _alert(
    config: RuleConfig, steps: _Steps, out: Backtest, limit: int, context: Callable[[int], TemplateContext]
) -> None:
    # Annotations decide nothing: they are expanded once a firing, and not at each evaluation.
    rule = AlertingRule(config.model_copy(update={"annotations": {}}))
    speaking = AlertingRule(config)
    open_: dict[Key, Firing] = {}
    for number, at_ms in enumerate(steps.window.times):
        samples: list[tuple[dict[str, str], Any]] = []
        now = context(at_ms)
        try:
            samples = steps.at(number)
            rule.evaluate(samples, at=at_ms / 1000, context=now, limit=limit)
        except (RuleError, ExecutionError) as e:
            out.failed(e)
        states = [alert.state for alert in rule.active.values()]
        out.pending.append(states.count(PENDING))
        out.firing.append(states.count(FIRING))
        for firing in _open_and_close(rule, open_, out, at_ms / 1000):
            if out.fired + len(open_) <= ANNOTATED_LIMIT:
                open_[firing.key] = replace(firing, annotations=speaking.texts(firing.labels, samples, now))
    for firing in open_.values():
        out.tell(firing)
    out.firings.sort(key=lambda one: (one.fired_at, one.key))


def _open_and_close(rule: AlertingRule, open_: dict[Key, Firing], out: Backtest, at: float) -> list[Firing]:
    """Note what fires no more, and what fires since now, which is returned."""
    for key in list(open_):
        known = rule.active.get(key)
        if known is None or known.state != FIRING:
            out.tell(replace(open_.pop(key), ended_at=at))
    new = []
    for key, alert in rule.active.items():
        if alert.state == FIRING and key not in open_:
            firing = open_[key] = Firing(alert.labels, alert.active_at, alert.fired_at, 0.0, alert.value, {})
            new.append(firing)
    return new


def as_json(found: Backtest, rule: RuleConfig) -> dict[str, Any]:
    """The backtest as the API has it, and the command line reads it."""
    window = found.window
    return {
        "rule": rule.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "start": window.start_ms / 1000,
        "end": window.end_ms / 1000,
        "interval": window.interval_ms / 1000,
        "evaluations": window.count,
        "fired": found.fired,
        "firingSeconds": found.firing_seconds,
        "firings": [
            {
                "labels": dict(sorted(one.labels.items())),
                "annotations": dict(sorted(one.annotations.items())),
                "activeAt": one.active_at,
                "firedAt": one.fired_at,
                "endedAt": one.ended_at or None,
                "value": format_alert_value(one.value),
            }
            for one in found.firings
        ],
        "pending": found.pending,
        "firing": found.firing,
        "errors": [{"error": error, "evaluations": count} for error, count in found.errors.items()],
        "warnings": found.warnings,
    }
