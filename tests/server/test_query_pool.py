"""Queries wait their turn, end in time, and end when their client has left."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from bellbuoy.promql import QueryError
from bellbuoy.server.query_pool import QueryPool


class Answers:
    """A web server whose handler runs what a test wants through a pool of one thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pool = QueryPool(concurrency=1, timeout_seconds=5, registry=self.registry)
        self.ended = threading.Event()
        self.started = asyncio.Event()
        self.url = ""

    def until_cancelled(self, cancelled: Callable[[], bool]) -> str:
        """A query that ends at its next look, as the engine does."""
        while not cancelled():
            time.sleep(0.01)
        self.ended.set()
        return "late"

    async def handle(self, request: web.Request) -> web.Response:
        self.started.set()
        timeout = float(request.query.get("timeout", "5"))
        work = self.until_cancelled if request.path == "/slow" else lambda _: "quick"
        try:
            return web.Response(text=await self.pool.run(request, work, timeout_seconds=timeout))
        except QueryError as e:
            return web.Response(status=503, text=f"{e.kind}: {e}")

    def aborted(self, reason: str) -> float:
        return self.registry.get_sample_value("bellbuoy_queries_aborted_total", {"reason": reason}) or 0.0


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    made = Answers()
    app = web.Application()
    app.router.add_get("/{any}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()
    await made.pool.close()


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def test_a_query_that_takes_too_long_is_ended(answers: Answers) -> None:
    assert await get(answers.url + "/slow?timeout=0.2") == "timeout: query timed out in expression evaluation"
    assert await asyncio.to_thread(answers.ended.wait, 5)
    assert answers.aborted("timeout") == 1


async def test_a_query_whose_client_left_is_ended(answers: Answers) -> None:
    task = asyncio.create_task(get(answers.url + "/slow"))
    await answers.started.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    assert await asyncio.to_thread(answers.ended.wait, 5)
    await asyncio.sleep(0.05)
    assert answers.aborted("client gone") == 1
    assert await get(answers.url + "/quick") == "quick"


async def test_a_query_waits_its_turn_and_no_longer_than_its_time(answers: Answers) -> None:
    slow = asyncio.create_task(get(answers.url + "/slow?timeout=0.6"))
    await answers.started.wait()
    assert await get(answers.url + "/quick?timeout=0.1") == "timeout: query timed out in query queue"
    assert await get(answers.url + "/quick?timeout=4") == "quick"
    assert "timed out" in await slow
