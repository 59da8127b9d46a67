"""A server that is killed comes back with its samples, and `for` goes on where it was."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.server.conftest import Client, Target, scrape_config

# What the command line does, for one part.
PROGRAM = """
import argparse, asyncio, signal
from bellbuoy import logs
from bellbuoy.server import add_arguments, options, run
parser = argparse.ArgumentParser()
add_arguments(parser)
chosen = options(parser.parse_args())
logs.set_up()
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run(chosen, stop, listening=lambda address: print(address, flush=True))
asyncio.run(main())
"""


@asynccontextmanager
async def program(folder: Path, *, end: signal.Signals) -> AsyncIterator[Client]:
    """The server as a process of its own, ended by this signal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        address = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as session:
            client = Client(address, session)
            await client.ready()
            yield client
    finally:
        process.send_signal(end)
        code = await process.wait()
    assert code == (0 if end == signal.SIGTERM else -end)


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, list[dict[str, dict[str, str]]]]]:
    """An alertmanager's address, and what it got."""
    got: list[dict[str, dict[str, str]]] = []

    async def take(request: web.Request) -> web.Response:
        got.extend(json.loads(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/api/v2/alerts", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}", got
    await runner.cleanup()


async def test_after_a_kill_the_samples_are_there_and_for_goes_on(
    target: Target, tmp_path: Path, receiver: tuple[str, list[dict[str, dict[str, str]]]]
) -> None:
    address, got = receiver
    rule = "{alert: Warm, expr: room_temperature_celsius > 20, for: 8s}"
    (tmp_path / "rules.yml").write_text(f"groups: [{{name: g, interval: 500ms, rules: [{rule}]}}]", encoding="utf-8")
    more = f"rule_files: [rules.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n"
    (tmp_path / "prometheus.yml").write_text(scrape_config(target.address, more=more), encoding="utf-8")

    async with program(tmp_path, end=signal.SIGKILL) as client:

        async def pending() -> float:
            found = (await client.api("query", query="ALERTS_FOR_STATE"))["result"]
            return float(found[0]["value"][1]) if found else 0.0

        active_at = await client.until(pending)
        await asyncio.sleep(4)
        killed = time.time()
        before = (await client.api("query", query="count_over_time(up[1m])"))["result"][0]["value"][1]
    assert got == []
    async with program(tmp_path, end=signal.SIGTERM) as client:
        back = time.time()
        now = (await client.api("query", query="count_over_time(up[1m])"))["result"][0]["value"][1]
        # A kill loses at most what was not committed yet: one second.
        assert int(now) >= int(before) - 6

        async def firing() -> bool:
            return bool((await client.api("query", query='ALERTS{alertstate="firing"}'))["result"])

        await client.until(firing)
        fired = time.time()
        again = await pending_since(client)
    # Four seconds of the eight had passed; the time in between does not count, nor do they begin anew.
    assert active_at <= again <= active_at + (back - killed) + 2
    assert again < back - 2
    assert fired - back < 8
    assert got[0]["labels"]["alertname"] == "Warm"


async def pending_since(client: Client) -> float:
    """When the alert says that it began."""
    return float((await client.api("query", query="ALERTS_FOR_STATE"))["result"][0]["value"][1])
