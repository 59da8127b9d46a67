"""What our parts answer at /metrics, as Prometheus's own programs read it."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from tests.peers.programs import Program, fetch, free_port, part, program, started

pytestmark = pytest.mark.peers

# Each part with the flags that it needs to run by itself. Add a part here, and promtool and Prometheus look at it.
PARTS: dict[str, tuple[str, ...]] = {
    "node-exporter": (),
    "pushgateway": (),
}
# The names are node_exporter's own: promtool would have them otherwise, in the original as well.
NAMES_OF_THE_REFERENCE = ("node_", "process_")


def push_something(to: Program) -> None:
    registry = CollectorRegistry()
    Gauge("job_rows", "Rows that the job wrote.", ["table"], registry=registry).labels("users").set(12)
    push_to_gateway(to.url, job="import", grouping_key={"shard": "1/2"}, registry=registry)


@pytest.mark.parametrize("name", PARTS)
async def test_promtool_finds_nothing_wrong_with_our_metrics(name: str, tmp_path: Path) -> None:
    async with part(name, *PARTS[name], folder=tmp_path) as it:
        if name == "pushgateway":
            await asyncio.to_thread(push_something, it)
        text = await fetch(it.url + "/metrics")
    checked = await asyncio.to_thread(
        subprocess.run, [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
    )
    complaints = [line for line in (checked.stdout + checked.stderr).splitlines() if line.strip()]
    ours = [line for line in complaints if not line.startswith(NAMES_OF_THE_REFERENCE)]
    assert ours == []
    if not complaints:
        assert checked.returncode == 0


@pytest.mark.parametrize("name", PARTS)
async def test_prometheus_scrapes_us_and_finds_us_up(name: str, tmp_path: Path) -> None:
    wanted = {"node-exporter": "node_cpu_seconds_total", "pushgateway": "job_rows"}
    async with part(name, *PARTS[name], folder=tmp_path) as it:
        if name == "pushgateway":
            await asyncio.to_thread(push_something, it)
        async with prometheus(it, tmp_path) as peer:
            up = await query_until(peer, f'up{{job="{name}"}} == 1')
            assert [sample["value"][1] for sample in up] == ["1"]
            found = await query_until(peer, wanted[name])
    if name == "pushgateway":
        labels = found[0]["metric"]
        assert (labels["job"], labels["shard"], labels["table"]) == ("import", "1/2", "users")
        # Its push said no instance, and Prometheus must not put the pushgateway's own in its place.
        assert "instance" not in labels
    else:
        assert {sample["metric"]["mode"] for sample in found} >= {"user", "system", "idle", "iowait"}


@contextlib.asynccontextmanager
async def prometheus(target: Program, folder: Path) -> AsyncIterator[Program]:
    """Debian's Prometheus, scraping this program each second."""
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "scrape_configs": [
                    {
                        "job_name": target.name,
                        "honor_labels": True,
                        "scrape_interval": "1s",
                        "static_configs": [{"targets": [target.url.removeprefix("http://")]}],
                    }
                ]
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    async with started(command, url=f"http://{address}", folder=folder, ready="/-/ready") as it:
        yield it


async def query_until(peer: Program, query: str) -> list[dict[str, Any]]:
    """The first answer to an instant query that is not empty."""
    for _ in range(300):
        answer = json.loads(await fetch(f"{peer.url}/api/v1/query?query={quote(query)}"))
        result: list[dict[str, Any]] = answer["data"]["result"]
        if result:
            return result
        await asyncio.sleep(0.1)
    raise AssertionError(f"{query} finds nothing; Prometheus wrote:\n{peer.log()}")
