"""One stack's life: its configuration published as the world changes, its objects made so, its status told.

Three loops with one owner. Configuration is made on every replica, a moment after a change. Objects and status are the
business of the one that holds the lease: each turn reads the whole state and makes all of it so, whatever happened; it
comes after a change, and again every minute.
"""

import asyncio
import logging
from dataclasses import dataclass, field

import aiohttp
from prometheus_client import Counter, Histogram

from bellbuoy.logs import fields
from bellbuoy.resources import MonitoringStack, SecretUse, secret_uses, selected_secret_uses
from bellbuoy.resources.binding import bound_expression
from bellbuoy.resources.selection import Refusal
from bellbuoy_operator import cluster as kinds
from bellbuoy_operator.builders import (
    FINALIZER,
    Object,
    Settings,
    kubelet_binding,
    kubelet_binding_name,
    secret_copies,
    stack_objects,
)
from bellbuoy_operator.cluster import Cluster, ClusterError, Kind
from bellbuoy_operator.configuring import StackConfiguration
from bellbuoy_operator.observing import Observation, observe
from bellbuoy_operator.own_kinds import KINDS
from bellbuoy_operator.publishing import Publications
from bellbuoy_operator.secret_copying import gather_secrets
from bellbuoy_operator.statuses import StatusBoard
from bellbuoy_operator.wording import Facts, word_of_stack, words_of_resources
from bellbuoy_operator.world import Owned, World

log = logging.getLogger(__name__)

_BY_KIND: dict[str, Kind] = {
    one.kind: one
    for one in (
        kinds.CONFIG_MAPS,
        kinds.SECRETS,
        kinds.SERVICES,
        kinds.SERVICE_ACCOUNTS,
        kinds.VOLUME_CLAIMS,
        kinds.STATEFUL_SETS,
        kinds.DAEMON_SETS,
        kinds.DEPLOYMENTS,
        kinds.CLUSTER_ROLE_BINDINGS,
    )
}
_WORKLOADS = (kinds.STATEFUL_SETS, kinds.DAEMON_SETS, kinds.DEPLOYMENTS)


@dataclass(frozen=True)
class Pace:
    """How fast a stack's loops turn."""

    # A change of pods is published after this: long enough to gather what comes at once, too short to be noticed.
    configure_seconds: float = 0.05
    # No more than this share of the time is spent on it: 5,000 pods in one pool take 0.3 s.
    configure_share: float = 0.33
    # A change of the spec, or of an object, is acted upon after this.
    reconcile_seconds: float = 0.3
    # Without any change, objects and secrets are looked at again after this.
    resync_seconds: float = 60.0
    # A turn that failed is tried again after this.
    retry_seconds: float = 5.0
    # Server and alertmanager are asked this often.
    status_seconds: float = 3.0


@dataclass
class Tools:
    """What all stacks share."""

    cluster: Cluster
    world: World
    publications: Publications
    board: StatusBoard
    settings: Settings
    allowed: asyncio.Event
    session: aiohttp.ClientSession
    version: str
    pace: Pace
    reconciles: Counter
    seconds: Histogram


@dataclass
class StackTask:
    """One stack. `notice_*` say what changed; `run` goes on until cancelled."""

    key: tuple[str, str]
    tools: Tools
    _all_dirty: bool = True
    _dirty_namespaces: set[str] = field(default_factory=set)
    _configure: asyncio.Event = field(default_factory=asyncio.Event)
    _reconcile: asyncio.Event = field(default_factory=asyncio.Event)
    _secret_refusals: dict[SecretUse, Refusal] = field(default_factory=dict)
    _error: str = ""

    def __post_init__(self) -> None:
        self.configuration = StackConfiguration(settings=self.tools.settings, check=bound_expression)
        self._configure.set()
        self._reconcile.set()

    def notice_resources(self) -> None:
        """A resource or namespace changed, maybe one that this stack takes."""
        self._all_dirty = True
        self._configure.set()

    def notice_pods(self, namespace: str) -> None:
        """Pods of a namespace changed; "" stands for nodes."""
        self._dirty_namespaces.add(namespace)
        self._configure.set()

    def notice_objects(self) -> None:
        """The stack's spec, or an object that it owns, changed."""
        self._reconcile.set()

    async def run(self) -> None:
        """Live."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._configure_forever())
            group.create_task(self._reconcile_forever())
            group.create_task(self._tell_forever())

    def _stack(self) -> MonitoringStack | None:
        entry = self.tools.world.own.entries.get(("MonitoringStack", *self.key))
        return None if entry is None else entry.resource

    async def _configure_forever(self) -> None:
        loop, pace = asyncio.get_running_loop(), self.tools.pace
        await self.tools.world.wait_synced()
        took = 0.0
        while True:
            await self._configure.wait()
            # With many thousands of pods that come and go, making it may take a while: the rest of the time is others'.
            await asyncio.sleep(max(pace.configure_seconds, took * (1 / pace.configure_share - 1)))
            self._configure.clear()
            began = loop.time()
            self.configure()
            took = loop.time() - began

    def configure(self) -> None:
        """Publish the configuration as the world is now. An unreadable stack keeps the one it had."""
        stack = self._stack()
        if stack is None:
            return
        everything, namespaces = self._all_dirty, self._dirty_namespaces
        self._all_dirty, self._dirty_namespaces = False, set()
        if everything:
            before = self.configuration.selection
            parts = self.configuration.make(stack, self.tools.world)
            now = self.configuration.selection
            if before is None or now is None or selected_secret_uses(before) != selected_secret_uses(now):
                self._reconcile.set()
        else:
            parts = self.configuration.remake_targets(stack, self.tools.world, namespaces)
        self.tools.publications.publish(self.key, parts)

    async def _reconcile_forever(self) -> None:
        tools, pace = self.tools, self.tools.pace
        await tools.world.wait_synced()
        await tools.world.wait_owned_synced()
        while True:
            await tools.allowed.wait()
            await asyncio.sleep(pace.reconcile_seconds)
            self._reconcile.clear()
            wait = pace.resync_seconds
            try:
                with tools.seconds.time():
                    await self.reconcile()
                self._error = ""
                tools.reconciles.labels("success").inc()
            except ClusterError as e:
                tools.reconciles.labels("failure").inc()
                if str(e) != self._error:
                    log.warning("cannot reconcile stack", extra=fields(stack="/".join(self.key), error=e))
                self._error, wait = str(e), pace.retry_seconds
            try:
                async with asyncio.timeout(wait):
                    await self._reconcile.wait()
            except TimeoutError:
                # No change in that time: look again.
                continue

    async def reconcile(self) -> None:
        """Make the stack's objects as its spec says. Raises ClusterError."""
        stack = self._stack()
        if stack is None:
            return
        if stack.raw["metadata"].get("deletionTimestamp"):
            await self._let_go(stack)
            return
        await self._bind_kubelets(stack)
        objects = stack_objects(stack, self.tools.settings)
        objects.append(await self._secrets(stack))
        for one in objects:
            await self.tools.cluster.apply(_BY_KIND[one["kind"]], one)
        await self._remove_others(stack, objects)

    async def _let_go(self, stack: MonitoringStack) -> None:
        """The stack is being deleted: what owner references do not reach goes, then the finalizer."""
        await self._unbind_kubelets(stack)

    async def _bind_kubelets(self, stack: MonitoringStack) -> None:
        if not stack.spec.kubelet.cadvisor:
            await self._unbind_kubelets(stack)
            return
        # The finalizer first: were it second, a stack deleted in between would leave its binding.
        if FINALIZER not in (stack.raw["metadata"].get("finalizers") or ()):
            await self._apply_finalizers(stack, [FINALIZER])
        await self.tools.cluster.apply(kinds.CLUSTER_ROLE_BINDINGS, kubelet_binding(stack))

    async def _unbind_kubelets(self, stack: MonitoringStack) -> None:
        name = kubelet_binding_name(stack.namespace, stack.name)
        if ("", name) in self.tools.world.owned[kinds.CLUSTER_ROLE_BINDINGS].objects or FINALIZER in (
            stack.raw["metadata"].get("finalizers") or ()
        ):
            await self.tools.cluster.delete(kinds.CLUSTER_ROLE_BINDINGS, name=name)
        if FINALIZER in (stack.raw["metadata"].get("finalizers") or ()):
            await self._apply_finalizers(stack, [])

    async def _apply_finalizers(self, stack: MonitoringStack, finalizers: list[str]) -> None:
        kind = KINDS["MonitoringStack"]
        body: Object = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            # With its uid, so that a stack which has just gone is not made again.
            "metadata": {"namespace": stack.namespace, "name": stack.name, "uid": stack.uid},
        }
        if finalizers:
            body["metadata"]["finalizers"] = finalizers
        try:
            answer = await self.tools.cluster.apply(kind, body)
        except ClusterError as e:
            if e.status in (404, 409, 422) and not finalizers:
                # It has gone already, which is what was wanted.
                return
            raise
        self.tools.world.own.take(answer, gone=False)

    async def _secrets(self, stack: MonitoringStack) -> Object:
        selection = self.configuration.selection
        uses = secret_uses(stack) | (frozenset() if selection is None else selected_secret_uses(selection))
        copies = await gather_secrets(self.tools.cluster, uses)
        self._secret_refusals = copies.refusals
        return secret_copies(stack, copies.values)

    async def _remove_others(self, stack: MonitoringStack, objects: list[Object]) -> None:
        """Delete what the stack owned and does not want any more, such as a part that was turned off."""
        wanted = {(one["kind"], one["metadata"]["name"]) for one in objects}
        for kind, watcher in self.tools.world.owned.items():
            if not kind.namespaced:
                continue
            for (namespace, name), owned in list(watcher.objects.items()):
                mine = owned.stack == self.key and namespace == stack.namespace
                if mine and (kind.kind, name) not in wanted:
                    log.info("deleting object", extra=fields(kind=kind.kind, object=f"{namespace}/{name}"))
                    await self.tools.cluster.delete(kind, namespace=namespace, name=name)

    async def _tell_forever(self) -> None:
        tools = self.tools
        await tools.world.wait_synced()
        await tools.world.wait_owned_synced()
        last = Observation()
        while True:
            await tools.allowed.wait()
            stack = self._stack()
            if stack is not None and self.configuration.selection is not None:
                seen = await observe(tools.session, stack, tools.world.pods_of(stack.namespace))
                # Whoever did not answer now is as it was last.
                last = Observation(
                    pools=seen.pools if seen.pools is not None else last.pools,
                    rules=seen.rules if seen.rules is not None else last.rules,
                    receivers=seen.receivers if seen.receivers is not None else last.receivers,
                    errors=seen.errors,
                )
                self.tell(stack, last)
            await asyncio.sleep(tools.pace.status_seconds)

    def tell(self, stack: MonitoringStack, observation: Observation) -> None:
        """Put what is known on the board."""
        made = self.configuration
        if made.selection is None:
            return
        facts = Facts(
            stack=stack,
            selection=made.selection,
            pools=made.pools,
            refusals=made.refusals,
            secret_refusals=self._secret_refusals,
            observation=observation,
        )
        self.tools.board.say(self.key, words_of_resources(facts, self.tools.world))
        self.tools.board.stacks["MonitoringStack", *self.key] = word_of_stack(
            facts, workloads=self._workloads(), version=self.tools.version, reconcile_error=self._error
        )

    def _workloads(self) -> list[Owned]:
        return [
            owned
            for kind in _WORKLOADS
            for owned in self.tools.world.owned[kind].objects.values()
            if owned.stack == self.key
        ]

    def forget(self) -> None:
        """The stack is gone: nothing more is published or said of it."""
        self.tools.publications.withdraw(self.key)
        self.tools.board.say(self.key, {})
        self.tools.board.forget_resource(("MonitoringStack", *self.key))
