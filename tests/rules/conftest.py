"""A storage, an engine over it, and an alertmanager that takes API v2 and remembers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from bellbuoy.promql import Engine
from bellbuoy.tsdb import LabelSets, Storage


class Store:
    """A storage with short ways to put samples in and to get them out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage = Storage(str(path))
        self.engine = Engine(self.storage)

    def put(self, at: float, value: float, **labels: str) -> None:
        named = {("__name__" if name == "name" else name): text for name, text in labels.items()}
        self.storage.append(LabelSets.from_dicts([named]), np.array([round(at * 1000)]), np.array([float(value)]))

    def get(self, query: str, at: float) -> dict[str, float]:
        result = self.engine.instant(query, round(at * 1000))
        return {
            ",".join(f"{name}={text}" for name, text in sorted(labels.items())): value
            for labels, _, value in result.samples()
        }

    def reopen(self) -> "Store":
        self.storage.close()
        return Store(self.path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "tsdb")
    yield made
    made.storage.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds: what it looks at is changed by servers and threads that tell nobody."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Alertmanager:
    """The receiving end of API v2; `answers` are the next statuses, 200 when there are none."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        self.requests: list[web.Request] = []
        self.batches: list[int] = []
        self.answers: list[int] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.address = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(request)
        await self.hold.wait()
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.batches.append(len(body))
            self.alerts += body
        return web.Response(status=status, text="said so")

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many alerts."""
        await until(lambda: len(self.alerts) >= count)
        return self.alerts


@pytest.fixture
async def alertmanager() -> AsyncIterator[Alertmanager]:
    made = Alertmanager()
    app = web.Application()
    app.router.add_post("/api/v2/alerts", made.take)
    app.router.add_post("/sub/api/v2/alerts", made.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.hold.set()
    await runner.cleanup()
