"""A server that is killed comes back with its samples, and `for` goes on where it was."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from bellbuoy._core import Storage
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
async def program(folder: Path, *flags: str, end: signal.Signals) -> AsyncIterator[Client]:
    """The server as a process of its own, ended by this signal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        *flags,
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


async def keep_house(client: Client) -> None:
    """Snapshots, deletions and cleaning up, until the server is gone."""
    with contextlib.suppress(aiohttp.ClientError):
        while True:
            for path in ("delete_series?match[]=room_temperature_celsius", "snapshot", "clean_tombstones"):
                status, body = await client.request("POST", f"/api/v1/admin/tsdb/{path}")
                assert status in (200, 204), body


async def test_a_kill_while_snapshots_are_made_and_series_deleted_loses_and_brings_back_nothing(
    target: Target, tmp_path: Path
) -> None:
    (tmp_path / "prometheus.yml").write_text(scrape_config(target.address), encoding="utf-8")
    before = 0
    for wait_seconds in (1.7, 2.3):
        async with program(tmp_path, "--web.enable-admin-api", end=signal.SIGKILL) as client:
            busy = asyncio.create_task(keep_house(client))
            await asyncio.sleep(wait_seconds)
            up = (await client.api("query", query="count_over_time(up[1m])"))["result"]
            assert int(up[0]["value"][1]) >= before
            # What is younger than the commit interval may be lost.
            before = int(up[0]["value"][1]) - 6
        await busy
    storage = Storage(str(tmp_path / "data"))
    assert storage.losses() == []
    found = storage.select([("__name__", "=~", "up|room_temperature_celsius|app_requests_total")], 0, 2**50)
    samples = dict(
        zip((labels["__name__"] for labels in found.labels.to_dicts()), np.diff(found.offsets), strict=False)
    )
    assert samples["up"] >= before
    # Deleted again and again: a second's worth, scraped since, is left.
    assert samples.get("room_temperature_celsius", 0) < samples["up"]
    for labels, start, end in zip(found.labels.to_dicts(), found.offsets[:-1], found.offsets[1:], strict=True):
        wanted = {"up": {1.0}, "app_requests_total": {0.0, 7.0}}.get(labels["__name__"], {21.5, -3.0})
        values = found.values[start:end]
        assert set(values[~np.isnan(values)].tolist()) <= wanted
    storage.close()
