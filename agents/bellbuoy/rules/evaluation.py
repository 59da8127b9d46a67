"""One evaluation of a group's rules, as of a time: what is asked, how it goes, what is written and told.

It is plain code for a worker thread. Rules that need each other go one after the other, the others may go at the same
time on threads that all groups share. Whatever goes wrong in one rule is that rule's health, never another's.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bellbuoy.logs import fields
from bellbuoy.promql import Engine, Expr, QueryError, is_histogram, numbers_of, parse
from bellbuoy.rules.alerting import Alert, AlertingRule, TemplateContext
from bellbuoy.rules.config import BrokenRule, RuleConfig
from bellbuoy.rules.dependencies import ALERT_METRICS, batches
from bellbuoy.rules.metrics import RuleMetrics
from bellbuoy.rules.recording import RecordingRule, RuleError
from bellbuoy.rules.sharing import Plan, Round
from bellbuoy.rules.writing import RuleWriter
from bellbuoy.tsdb import LabelSets, Storage, StorageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuleOptions:
    """The settings of all rules."""

    resend_seconds: float = 60.0
    for_outage_tolerance_seconds: float = 3600.0
    for_grace_seconds: float = 600.0
    concurrency: int = 4
    # Rules that are evaluated beside the one of each group, of all groups together; 0 is in turn, as in Prometheus.
    concurrent_evaluations: int = 0
    # Samples that the rules of one group share in a round, at 16 bytes each; past it they compute for themselves.
    shared_samples: int = 5_000_000
    external_url: str = ""


@dataclass
class RuleState:
    """A rule with how it is: what the API shows."""

    rule: AlertingRule | RecordingRule | BrokenRule
    writer: RuleWriter | None = None
    expression: Expr | None = None
    """The expression as it was parsed."""
    health: str = "unknown"
    last_error: str = ""
    last_evaluation: float = 0.0
    evaluation_seconds: float = 0.0
    samples: int = 0

    @property
    def name(self) -> str:
        """The alert's or the record's name."""
        if isinstance(self.rule, BrokenRule):
            return self.rule.name
        return self.rule.config.alert or self.rule.config.record

    @property
    def expr(self) -> str:
        """The expression as it was written."""
        return self.rule.expr if isinstance(self.rule, BrokenRule) else self.rule.config.expr

    @property
    def identity(self) -> str:
        """What makes it the same rule after a reload: kind, name and labels."""
        if isinstance(self.rule, BrokenRule):
            return ""
        config = self.rule.config
        return repr((bool(config.alert), self.name, sorted(config.labels.items())))


@dataclass
class RuleWorld:
    """What every group works with; one for all of them."""

    engine: Engine
    storage: Storage
    executor: Executor
    options: RuleOptions
    metrics: RuleMetrics
    send: Callable[[Sequence[Alert], AlertingRule, float], None]
    external_labels: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    helpers: Executor | None = None
    """Threads for rules beside the one of each group; None is none."""

    def __post_init__(self) -> None:
        self.slots = threading.Semaphore(self.options.concurrent_evaluations)


def rule_states(rules: Sequence[RuleConfig | BrokenRule], world: RuleWorld, *, key: str) -> list[RuleState]:
    """A group's rules, ready to be evaluated; those that cannot be used say why."""
    out: list[RuleState] = []
    seen: dict[str, int] = {}
    for one in rules:
        if isinstance(one, BrokenRule):
            out.append(RuleState(one, health="err", last_error=one.error))
            log.warning("rule cannot be used", extra=fields(group=key, rule=one.name, error=one.error))
            continue
        kind, name = ("alert", one.alert) if one.alert else ("record", one.record)
        at = seen[f"{kind}/{name}"] = seen.get(f"{kind}/{name}", -1) + 1
        # The same rule after a reload or a restart is the same group of the storage.
        writer = RuleWriter(world.storage, f"rules/{key}/{kind}/{name}/{at}")
        rule: AlertingRule | RecordingRule = RecordingRule(one)
        if one.alert:
            rule = AlertingRule(one, grace_seconds=world.options.for_grace_seconds)
        out.append(RuleState(rule, writer, parse(one.expr)))
    return out


class Evaluation:
    """The rules of one group and the order in which they are evaluated."""

    def __init__(self, rules: Sequence[RuleState], world: RuleWorld, *, key: str, interval_seconds: float) -> None:
        self._world, self._key, self._interval_seconds = world, key, interval_seconds
        self._broken = sum(isinstance(state.rule, BrokenRule) for state in rules)
        usable = [
            (state, state.rule.config, state.expression)
            for state in rules
            if not isinstance(state.rule, BrokenRule) and state.expression is not None
        ]
        self._plan = Plan(expr for _, _, expr in usable)
        order = batches([(config, expr) for _, config, expr in usable])
        self._batches = [[usable[i][0] for i in batch] for batch in order]
        self.cancelled = False

    def run(self, at: float, *, offset_seconds: float, limit: int) -> int:
        """All rules as of `at`; returns how many samples they gave. Raises nothing: what fails is the rule's health."""
        world = self._world
        world.metrics.evaluations.labels(self._key).inc(self._broken)
        world.metrics.failures.labels(self._key).inc(self._broken)
        shared = Round(self._plan, max_samples=world.options.shared_samples)
        turn = _Turn(at, round(at * 1000) - round(offset_seconds * 1000), limit, shared)
        for batch in self._batches:
            beside = []
            for state in batch:
                if self.cancelled:
                    break
                if len(batch) > 1 and world.helpers is not None and world.slots.acquire(blocking=False):
                    beside.append(world.helpers.submit(self._beside, state, turn))
                else:
                    self._one(state, turn)
            wait(beside)
        world.metrics.shared.inc(shared.hits)
        return sum(state.samples for batch in self._batches for state in batch)

    def _beside(self, state: RuleState, turn: "_Turn") -> None:
        try:
            self._one(state, turn)
        finally:
            self._world.slots.release()

    def _one(self, state: RuleState, turn: "_Turn") -> None:
        metrics = self._world.metrics
        began = time.monotonic()
        metrics.evaluations.labels(self._key).inc()
        try:
            state.samples = self._evaluate(state, turn)
            self._healthy(state)
        except (QueryError, RuleError, StorageError, OverflowError) as e:
            self._failed(state, str(e))
        except Exception as e:
            log.exception("BUG: a rule's evaluation failed", extra=fields(group=self._key, rule=state.name))
            self._failed(state, f"{type(e).__name__}: {e}")
        if isinstance(state.rule, AlertingRule):
            state.rule.evaluated = True
        state.last_evaluation, state.evaluation_seconds = turn.at, time.monotonic() - began
        metrics.evaluation_seconds.observe(state.evaluation_seconds)

    def _healthy(self, state: RuleState) -> None:
        if state.health == "err":
            log.info("rule can be evaluated again", extra=fields(group=self._key, rule=state.name))
        state.health, state.last_error = "ok", ""

    def _failed(self, state: RuleState, error: str) -> None:
        self._world.metrics.failures.labels(self._key).inc()
        if state.last_error != error:
            log.warning("cannot evaluate rule", extra=fields(group=self._key, rule=state.name, error=error))
        state.health, state.last_error, state.samples = "err", error, 0

    def _evaluate(self, state: RuleState, turn: "_Turn") -> int:
        world, rule = self._world, state.rule
        if isinstance(rule, BrokenRule) or state.writer is None:
            raise AssertionError("BUG: a broken rule is not evaluated")
        result = world.engine.instant(rule.config.expr, turn.query_ms, expr=state.expression, shared=turn.shared)
        if result.kind not in ("vector", "scalar"):
            raise RuleError(f"rule result is a {result.kind}, not a vector or scalar; change the expression")
        labels, values = result.labels, np.asarray(result.values, dtype=np.float64).reshape(-1)
        if isinstance(rule, RecordingRule):
            series = rule.series(labels, limit=turn.limit)
            state.writer.append(turn.query_ms, series, values, result.histograms)
            turn.shared.forget((rule.config.record,))
            return len(series)
        context = TemplateContext(
            world.external_labels,
            world.options.external_url,
            lambda text: query_samples(world.engine, text, round(turn.at * 1000)),
            now=turn.at,
            expanded=world.metrics.expanded,
        )
        samples = list(zip(labels.to_dicts(), sample_values(values, result.histograms), strict=True))
        stored = rule.evaluate(samples, at=turn.at, context=context, limit=turn.limit)
        state.writer.append(
            turn.query_ms,
            LabelSets.from_dicts([pairs for pairs, _ in stored]),
            np.array([value for _, value in stored], np.float64),
        )
        turn.shared.forget(ALERT_METRICS)
        due = rule.take_to_send(turn.at, resend_seconds=world.options.resend_seconds)
        if due:
            valid = 4 * max(self._interval_seconds, world.options.resend_seconds)
            world.send(due, rule, turn.at + valid)
        return len(stored)


@dataclass(frozen=True)
class _Turn:
    """One evaluation of the group: its time, that of its queries and samples, and what its rules share."""

    at: float
    query_ms: int
    limit: int
    shared: Round


def sample_values(values: Any, histograms: Any) -> list[Any]:
    """Numbers, and the histograms that marks among them stand for."""
    out = values.tolist()
    if histograms:
        marked = np.flatnonzero(is_histogram(values))
        for i, number in zip(marked.tolist(), numbers_of(values[marked]).tolist(), strict=True):
            out[i] = histograms[number]
    return list(out)


def query_samples(engine: Engine, text: str, at_ms: int) -> list[dict[str, Any]]:
    """What `query` gives to a template. Raises ValueError, which the template reports."""
    try:
        result = engine.instant(text, at_ms)
    except QueryError as e:
        raise ValueError(str(e)) from e
    if result.kind not in ("vector", "scalar"):
        raise ValueError("rule result is not a vector or scalar")
    values = sample_values(np.asarray(result.values, dtype=np.float64).reshape(-1), result.histograms)
    return [{"Labels": pairs, "Value": value} for pairs, value in zip(result.labels.to_dicts(), values, strict=True)]
