"""A rule group at work: when it is evaluated, at a stable offset within its interval, and what a reload takes over.

`RuleGroup.run()` is the task that says when; `Evaluation` does it, on a worker thread. A reload makes a new group of
what changed, and what the old one knew of the same rules goes over to it.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Iterable

from bellbuoy.rules.alerting import AlertingRule
from bellbuoy.rules.config import BrokenRule, LoadedGroup
from bellbuoy.rules.evaluation import Evaluation, RuleState, RuleWorld, rule_states
from bellbuoy.rules.restoring import read_for_state

# An alert from before a restart goes on when it turns up again in this many evaluations; Prometheus waits as long.
RESTORE_EVALUATIONS = 2


class RuleGroup:
    """One group. `started` is when the server began: what was stored before it is from before a restart."""

    def __init__(self, loaded: LoadedGroup, world: RuleWorld, *, started: float) -> None:
        self.loaded, self._world, self._started = loaded, world, started
        self.rules = rule_states(loaded.rules, world, key=loaded.key)
        self._evaluation = Evaluation(self.rules, world, key=loaded.key, interval_seconds=loaded.interval_seconds)
        self.last_evaluation = 0.0
        self.evaluation_seconds = 0.0
        self._evaluations = 0
        metrics = world.metrics
        for metric in metrics.of_a_group():
            metric.labels(loaded.key)
        metrics.group_rules.labels(loaded.key).set(len(self.rules))
        metrics.group_interval.labels(loaded.key).set(loaded.interval_seconds)

    def take_over(self, old: "RuleGroup") -> None:
        """Alerts and states of the same rules in this group's former self, so that a reload does not restart `for`."""
        had: dict[str, list[RuleState]] = {}
        for state in old.rules:
            if not isinstance(state.rule, BrokenRule):
                had.setdefault(state.identity, []).append(state)
        for state in self.rules:
            same = had.get(state.identity)
            if isinstance(state.rule, BrokenRule) or not same:
                continue
            former = same.pop(0)
            state.health, state.last_error = former.health, former.last_error
            state.last_evaluation, state.evaluation_seconds = former.last_evaluation, former.evaluation_seconds
            state.samples = former.samples
            if state.writer is not None and former.writer is not None:
                state.writer.take_over(former.writer)
            if isinstance(state.rule, AlertingRule) and isinstance(former.rule, AlertingRule):
                state.rule.active, state.rule.restore = former.rule.active, former.rule.restore
                state.rule.evaluated = former.rule.evaluated
        self.last_evaluation, self._evaluations = old.last_evaluation, old._evaluations

    def end_series(self, later: "RuleGroup | None", *, elsewhere: Iterable[str] = ()) -> None:
        """Stale markers for what this group wrote and nobody goes on writing.

        `later` is its later self. A rule that moved to another group (`elsewhere` has their identities) goes on there:
        a marker of ours among its samples would hide them.
        """
        names = {state.writer.name for state in later.rules if state.writer} if later is not None else set()
        moved = set(elsewhere)
        offset_ms = round(self.loaded.query_offset_seconds * 1000)
        at = max(round(self._world.clock() * 1000), round(self.last_evaluation * 1000) + 1) - offset_ms
        for state in self.rules:
            if state.writer is not None and state.writer.name not in names and state.identity not in moved:
                state.writer.end(at)

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
                self._evaluation.cancelled = True
                await asyncio.wait([task])
                raise
            missed = max(0, int((world.clock() - at) / interval + 1e-9) - 1)
            if missed:
                world.metrics.missed.labels(self.loaded.key).inc(missed)
                world.metrics.iterations.labels(self.loaded.key).inc(missed)
            at = at + interval * (missed + 1)

    def evaluate(self, at: float) -> None:
        """All rules, as of `at`. Raises nothing: what fails is the rule's health."""
        start = time.monotonic()
        key, metrics, loaded = self.loaded.key, self._world.metrics, self.loaded
        if self._evaluations == 0:
            self._prepare_restore(at)
            metrics.group_restore.labels(key).set(time.monotonic() - start)
        total = self._evaluation.run(at, offset_seconds=loaded.query_offset_seconds, limit=loaded.limit)
        self._evaluations += 1
        if self._evaluations == RESTORE_EVALUATIONS:
            for state in self.rules:
                if isinstance(state.rule, AlertingRule):
                    state.rule.restore = {}
        self.last_evaluation, self.evaluation_seconds = at, time.monotonic() - start
        metrics.group_last_evaluation.labels(key).set(at)
        metrics.group_duration.labels(key).set(self.evaluation_seconds)
        metrics.group_rule_sum.labels(key).set(sum(state.evaluation_seconds for state in self.rules))
        metrics.group_seconds.observe(self.evaluation_seconds)
        metrics.group_samples.labels(key).set(total)

    def _prepare_restore(self, at: float) -> None:
        world = self._world
        end = int(self._started * 1000)
        start = int((at - world.options.for_outage_tolerance_seconds) * 1000)
        if start >= end:
            return
        for state in self.rules:
            if isinstance(state.rule, AlertingRule) and state.rule.config.for_ and not state.rule.active:
                state.rule.restore = read_for_state(world.storage, state.name, start, end)
