"""A copy of all objects of a kind, kept equal to the API server's: list, then watch, then list again when told to.

Each list replaces the whole store, so that an object which vanished unseen does not stay as a ghost; each event changes
one entry. Objects are pruned as they come in: what is kept of a pod is a fraction of it. `synced` is set by the first
complete list and never unset: a store that lost its connection is old, not empty.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge

from bellbuoy.logs import fields
from bellbuoy_operator.cluster import Cluster, ClusterError, Kind

log = logging.getLogger(__name__)

# Objects in one page of a list: a hundred pods are about a megabyte.
PAGE_SIZE = 500
# The API server is asked to end a watch after this long; each time a little later, so that not all end at once.
WATCH_SECONDS = 300
# A bookmark comes about once a minute. A stream that is silent for longer is dead, whatever its socket says.
INACTIVITY_SECONDS = 90.0
# The wait after a failure doubles from the first to the second, each time shortened by up to half at random.
BACKOFF_SECONDS = (0.2, 15.0)

T = TypeVar("T")
Key = tuple[str, str]


class WatchMetrics:
    """What the watchers of one operator count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.objects = Gauge("bellbuoy_watch_objects", "Objects held, by kind.", ["kind"], registry=registry)
        self.events = Counter("bellbuoy_watch_events", "Events of watches, by kind.", ["kind"], registry=registry)
        self.lists = Counter("bellbuoy_watch_lists", "Complete lists, by kind.", ["kind"], registry=registry)
        self.failures = Counter(
            "bellbuoy_watch_failures", "Lists and watches that failed, by kind.", ["kind"], registry=registry
        )


@dataclass
class Watcher(Generic[T]):
    """Keeps `objects` equal to the cluster's objects of a kind, by `(namespace, name)`.

    `prune` makes of an object what is kept; None keeps nothing of it. `changed` is told the key, what was and what
    is, after the store has it; None stands for nothing. Only real changes are told: what prunes to the same is the
    same.
    """

    cluster: Cluster
    kind: Kind
    prune: Callable[[Mapping[str, Any]], T | None]
    changed: Callable[[Key, T | None, T | None], None]
    metrics: WatchMetrics
    label_selector: str = ""
    inactivity_seconds: float = INACTIVITY_SECONDS
    objects: dict[Key, T] = field(default_factory=dict)
    synced: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """List and watch until cancelled."""
        backoff = BACKOFF_SECONDS[0]
        while True:
            try:
                version = await self._list()
                while version:
                    version = await self._watch(version)
                    backoff = BACKOFF_SECONDS[0]
            except ClusterError as e:
                self.metrics.failures.labels(self.kind.kind).inc()
                log.warning("watch failed, listing again", extra=fields(kind=self.kind.kind, error=e))
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311
                backoff = min(backoff * 2, BACKOFF_SECONDS[1])

    async def _list(self) -> str:
        """Replace the store by what there is; returns the version to watch from."""
        found: dict[Key, T] = {}
        params = {"limit": str(PAGE_SIZE)} | self._selector()
        while True:
            page = await self.cluster.list_page(self.kind, params)
            for item in page.get("items") or ():
                pruned = self.prune(item)
                if pruned is not None:
                    found[_key(item)] = pruned
            token = page["metadata"].get("continue")
            if not token:
                break
            params["continue"] = token
        before, self.objects = self.objects, found
        self.metrics.lists.labels(self.kind.kind).inc()
        self.metrics.objects.labels(self.kind.kind).set(len(found))
        self.synced.set()
        for key in before.keys() | found.keys():
            if before.get(key) != found.get(key):
                self.changed(key, before.get(key), found.get(key))
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Apply events until the stream ends; returns the version to go on from, empty to list again."""
        seconds = int(WATCH_SECONDS * random.uniform(1.0, 1.5))  # noqa: S311
        params = {"resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        try:
            stream = self.cluster.watch(
                self.kind, params | self._selector(), inactivity_seconds=self.inactivity_seconds
            )
            async with stream as events:
                async for event in events:
                    kind, item = event["type"], event["object"]
                    if kind == "ERROR":
                        # 410 Gone is the usual one: what we know is too old to go on from.
                        log.info(
                            "watch expired, listing again", extra=fields(kind=self.kind.kind, code=item.get("code"))
                        )
                        return ""
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        self.metrics.events.labels(self.kind.kind).inc()
                        self._take(item, gone=kind == "DELETED")
        except ClusterError as e:
            if e.status == 410:
                return ""
            raise
        return version

    def _take(self, item: Mapping[str, Any], *, gone: bool) -> None:
        key = _key(item)
        before = self.objects.get(key)
        now = None if gone else self.prune(item)
        if now is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = now
        self.metrics.objects.labels(self.kind.kind).set(len(self.objects))
        if before != now:
            self.changed(key, before, now)

    def _selector(self) -> dict[str, str]:
        return {"labelSelector": self.label_selector} if self.label_selector else {}


def _key(item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
