"""Our own kinds, watched by kopf: every resource of the five kinds, read into its model, with the mistakes of those
that cannot be read.

kopf's events bring changes at once; a list of our own, at the start and again every few minutes, says when all is
known (kopf keeps that to itself) and removes what vanished unseen. Both meet in one store, where the later
resourceVersion wins. Handlers only take notes: no annotation, no finalizer, no status is written from here.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from bellbuoy.configuration import ConfigError
from bellbuoy.logs import fields
from bellbuoy.resources import API_VERSION, GROUP, PLURALS, VERSION, Resource, read_resource
from bellbuoy_operator.cluster import Cluster, ClusterError, Kind

log = logging.getLogger(__name__)
# A line for each call of a handler, which is one for each event; and that signals are not looked at, which is wanted.
_KOPF_TALK = ("kopf.objects", "kopf.activities.authentication", "kopf._core.reactor.running")

KINDS: Mapping[str, Kind] = {kind: Kind(API_VERSION, kind, plural) for kind, plural in PLURALS.items()}
# A list of ours that repairs what an event might have missed.
RELIST_SECONDS = 300.0
# Between tries of the first list: the CRDs may be applied in the same breath as we are.
FIRST_LIST_RETRY_SECONDS = 1.0
PAGE_SIZE = 500
_CLOSE_SECONDS = 0.25

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Entry:
    """One resource: its object, and its model or the mistake that keeps it from having one."""

    raw: Mapping[str, Any]
    resource: Resource[Any] | None
    mistake: str = ""

    @property
    def version(self) -> int:
        """The resourceVersion, which API servers promise to be a growing number for our kinds."""
        return int(self.raw["metadata"]["resourceVersion"])


@dataclass
class OwnKinds:
    """All resources of our kinds, by `(kind, namespace, name)`. `changed` is told whose spec, or being there,
    changed.
    """

    cluster: Cluster
    changed: Callable[[Key], None]
    entries: dict[Key, Entry] = field(default_factory=dict)
    synced: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._gone: dict[Key, int] = {}

    def resources(self) -> list[Resource[Any]]:
        """All that could be read."""
        return [entry.resource for entry in self.entries.values() if entry.resource is not None]

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set, or until kopf fails for good."""
        told, ended = asyncio.create_task(stop.wait()), threading.Event()
        lists = asyncio.create_task(self._list_forever())
        watching = asyncio.create_task(asyncio.to_thread(self._watch, asyncio.get_running_loop(), ended))
        try:
            done, _ = await asyncio.wait((told, lists, watching), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            ended.set()
            told.cancel()
            lists.cancel()
            await asyncio.gather(told, lists, watching, return_exceptions=True)

    def _watch(self, loop: asyncio.AbstractEventLoop, ended: threading.Event) -> None:
        """Run kopf in this thread and in a loop of its own: in ours it would take SIGTERM for itself, and at its end
        cancel every task that was started after it.
        """
        for name in _KOPF_TALK:
            logging.getLogger(name).setLevel(logging.ERROR)
        registry = kopf.OperatorRegistry()
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.watching.chunk_size = PAGE_SIZE

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return self.cluster.for_kopf()

        async def note(type: str | None, body: kopf.Body, **_: Any) -> None:
            loop.call_soon_threadsafe(functools.partial(self.take, dict(body), gone=type == "DELETED"))

        for plural in PLURALS.values():
            kopf.on.event(GROUP, VERSION, plural, registry=registry, id=f"note-{plural}")(note)

        async def whole() -> None:
            await kopf.operator(
                registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=ended
            )
            # Its TLS connections have been told to close, and need the loop once more for it.
            await asyncio.sleep(_CLOSE_SECONDS)

        asyncio.run(whole())

    async def _list_forever(self) -> None:
        while True:
            try:
                await self._list()
                self.synced.set()
            except ClusterError as e:
                cure = "apply crds/ if it says not found"
                log.warning("cannot list our kinds, trying again", extra=fields(error=e, cure=cure))
            await asyncio.sleep(RELIST_SECONDS if self.synced.is_set() else FIRST_LIST_RETRY_SECONDS)

    async def _list(self) -> None:
        for name, kind in KINDS.items():
            found: dict[Key, Mapping[str, Any]] = {}
            params = {"limit": str(PAGE_SIZE)}
            while True:
                page = await self.cluster.list_page(kind, params)
                for item in page.get("items") or ():
                    metadata = item["metadata"]
                    found[name, metadata["namespace"], metadata["name"]] = {"kind": name, **item}
                token = page["metadata"].get("continue")
                if not token:
                    break
                params["continue"] = token
            version = int(page["metadata"]["resourceVersion"])
            for item in found.values():
                self.take(item, gone=False)
            for key in [key for key in self.entries if key[0] == name and key not in found]:
                if self.entries[key].version <= version:
                    self._remove(key, version)

    def take(self, raw: Mapping[str, Any], *, gone: bool) -> None:
        """Note one object as it is, or as it was last, unless something later is known of it."""
        metadata = raw["metadata"]
        key = (raw["kind"], metadata["namespace"], metadata["name"])
        version, known = int(metadata["resourceVersion"]), self.entries.get(key)
        if version <= max(known.version if known else 0, self._gone.get(key, 0)):
            return
        if gone:
            self._remove(key, version)
            return
        entry = _read(raw)
        self.entries[key] = entry
        # Status is written by ourselves: it is no news. What is being deleted, or has a new spec or labels, is.
        if known is None or _essence(known.raw) != _essence(raw):
            self.changed(key)

    def _remove(self, key: Key, version: int) -> None:
        self._gone[key] = version
        if len(self._gone) > 10_000:
            self._gone = {key: version}
        if self.entries.pop(key, None) is not None:
            self.changed(key)


def _read(raw: Mapping[str, Any]) -> Entry:
    try:
        return Entry(raw, read_resource(raw))
    except ConfigError as e:
        return Entry(raw, None, str(e))


def _essence(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    metadata = raw["metadata"]
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        metadata.get("labels"),
        metadata.get("finalizers"),
    )
