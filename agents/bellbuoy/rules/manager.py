"""All rule groups: starts, stops and replaces their tasks as the configuration says, and hands alerts to the notifier.

A group that did not change goes on untouched; one that did is stopped after its running evaluation, and its alerts go
over to the new one.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry

from bellbuoy.promql import Engine
from bellbuoy.rules.alerting import Alert, AlertingRule
from bellbuoy.rules.config import LoadedGroup
from bellbuoy.rules.evaluation import RuleOptions, RuleWorld
from bellbuoy.rules.group import RuleGroup
from bellbuoy.rules.metrics import RuleMetrics
from bellbuoy.scrape import Failed, endless, log_failure
from bellbuoy.tsdb import Storage

Send = Callable[[Sequence[Alert], AlertingRule, float], None]


class RuleManager:
    """Owns the groups' tasks. `send` is called on a worker thread with alerts, their rule, and until when they hold."""

    def __init__(
        self,
        *,
        engine: Engine,
        storage: Storage,
        options: RuleOptions,
        send: Send,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.time,
        failed: Failed = log_failure,
    ) -> None:
        self._failed = failed
        self._executor = ThreadPoolExecutor(options.concurrency, thread_name_prefix="rules")
        beside = options.concurrent_evaluations
        self._helpers = ThreadPoolExecutor(beside, thread_name_prefix="rule") if beside else None
        self._world = RuleWorld(
            engine, storage, self._executor, options, RuleMetrics(registry), send, clock=clock, helpers=self._helpers
        )
        self._started = clock()
        self._groups: dict[str, RuleGroup] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def apply(self, groups: Sequence[LoadedGroup], *, external_labels: Mapping[str, str]) -> None:
        """Evaluate exactly these groups from now on."""
        wanted = {group.key: group for group in groups}
        same_labels = dict(external_labels) == dict(self._world.external_labels)
        self._world.external_labels = dict(external_labels)
        gone = [
            key
            for key, group in self._groups.items()
            if key not in wanted or wanted[key].fingerprint != group.loaded.fingerprint or not same_labels
        ]
        old = {key: self._groups[key] for key in gone}
        for key in gone:
            await self._stop(key)
        ended: list[tuple[RuleGroup, RuleGroup]] = []
        for key, loaded in wanted.items():
            if key in self._tasks:
                continue
            group = RuleGroup(loaded, self._world, started=self._started)
            if key in old:
                group.take_over(old[key])
                ended.append((old.pop(key), group))
            self._groups[key] = group
            self._tasks[key] = endless(group.run(), name=f"rules {key}", failed=self._failed)
        elsewhere = {state.identity for key in wanted for state in self._groups[key].rules}
        for former, later in ended:
            former.end_series(later, elsewhere=elsewhere)
        for key, group in old.items():
            group.end_series(None, elsewhere=elsewhere)
            del self._groups[key]
            self._world.metrics.forget(key)

    async def _stop(self, key: str) -> None:
        task = self._tasks.pop(key)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End all tasks after their running evaluation."""
        for key in list(self._tasks):
            await self._stop(key)
        await asyncio.to_thread(self._executor.shutdown, wait=True)
        if self._helpers is not None:
            await asyncio.to_thread(self._helpers.shutdown, wait=True)

    def groups(self) -> list[RuleGroup]:
        """All groups, in the order of their files and names."""
        return [self._groups[key] for key in sorted(self._groups)]
