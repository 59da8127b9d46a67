"""A pushgateway in the test's own process, at a free port, with a clock that the test moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import aiohttp
import pytest
from yarl import URL

from bellbuoy.pushgateway import Options, run


@dataclass
class Gateway:
    """How a test talks to it."""

    url: str
    session: aiohttp.ClientSession

    async def send(self, method: str, path: str, body: str | bytes = b"", **headers: str) -> tuple[int, str]:
        """The answer's status and text; `Content_Type=` is a header."""
        data = body.encode() if isinstance(body, str) else body
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, URL(self.url + path, encoded=True), data=data, headers=said) as answer:
            return answer.status, await answer.text()

    async def put(self, path: str, body: str | bytes, **headers: str) -> tuple[int, str]:
        return await self.send("PUT", "/metrics/" + path, body, **headers)

    async def lines(self, word: str) -> list[str]:
        """The lines of /metrics that have this word, without comments and what is told of requests."""
        _, text = await self.send("GET", "/metrics")
        return sorted(
            line for line in text.splitlines() if word in line and not line.startswith(("#", "bellbuoy_http"))
        )


Start = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def start() -> Start:
    """`async with start(group_limit=2) as gateway`: options by name."""

    @contextlib.asynccontextmanager
    async def started(**options: object) -> AsyncIterator[Gateway]:
        stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
        wanted = Options(listen="127.0.0.1:0", **options)  # type: ignore[arg-type]
        task = asyncio.create_task(run(wanted, stop, listening=address.set_result))
        await asyncio.wait([task, address], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        try:
            async with aiohttp.ClientSession() as session:
                yield Gateway(f"http://{await address}", session)
        finally:
            stop.set()
            await task

    return started
