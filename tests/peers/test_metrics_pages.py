"""What our parts answer at /metrics, as Prometheus's own programs read it; the operator's page is read in tests/e2e."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from tests.peers.programs import Program, check_metrics, fetch, found_by, free_port, part, prometheus, started

pytestmark = pytest.mark.peers

SAMPLE_APP = Path(__file__).resolve().parents[1] / "apps" / "sample_app.py"
# Each page, and a metric of it that is about what its program does. Add a page here, and both look at it.
PAGES = {
    "server": "bellbuoy_scraper_scrapes_total",
    "alertmanager": "alertmanager_alerts",
    "node-exporter": "node_cpu_seconds_total",
    "pushgateway": "bellbuoy_pushgateway_groups",
    "pushgateway with groups": "job_rows",
    "sample-app": "sample_requests_total",
}


@contextlib.asynccontextmanager
async def serving(page: str, folder: Path) -> AsyncIterator[Program]:
    """The program of a page, with something behind it that its metrics are about."""
    if page == "server":
        async with server_of_itself(folder) as it:
            yield it
    elif page == "alertmanager":
        config = folder / "alertmanager.yml"
        config.write_text(json.dumps({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
        files = (f"--config.file={config}", f"--storage.path={folder / 'data'}")
        async with part("alertmanager", *files, folder=folder) as it, aiohttp.ClientSession() as session:
            alert = {"labels": {"alertname": "Slow"}}
            async with session.post(f"{it.url}/api/v2/alerts", json=[alert]) as response:
                assert response.status == 200
            yield it
    elif page == "sample-app":
        port = free_port()
        command = [sys.executable, str(SAMPLE_APP), "--address=127.0.0.1", f"--port={port}"]
        async with started(command, name=page, port=port, folder=folder, ready="/ready") as it:
            await fetch(f"{it.url}/")
            yield it
    else:
        async with part(page.split()[0], folder=folder) as it:
            if page == "pushgateway with groups":
                await asyncio.to_thread(push_something, it)
            yield it


@contextlib.asynccontextmanager
async def server_of_itself(folder: Path) -> AsyncIterator[Program]:
    """Our server, after it has scraped itself and evaluated a rule."""
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [{"record": "r", "expr": "up"}]}]}))
    config = folder / "bellbuoy.yml"
    async with part("server", f"--config.file={written(config, {})}", "--web.enable-lifecycle", folder=folder) as it:
        address = it.url.removeprefix("http://")
        job = {"job_name": "self", "static_configs": [{"targets": [address]}]}
        interval = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        written(config, {"global": interval, "scrape_configs": [job], "rule_files": ["rules.yml"]})
        async with aiohttp.ClientSession() as session, session.post(f"{it.url}/-/reload") as response:
            assert response.status == 200
        await found_by(it, "up == 1 and r")
        yield it


def written(file: Path, content: dict[str, Any]) -> Path:
    file.write_text(json.dumps(content))
    return file


def push_something(to: Program) -> None:
    registry = CollectorRegistry()
    Gauge("job_rows", "Rows that the job wrote.", ["table"], registry=registry).labels("users").set(12)
    push_to_gateway(to.url, job="import", grouping_key={"shard": "1/2"}, registry=registry)


@pytest.mark.parametrize("page", PAGES)
async def test_promtool_finds_nothing_wrong_with_our_metrics(page: str, tmp_path: Path) -> None:
    async with serving(page, tmp_path) as it:
        text = await fetch(f"{it.url}/metrics")
    assert f"\n{PAGES[page]}" in text
    assert await check_metrics(text) == []


async def test_prometheus_scrapes_all_of_us_and_finds_us_up(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ours = {}
        for page in PAGES:
            folder = tmp_path / page.replace(" ", "-")
            folder.mkdir()
            ours[page] = await stack.enter_async_context(serving(page, folder))
        jobs = [
            {
                "job_name": page,
                "honor_labels": True,
                "static_configs": [{"targets": [it.url.removeprefix("http://")], "labels": {"page": page}}],
            }
            for page, it in ours.items()
        ]
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
        peer = await stack.enter_async_context(prometheus(config, folder=tmp_path))
        found = {}
        for page, metric in PAGES.items():
            await found_by(peer, f'up{{page="{page}"}} == 1')
            found[page] = await found_by(peer, f'{metric}{{page="{page}"}}')
    labels = found["pushgateway with groups"][0]["metric"]
    assert (labels["job"], labels["shard"], labels["table"]) == ("import", "1/2", "users")
    # Its push said no instance, and Prometheus must not put the pushgateway's own in its place.
    assert "instance" not in labels
    assert {one["metric"]["mode"] for one in found["node-exporter"]} >= {"user", "system", "idle", "iowait"}
