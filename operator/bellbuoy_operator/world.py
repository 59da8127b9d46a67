"""All that the operator knows of the cluster: our resources, pods, nodes, namespaces, and the objects that it made.

A `World` runs the watchers and says what changed to whoever listens; it decides nothing. Pods are held by namespace,
since that is how they are asked for. `synced` is set once everything that configuration depends on has been listed.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from bellbuoy.resources import Node, Pod, read_node, read_pod
from bellbuoy.resources.targets import PART_LABEL, STACK_LABEL
from bellbuoy_operator import cluster as kinds
from bellbuoy_operator.builders import MANAGED_BY, MANAGED_BY_LABEL, STACK_NAMESPACE_LABEL
from bellbuoy_operator.cluster import Cluster, Kind
from bellbuoy_operator.own_kinds import OwnKinds
from bellbuoy_operator.watching import Watcher, WatchMetrics

# What stacks own. Not Secrets: the operator may get one, not list or watch them.
OWNED_KINDS = (
    kinds.STATEFUL_SETS,
    kinds.DAEMON_SETS,
    kinds.DEPLOYMENTS,
    kinds.SERVICES,
    kinds.SERVICE_ACCOUNTS,
    kinds.CONFIG_MAPS,
    kinds.CLUSTER_ROLE_BINDINGS,
)


@dataclass(frozen=True)
class Owned:
    """An object that a stack owns: whose it is, whether it was changed, and how many of its pods are ready."""

    stack: tuple[str, str]
    part: str
    digest: str
    wanted: int
    ready: int
    current: bool

    @property
    def complete(self) -> bool:
        """Whether its controller has seen its spec, and all of its pods are ready."""
        return self.current and self.ready >= self.wanted


def read_owned(raw: Mapping[str, Any]) -> Owned:
    """The owned object of an API object."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    labels = metadata.get("labels") or {}
    content = {key: value for key, value in raw.items() if key not in ("metadata", "status")}
    content["metadata"] = {key: metadata.get(key) for key in ("labels", "ownerReferences", "deletionTimestamp", "uid")}
    wanted = status.get("desiredNumberScheduled", (raw.get("spec") or {}).get("replicas", 0))
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    ready = status.get("numberReady", status.get("readyReplicas", 0))
    return Owned(
        stack=(labels.get(STACK_NAMESPACE_LABEL) or metadata.get("namespace", ""), labels.get(STACK_LABEL, "")),
        part=labels.get(PART_LABEL, ""),
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        wanted=int(wanted),
        ready=int(ready),
        current=current,
    )


@dataclass
class Listeners:
    """Who is told of changes. Each is called in the loop, after the world has them."""

    resource: Callable[[tuple[str, str, str]], None] = lambda _: None
    pod: Callable[[str], None] = lambda _: None
    node: Callable[[], None] = lambda: None
    namespace: Callable[[], None] = lambda: None
    owned: Callable[[tuple[str, str]], None] = lambda _: None


@dataclass
class World:
    """The state of the cluster as last heard."""

    cluster: Cluster
    registry: CollectorRegistry
    listeners: Listeners = field(default_factory=Listeners)

    def __post_init__(self) -> None:
        metrics = WatchMetrics(self.registry)
        self._pods: dict[str, dict[str, Pod]] = {}
        # Of pods that exist, those that have been ready: a pod that stopped being ready is down, one that never was
        # is not.
        self.been_ready: set[str] = set()
        self.own = OwnKinds(self.cluster, changed=lambda key: self.listeners.resource(key))
        self.pods = Watcher(self.cluster, kinds.PODS, read_pod, self._pod_changed, metrics)
        self.nodes: Watcher[Node] = Watcher(
            self.cluster, kinds.NODES, read_node, lambda *_: self.listeners.node(), metrics
        )
        self.namespaces: Watcher[Mapping[str, str]] = Watcher(
            self.cluster,
            kinds.NAMESPACES,
            lambda raw: raw["metadata"].get("labels") or {},
            lambda *_: self.listeners.namespace(),
            metrics,
        )
        self.owned: dict[Kind, Watcher[Owned]] = {
            kind: Watcher(
                self.cluster,
                kind,
                read_owned,
                self._owned_changed,
                metrics,
                label_selector=f"{MANAGED_BY_LABEL}={MANAGED_BY}",
            )
            for kind in OWNED_KINDS
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Watch everything until `stop` is set, or until something fails for good."""
        watchers: list[Watcher[Any]] = [self.pods, self.nodes, self.namespaces, *self.owned.values()]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watcher.run()) for watcher in watchers]
            await self.own.run(stop)
            for task in tasks:
                task.cancel()

    async def wait_synced(self) -> None:
        """Wait until all that configuration depends on has been listed once."""
        for one in (self.own, self.pods, self.nodes, self.namespaces):
            await one.synced.wait()

    async def wait_owned_synced(self) -> None:
        """Wait until the objects that stacks own have been listed as well."""
        for watcher in self.owned.values():
            await watcher.synced.wait()

    @property
    def synced(self) -> bool:
        """Whether all that configuration depends on has been listed."""
        return all(one.synced.is_set() for one in (self.own, self.pods, self.nodes, self.namespaces))

    def missing(self) -> str:
        """What has not been listed yet, for people."""
        waiting = [one.kind.plural for one in (self.pods, self.nodes, self.namespaces) if not one.synced.is_set()]
        return ", ".join(waiting + ([] if self.own.synced.is_set() else ["bellbuoy.io resources"]))

    def pods_of(self, namespace: str) -> list[Pod]:
        """The pods of a namespace."""
        return list(self._pods.get(namespace, {}).values())

    def namespace_labels(self) -> dict[str, Mapping[str, str]]:
        """All namespaces with their labels."""
        return {name: labels for (_, name), labels in self.namespaces.objects.items()}

    def _pod_changed(self, key: tuple[str, str], before: Pod | None, now: Pod | None) -> None:
        namespace, name = key
        pods = self._pods.setdefault(namespace, {})
        if before is not None and (now is None or now.uid != before.uid):
            self.been_ready.discard(before.uid)
        if now is None:
            pods.pop(name, None)
            if not pods:
                del self._pods[namespace]
        else:
            pods[name] = now
            if now.ready:
                self.been_ready.add(now.uid)
        self.listeners.pod(namespace)

    def _owned_changed(self, _: tuple[str, str], before: Owned | None, now: Owned | None) -> None:
        for one in {owned.stack for owned in (before, now) if owned is not None}:
            self.listeners.owned(one)
