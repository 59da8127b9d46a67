"""promtool, and so Prometheus's conventions, are content with the server's own metrics."""

import asyncio

import pytest

from tests.peers.programs import program
from tests.server.conftest import Serve, Target, scrape_config


@pytest.mark.peers
async def test_promtool_finds_nothing_to_say(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address)) as client:

        async def scraped() -> bool:
            return bool((await client.api("query", query="up == 1"))["result"])

        await client.until(scraped)
        _, text = await client.request("GET", "/metrics")
        process = await asyncio.create_subprocess_exec(
            program("promtool"),
            "check",
            "metrics",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate(text.encode())
        assert (process.returncode, said.decode()) == (0, "")
