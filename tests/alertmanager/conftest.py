"""An alertmanager in this process, on a loop whose time passes by itself: hours of waiting take no time.

When nothing is left to do, no answer is on its way and no thread works, the loop's clock jumps to the next timer.
"""

import asyncio
import contextlib
import selectors
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bellbuoy.alertmanager import Options, run
from bellbuoy.alertmanager.times import SECOND, Clock, format_time

# How long nothing must happen before time jumps: more than the loopback takes.
IDLE_SECONDS = 0.001
# When every test begins: a Monday, noon in UTC.
START = 1_767_614_400 * SECOND


class _Selector(selectors.DefaultSelector):
    """Waits a little, then lets time jump instead of waiting on."""

    loop: "PassingLoop"

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(min(timeout, IDLE_SECONDS))
        if not events and not self.loop.threads:
            self.loop.passed += max(timeout - IDLE_SECONDS, 0)
        return events


class PassingLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` runs ahead of the world."""

    def __init__(self) -> None:
        self.passed, self.threads = 0.0, 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.began = self.time()

    def time(self) -> float:
        """Seconds, those jumped over included."""
        return super().time() + self.passed

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> Any:
        """As ever; time does not jump while the thread works."""
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self.threads -= 1


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Time passes by itself in all tests here, but in modules that say `REAL_TIME = True`."""
    real = getattr(getattr(item, "module", None), "REAL_TIME", False)
    return {"loop": asyncio.new_event_loop if real else PassingLoop}


class LoopClock:
    """The wall clock of a test: START, and what has passed on the loop since."""

    def __init__(self, *, start: int = START) -> None:
        self._start, self._began = start, asyncio.get_running_loop().time()

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return self._start + round((asyncio.get_running_loop().time() - self._began) * SECOND)


@dataclass
class Webhook:
    """A receiver that keeps what it is told, and answers as it is asked to."""

    payloads: list[dict[str, Any]]
    times: list[float]
    answers: list[int]
    url: str = ""

    @property
    def told(self) -> list[tuple[str, list[str]]]:
        """Each notification: its status, and the alerts as `name:status`."""
        return [
            (payload["status"], [f"{one['labels']['alertname']}:{one['status']}" for one in payload["alerts"]])
            for payload in self.payloads
        ]


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    """A webhook that listens."""
    async with _listening_webhook() as hook:
        yield hook


@pytest.fixture
async def other_webhook() -> AsyncIterator[Webhook]:
    """Another one."""
    async with _listening_webhook() as hook:
        yield hook


@contextlib.asynccontextmanager
async def _listening_webhook() -> AsyncIterator[Webhook]:
    hook = Webhook([], [], [])

    async def take(request: web.Request) -> web.Response:
        if hook.answers and (status := hook.answers.pop(0)) != 200:
            return web.Response(status=status, text="not now")
        hook.payloads.append(await request.json())
        hook.times.append(asyncio.get_running_loop().time())
        return web.Response()

    app = web.Application()
    app.router.add_post("/{name:.*}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield hook
    await runner.cleanup()


@dataclass
class Alertmanager:
    """A running one, seen through its API."""

    url: str
    session: aiohttp.ClientSession
    clock: Clock

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a path."""
        async with self.session.get(f"{self.url}{path}", params=params) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def post(self, path: str, content: Any, *, status: int = 200) -> Any:
        """Post JSON; the answer."""
        async with self.session.post(f"{self.url}{path}", json=content) as response:
            text = await response.text()
            assert response.status == status, text
            return await response.json() if text else None

    async def fire(self, name: str, *, ends_in: float = 0, annotations: Any = None, **labels: str) -> None:
        """Post an alert that fires now, or ends in so many seconds."""
        alert: dict[str, Any] = {"labels": {"alertname": name, **labels}, "annotations": annotations or {}}
        if ends_in:
            alert["startsAt"] = format_time(self.clock.now())
            alert["endsAt"] = format_time(self.clock.now() + round(ends_in * SECOND))
        await self.post("/api/v2/alerts", [alert])

    async def resolve(self, name: str, **labels: str) -> None:
        """Post that an alert ends now."""
        now = format_time(self.clock.now())
        await self.post("/api/v2/alerts", [{"labels": {"alertname": name, **labels}, "endsAt": now}])

    async def silence(self, *, seconds: float = 3600, **labels: str) -> str:
        """Silence alerts with these labels; the id."""
        now = self.clock.now()
        matchers = [{"name": name, "value": value, "isRegex": False} for name, value in labels.items()]
        answer = await self.post(
            "/api/v2/silences",
            {
                "matchers": matchers,
                "startsAt": format_time(now),
                "endsAt": format_time(now + round(seconds * SECOND)),
                "createdBy": "test",
                "comment": "quiet",
            },
        )
        return str(answer["silenceID"])


def write_config(folder: Path, text: str, *, replacements: Mapping[str, str]) -> Path:
    """Write an alertmanager.yml with `$NAME` replaced."""
    for name, value in replacements.items():
        text = text.replace(f"${name}", value)
    path = folder / "alertmanager.yml"
    path.write_text(text)
    return path


@contextlib.asynccontextmanager
async def running(options: Options, *, clock: Clock | None = None) -> AsyncIterator[Alertmanager]:
    """One that runs inside the block and stops gracefully at its end."""
    clock = clock or LoopClock()
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(options, stop, listening=address.set_result, clock=clock))
    try:
        await asyncio.wait({task, address}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        async with aiohttp.ClientSession() as session:
            yield Alertmanager(f"http://{await address}", session, clock)
    finally:
        stop.set()
        await task


Start = Callable[..., contextlib.AbstractAsyncContextManager[Alertmanager]]


@pytest.fixture
def start(tmp_path: Path, webhook: Webhook) -> Start:
    """Start one with this configuration, in which `$HOOK` is the webhook's URL; its state stays between starts."""

    def start(config: str, *, clock: Clock | None = None, **options: Any) -> Any:
        path = write_config(tmp_path, config, replacements={"HOOK": webhook.url})
        given: dict[str, Any] = {
            "config_file": path,
            "storage_path": tmp_path / "data",
            "listen": "127.0.0.1:0",
        } | options
        return running(Options(**given), clock=clock)

    return start
