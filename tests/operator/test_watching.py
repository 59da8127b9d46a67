"""The copy of a kind's objects stays equal to the API server's: through pages, events, bookmarks, a 410 and silence."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client
from prometheus_client import CollectorRegistry

from bellbuoy_operator.cluster import PODS, Cluster
from bellbuoy_operator.watching import Watcher, WatchMetrics


def item(name: str, value: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "a", "name": name, "resourceVersion": str(version)}, "value": value}


@dataclass
class Server:
    """An API server of one kind, played: a list in pages of one, and a watch that says what it is given."""

    items: list[dict[str, Any]] = field(default_factory=list)
    version: int = 10
    lists: int = 0
    fail_lists: int = 0
    watched_from: list[str] = field(default_factory=list)
    events: "asyncio.Queue[dict[str, Any] | None]" = field(default_factory=asyncio.Queue)

    async def pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        if self.fail_lists:
            self.fail_lists -= 1
            return web.json_response({"message": "not now", "reason": "ServiceUnavailable"}, status=503)
        at = int(request.query.get("continue", "0"))
        self.lists += at == 0
        more = {"continue": str(at + 1)} if at + 1 < len(self.items) else {}
        metadata = {"resourceVersion": str(self.version), **more}
        return web.json_response({"metadata": metadata, "items": self.items[at : at + 1]})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watched_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self.events.get()) is not None:
            text = json.dumps(event).encode() + b"\n"
            # In two pieces: an event may be cut anywhere.
            await response.write(text[:7])
            await response.write(text[7:])
        return response


@dataclass
class Watched:
    server: Server
    watcher: Watcher[str]
    changes: list[tuple[str, str | None, str | None]]

    async def until(self, want: dict[str, str]) -> None:
        async with asyncio.timeout(10):
            while {name: value for (_, name), value in self.watcher.objects.items()} != want:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def prune(raw: Mapping[str, Any]) -> str | None:
    return None if raw["value"] == "unwanted" else str(raw["value"])


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    server, changes = Server(items=[item("x", "1", 1), item("y", "1", 2), item("z", "unwanted", 3)]), []
    app = web.Application()
    app.router.add_get("/api/v1/pods", server.pods)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cluster = Cluster(client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    watcher: Watcher[str] = Watcher(
        cluster,
        PODS,
        prune,
        lambda key, before, now: changes.append((key[1], before, now)),
        WatchMetrics(CollectorRegistry()),
        inactivity_seconds=1.0,
    )
    task = asyncio.create_task(watcher.run())
    yield Watched(server, watcher, changes)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await cluster.close()
    await runner.cleanup()


async def test_all_pages_of_a_list_are_read_and_pruned_before_it_is_synced(watched: Watched) -> None:
    await watched.watcher.synced.wait()
    await watched.until({"x": "1", "y": "1"})
    assert sorted(watched.changes) == [("x", None, "1"), ("y", None, "1")]


async def test_events_change_one_object_and_what_prunes_to_the_same_is_no_change(watched: Watched) -> None:
    await watched.watcher.synced.wait()
    watched.changes.clear()
    events = watched.server.events
    events.put_nowait({"type": "ADDED", "object": item("w", "1", 11)})
    events.put_nowait({"type": "MODIFIED", "object": item("x", "1", 12)})
    events.put_nowait({"type": "MODIFIED", "object": item("x", "2", 13)})
    events.put_nowait({"type": "DELETED", "object": item("y", "1", 14)})
    await watched.until({"w": "1", "x": "2"})
    assert watched.changes == [("w", None, "1"), ("x", "1", "2"), ("y", "1", None)]


async def test_a_stream_that_ends_goes_on_from_the_last_bookmark(watched: Watched) -> None:
    await watched.watcher.synced.wait()
    watched.server.events.put_nowait({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}})
    watched.server.events.put_nowait(None)
    async with asyncio.timeout(5):
        while len(watched.server.watched_from) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert watched.server.watched_from == ["10", "77"]
    assert watched.server.lists == 1


async def test_after_a_410_the_list_replaces_everything_so_no_ghost_stays(watched: Watched) -> None:
    await watched.watcher.synced.wait()
    await watched.until({"x": "1", "y": "1"})
    watched.changes.clear()
    watched.server.items, watched.server.version = [item("x", "2", 20)], 20
    watched.server.events.put_nowait({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}})
    await watched.until({"x": "2"})
    assert sorted(watched.changes) == [("x", "1", "2"), ("y", "1", None)]


async def test_a_silent_stream_is_given_up_and_a_failing_list_keeps_what_was_known(watched: Watched) -> None:
    await watched.watcher.synced.wait()
    await watched.until({"x": "1", "y": "1"})
    watched.server.fail_lists = 1
    watched.server.items = [item("x", "3", 30)]
    assert {key[1] for key in watched.watcher.objects} == {"x", "y"}
    await watched.until({"x": "3"})
    assert watched.watcher.synced.is_set()
    assert watched.server.fail_lists == 0
