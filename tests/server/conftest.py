"""A running server over HTTP, and a target that prometheus_client serves."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

from bellbuoy.server import Options, run
from bellbuoy.tsdb import Histogram as NativeHistogram
from bellbuoy.tsdb import LabelSets, Storage


@dataclass
class Target:
    """A real exporter: its address and its metrics."""

    address: str
    temperature: Gauge
    requests: Counter


@pytest.fixture
def target() -> Iterator[Target]:
    registry = CollectorRegistry()
    temperature = Gauge("room_temperature_celsius", "How warm it is.", ["room"], registry=registry)
    requests = Counter("app_requests", "Requests.", ["code"], registry=registry)
    seconds = Histogram("app_seconds", "Time of requests.", registry=registry, buckets=(0.1, 1, 10))
    Info("app", "The version.", registry=registry).info({"version": "1.2"})
    temperature.labels("kitchen").set(21.5)
    temperature.labels("cellar").set(-3)
    requests.labels("200").inc(7)
    requests.labels("500").inc(0)
    seconds.observe(0.5)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield Target(f"127.0.0.1:{server.server_port}", temperature, requests)
    server.shutdown()
    server.server_close()
    thread.join()


class Client:
    """Talks to a server at an address."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address, self.session = address, session

    async def request(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status, and the JSON or the text of the answer."""
        async with self.session.request(method, f"http://{self.address}{path}", **more) as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()

    async def api(self, path: str, **params: Any) -> Any:
        """The data of a success."""
        status, body = await self.request("GET", f"/api/v1/{path}", params=params)
        assert status == 200, body
        assert body["status"] == "success"
        return body["data"]

    async def headers(self, path: str, **more: Any) -> dict[str, str]:
        """The answer's headers."""
        async with self.session.get(f"http://{self.address}{path}", **more) as response:
            return dict(response.headers)

    async def until(self, condition: Callable[[], Awaitable[Any]], *, seconds: float = 30) -> Any:
        """The first true value: servers and scrapes tell nobody when they are done."""
        async with asyncio.timeout(seconds):
            while not (found := await condition()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            return found

    async def ready(self) -> None:
        """Wait until the server is ready."""

        async def is_ready() -> bool:
            return (await self.request("GET", "/-/ready"))[0] == 200

        await self.until(is_ready)


Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Run a server with a configuration; as a context, it ends gracefully at its end."""
    async with aiohttp.ClientSession() as session:

        @asynccontextmanager
        async def start(config: str | None = None, *, wait: bool = True, **options: Any) -> AsyncIterator[Client]:
            path = tmp_path / "prometheus.yml"
            if config is not None:
                path.write_text(config, encoding="utf-8")
            chosen: dict[str, Any] = {
                "listen": "127.0.0.1:0", "storage_path": tmp_path / "data", "config_file": path, **options,
            }  # fmt: skip
            stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()
            task = asyncio.create_task(run(Options(**chosen), stop, listening=bound.set_result))
            await asyncio.wait([task, bound], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            client = Client(bound.result(), session)
            try:
                if wait:
                    await client.ready()
                yield client
            finally:
                stop.set()
                await task

        yield start


def scrape_config(address: str, *, interval: str = "200ms", more: str = "") -> str:
    """A configuration that scrapes one address."""
    return f"""
global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{address}"], labels: {{zone: a}}}}]
    relabel_configs: [{{action: drop, source_labels: [__address__], regex: dropped.*}}]
{more}"""


def threads() -> list[str]:
    """Names of threads that a server starts."""
    return [one.name for one in threading.enumerate() if one.name.startswith(("rules", "query"))]


NOW_MS = 1_700_000_000_000


def fill(folder: Path, *, histogram: NativeHistogram | None = None) -> None:
    """A storage with two tenants of three series each, a sample a second for a minute before NOW_MS."""
    storage = Storage(str(folder))
    sets = [
        {"__name__": "requests_total", "tenant": tenant, "path": path}
        for tenant in ("a", "b")
        for path in ("/", "/x", "/y")
    ]
    times = NOW_MS - 1000 * np.arange(59, -1, -1, dtype=np.int64)
    # Sample by sample, each of its own series.
    labels = LabelSets.from_dicts([one for one in sets for _ in times])
    values = np.concatenate([np.arange(60, dtype=np.float64) * (row + 1) for row in range(len(sets))])
    storage.append(labels, np.tile(times, len(sets)), values)
    if histogram is not None:
        storage.append_histograms(
            LabelSets.from_dicts([{"__name__": "latency", "tenant": "a"}]), np.array([NOW_MS], np.int64), [histogram]
        )
    storage.compact(everything=True)
    storage.close()


@pytest.fixture
async def filled(serve: Serve, tmp_path: Path) -> AsyncIterator[Client]:
    """A server over such a storage, which keeps it."""
    fill(tmp_path / "data")
    async with serve("", retention_seconds=100 * 365 * 86400.0, lifecycle=True, admin=True) as client:
        yield client
