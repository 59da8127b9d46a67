"""A rule group at work: its rules one after the other, at a stable offset within the interval, results to the storage.

The evaluation is plain code for a worker thread; `RuleGroup.run()` is the task that says when. Each rule is a group
of the storage of its own (a `Writer`), so a series that a rule no longer gives ends in a stale marker. Whatever goes
wrong in one rule is that rule's health, never another's.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bellbuoy.labels import NAME
from bellbuoy.logs import fields
from bellbuoy.promql import Engine, QueryError
from bellbuoy.rules.alerting import (
    ALERT_NAME,
    FOR_STATE,
    Alert,
    AlertingRule,
    Restored,
    TemplateContext,
)
from bellbuoy.rules.config import BrokenRule, LoadedGroup
from bellbuoy.rules.metrics import RuleMetrics
from bellbuoy.rules.recording import RecordingRule, RuleError
from bellbuoy.tsdb import STALE_BITS, LabelSets, Storage, StorageError, Writer

log = logging.getLogger(__name__)
# An alert from before a restart goes on when it turns up again in this many evaluations; Prometheus waits as long.
RESTORE_EVALUATIONS = 2


@dataclass(frozen=True)
class RuleOptions:
    """The settings of all rules."""

    resend_seconds: float = 60.0
    for_outage_tolerance_seconds: float = 3600.0
    for_grace_seconds: float = 600.0
    concurrency: int = 4
    external_url: str = ""


@dataclass
class RuleState:
    """A rule with how it is: what the API shows."""

    rule: AlertingRule | RecordingRule | BrokenRule
    writer: Writer | None = None
    writer_name: str = ""
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


@dataclass
class RuleWorld:
    """What every group works with; one for all of them."""

    engine: Engine
    storage: Storage
    executor: Executor
    options: RuleOptions
    metrics: RuleMetrics
    send: Callable[[Sequence[Alert], "AlertingRule", float], None]
    external_labels: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.time


class RuleGroup:
    """One group. `started` is when the server began: what was stored before it is from before a restart."""

    def __init__(self, loaded: LoadedGroup, world: RuleWorld, *, started: float) -> None:
        self.loaded, self._world, self._started = loaded, world, started
        self.rules: list[RuleState] = []
        self.last_evaluation = 0.0
        self.evaluation_seconds = 0.0
        self._evaluations = 0
        self._cancelled = False
        seen: dict[str, int] = {}
        for one in loaded.rules:
            if isinstance(one, BrokenRule):
                self.rules.append(RuleState(one, health="err", last_error=one.error))
                log.warning("rule cannot be used", extra=fields(group=loaded.key, rule=one.name, error=one.error))
                continue
            kind, name = ("alert", one.alert) if one.alert else ("record", one.record)
            at = seen[f"{kind}/{name}"] = seen.get(f"{kind}/{name}", -1) + 1
            # The same rule after a reload or a restart is the same group of the storage.
            writer_name = f"rules/{loaded.key}/{kind}/{name}/{at}"
            writer = world.storage.writer(writer_name)
            rule: AlertingRule | RecordingRule = RecordingRule(one)
            if one.alert:
                rule = AlertingRule(one, grace_seconds=world.options.for_grace_seconds)
            self.rules.append(RuleState(rule, writer, writer_name))
        world.metrics.group_rules.labels(loaded.key).set(len(self.rules))
        world.metrics.group_interval.labels(loaded.key).set(loaded.interval_seconds)

    def take_over(self, old: "RuleGroup") -> None:
        """Alerts and states of the same rules in this group's former self, so that a reload does not restart `for`."""
        had: dict[tuple[str, str], list[RuleState]] = {}
        for state in old.rules:
            if not isinstance(state.rule, BrokenRule):
                had.setdefault((state.name, repr(sorted(state.rule.config.labels.items()))), []).append(state)
        for state in self.rules:
            if isinstance(state.rule, BrokenRule):
                continue
            same = had.get((state.name, repr(sorted(state.rule.config.labels.items()))))
            if not same:
                continue
            former = same.pop(0)
            if type(former.rule) is not type(state.rule):
                continue
            state.health, state.last_error = former.health, former.last_error
            state.last_evaluation, state.evaluation_seconds = former.last_evaluation, former.evaluation_seconds
            state.samples = former.samples
            if isinstance(state.rule, AlertingRule) and isinstance(former.rule, AlertingRule):
                state.rule.active, state.rule.restore = former.rule.active, former.rule.restore
        self.last_evaluation, self._evaluations = old.last_evaluation, old._evaluations

    def end_series(self, later: "RuleGroup | None") -> None:
        """Stale markers for what this group wrote and `later`, its later self, does not go on writing."""
        names = {state.writer_name for state in later.rules} if later is not None else set()
        at = max(round(self._world.clock() * 1000), round(self.last_evaluation * 1000) + 1)
        for state in self.rules:
            if state.writer is not None and state.writer_name not in names:
                state.writer.append(at, LabelSets.from_dicts([]), np.empty(0))

    def tick(self, now: float) -> float:
        """The evaluation time at or before now: a stable offset within the interval, different for each group."""
        interval = self.loaded.interval_seconds
        digest = hashlib.sha256(self.loaded.key.encode()).digest()
        offset = int.from_bytes(digest[:8]) % max(1, int(interval * 1000)) / 1000
        return math.floor((now - offset) / interval) * interval + offset

    async def run(self) -> None:
        """Evaluate at every tick until cancelled; the first one is the tick just gone."""
        world, interval, loop = self._world, self.loaded.interval_seconds, asyncio.get_running_loop()
        at = max(self.tick(world.clock()), self.last_evaluation)
        if at == self.last_evaluation:
            at += interval
        while True:
            await asyncio.sleep(max(0.0, at - world.clock()))
            world.metrics.iterations.labels(self.loaded.key).inc()
            task = loop.run_in_executor(world.executor, self.evaluate, at)
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                self._cancelled = True
                await asyncio.wait([task])
                raise
            missed = max(0, int((world.clock() - at) / interval + 1e-9) - 1)
            if missed:
                world.metrics.missed.labels(self.loaded.key).inc(missed)
            at = at + interval * (missed + 1)

    def evaluate(self, at: float) -> None:
        """All rules in turn, as of `at`. Raises nothing: what fails is the rule's health."""
        start = time.monotonic()
        key, metrics = self.loaded.key, self._world.metrics
        if self._evaluations == 0:
            self._prepare_restore()
        total = 0
        for state in self.rules:
            if self._cancelled:
                break
            metrics.evaluations.labels(key).inc()
            if isinstance(state.rule, BrokenRule):
                metrics.failures.labels(key).inc()
                continue
            began = time.monotonic()
            try:
                state.samples = self._evaluate_rule(state, at)
                self._healthy(state)
            except (QueryError, RuleError, StorageError, OverflowError) as e:
                self._failed(state, str(e))
            except Exception as e:
                log.exception("BUG: a rule's evaluation failed", extra=fields(group=key, rule=state.name))
                self._failed(state, f"{type(e).__name__}: {e}")
            total += state.samples
            state.last_evaluation, state.evaluation_seconds = at, time.monotonic() - began
        self._evaluations += 1
        if self._evaluations == RESTORE_EVALUATIONS:
            for state in self.rules:
                if isinstance(state.rule, AlertingRule):
                    state.rule.restore = {}
        self.last_evaluation, self.evaluation_seconds = at, time.monotonic() - start
        metrics.group_last_evaluation.labels(key).set(at)
        metrics.group_duration.labels(key).set(self.evaluation_seconds)
        metrics.group_samples.labels(key).set(total)

    def _healthy(self, state: RuleState) -> None:
        if state.health == "err":
            log.info("rule can be evaluated again", extra=fields(group=self.loaded.key, rule=state.name))
        state.health, state.last_error = "ok", ""

    def _failed(self, state: RuleState, error: str) -> None:
        self._world.metrics.failures.labels(self.loaded.key).inc()
        if state.last_error != error:
            log.warning("cannot evaluate rule", extra=fields(group=self.loaded.key, rule=state.name, error=error))
        state.health, state.last_error = "err", error

    def _evaluate_rule(self, state: RuleState, at: float) -> int:
        world, rule = self._world, state.rule
        if isinstance(rule, BrokenRule) or state.writer is None:
            raise AssertionError("BUG: a broken rule is not evaluated")
        at_ms = round(at * 1000)
        query_ms = at_ms - round(self.loaded.query_offset_seconds * 1000)
        result = world.engine.instant(rule.config.expr, query_ms)
        if result.kind not in ("vector", "scalar"):
            raise RuleError(f"rule result is a {result.kind}, not a vector or scalar; change the expression")
        labels, values = result.labels, np.asarray(result.values, dtype=np.float64).reshape(-1)
        if result.histograms is not None:
            # What rules store is floats. An alert fires for a histogram, too, with the value 0, as in Prometheus.
            marked = result.marked.reshape(-1)
            if isinstance(rule, RecordingRule):
                rows = np.flatnonzero(~marked)
                labels, values = labels.take(rows), values[rows]
            else:
                values = np.where(marked, 0.0, values)
        if isinstance(rule, RecordingRule):
            series = rule.series(labels, values, limit=self.loaded.limit)
            state.writer.append(at_ms, series, values)
            return len(series)
        samples = list(zip(labels.to_dicts(), values.tolist(), strict=True))
        context = TemplateContext(
            world.external_labels, world.options.external_url, lambda text: query_samples(world.engine, text, query_ms)
        )
        stored = rule.evaluate(samples, at=at, context=context, limit=self.loaded.limit)
        state.writer.append(
            at_ms, LabelSets.from_dicts([pairs for pairs, _ in stored]), np.array([value for _, value in stored])
        )
        due = rule.take_to_send(at, resend_seconds=world.options.resend_seconds)
        if due:
            valid = 4 * max(self.loaded.interval_seconds, world.options.resend_seconds)
            world.send(due, rule, at + valid)
        return len(stored)

    def _prepare_restore(self) -> None:
        world = self._world
        end = int(self._started * 1000)
        start = end - int(world.options.for_outage_tolerance_seconds * 1000)
        for state in self.rules:
            if isinstance(state.rule, AlertingRule) and state.rule.config.for_ and not state.rule.active:
                state.rule.restore = read_for_state(world.storage, state.name, start, end)


def read_for_state(storage: Storage, alert: str, start: int, end: int) -> dict[Any, Restored]:
    """The alerts that were active when the storage was last written to: their last sample is no stale marker."""
    found = storage.select([(NAME, "=", FOR_STATE), (ALERT_NAME, "=", alert)], start, end)
    out = {}
    for i, labels in enumerate(found.labels.to_dicts()):
        if found.offsets[i] == found.offsets[i + 1]:
            continue
        last = int(found.offsets[i + 1]) - 1
        if int(found.values[last : last + 1].view(np.uint64)[0]) == STALE_BITS:
            continue
        key = tuple(sorted((name, value) for name, value in labels.items() if name != NAME))
        out[key] = Restored(float(found.values[last]), int(found.timestamps[last]) / 1000)
    return out


def query_samples(engine: Engine, text: str, at_ms: int) -> list[dict[str, Any]]:
    """What `query` gives to a template. Raises ValueError, which the template reports."""
    try:
        result = engine.instant(text, at_ms)
    except QueryError as e:
        raise ValueError(str(e)) from e
    values = np.where(result.marked, 0.0, result.values).reshape(-1).tolist()
    return [{"Labels": pairs, "Value": value} for pairs, value in zip(result.labels.to_dicts(), values, strict=True)]
