"""Our server among the reference's programs: it scrapes them as Prometheus does, and its alerts reach Alertmanager.

Debian's Prometheus is of version 2. Ours follows version 3, which writes `le` and `quantile` with a fraction.
"""

import asyncio
import contextlib
import json
import signal
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.peers.programs import Program, fetch, part, peer, program, prometheus, query, until

pytestmark = pytest.mark.peers

PUSHED = """# TYPE temperature gauge
temperature{room="cellar"} 40
# TYPE took_seconds histogram
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="+Inf"} 3
took_seconds_sum 1234567.5
took_seconds_count 3
"""
RULES: dict[str, Any] = {
    "groups": [
        {
            "name": "rooms",
            "rules": [
                {
                    "alert": "Hot",
                    "expr": "temperature > 30",
                    "for": "2s",
                    "labels": {"severity": "critical"},
                    "annotations": {"summary": "{{ $labels.room }} is at {{ $value }}"},
                }
            ],
        }
    ]
}
Labels = tuple[tuple[str, str], ...]
# Fewer than any of the pages has, more than a target that is down.
LEAST_SERIES = 30
# What stays the same from scrape to scrape, on each of the pages.
CONSTANT = (
    'up{peer!=""}',
    "node_uname_info",
    "node_memory_MemTotal_bytes",
    "temperature",
    "took_seconds_bucket",
    "pushgateway_build_info",
    "alertmanager_build_info",
    "prometheus_build_info",
)


def push(gateway: Program, text: str) -> None:
    with urlopen(Request(f"{gateway.url}/metrics/job/rooms", data=text.encode(), method="PUT"), timeout=10):
        pass


@contextlib.asynccontextmanager
async def exporters(folder: Path) -> AsyncIterator[dict[str, Program]]:
    """The reference's programs, by the name of what they are."""
    config = folder / "alertmanager.yml"
    config.write_text(json.dumps({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
    files = (f"--config.file={config}", f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=")
    async with (
        peer("prometheus-node-exporter", folder=folder, ready="/metrics") as node_exporter,
        peer("prometheus-pushgateway", folder=folder) as pushgateway,
        peer("prometheus-alertmanager", *files, folder=folder) as alertmanager,
    ):
        await asyncio.to_thread(push, pushgateway, PUSHED)
        yield {"node_exporter": node_exporter, "pushgateway": pushgateway, "alertmanager": alertmanager}


def scraping(targets: dict[str, Program], **more: Any) -> dict[str, Any]:
    """A configuration that scrapes them; all series carry the target's name in the label `peer`."""
    jobs = [
        {
            "job_name": name,
            "honor_labels": name == "pushgateway",
            "static_configs": [{"targets": [it.url.removeprefix("http://")], "labels": {"peer": name}}],
        }
        for name, it in targets.items()
    ]
    return {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": jobs, **more}


@contextlib.asynccontextmanager
async def server(config: dict[str, Any], folder: Path) -> AsyncIterator[Program]:
    """Our server with this configuration."""
    place = folder / "ours"
    place.mkdir()
    (place / "prometheus.yml").write_text(json.dumps(config))
    (place / "rules.yml").write_text(json.dumps(RULES))
    files = (f"--config.file={place / 'prometheus.yml'}", f"--storage.path={place / 'data'}")
    async with part("server", *files, folder=folder) as it:
        yield it


def labels_of(metric: dict[str, str]) -> Labels:
    """In a fixed order, bounds of buckets as version 2 writes them."""
    bounds = ("le", "quantile")
    return tuple(sorted((k, v.removesuffix(".0") if k in bounds else v) for k, v in metric.items()))


async def values(at: Program, expr: str) -> dict[Labels, str]:
    """The series that an instant query finds, and their values."""
    return {labels_of(one["metric"]): one["value"][1] for one in await query(at, expr)}


async def have_the_same_series(ours: Program, theirs: Program, *, of: str, seconds: float = 60.0) -> None:
    """Wait until both have the same of a target, its `up` and the like among them: pages grow while they are read."""
    deadline = time.monotonic() + seconds
    while True:
        mine, wanted = [(await values(at, f'{{peer="{of}"}}')).keys() for at in (ours, theirs)]
        if len(wanted) > LEAST_SERIES and mine == wanted:
            return
        if time.monotonic() > deadline:
            assert len(wanted) > LEAST_SERIES
            assert (mine - wanted, wanted - mine) == (set(), set())
        await asyncio.sleep(0.1)


async def promtool(*words: str, at: Program) -> list[str]:
    """The lines that `promtool query` prints; a server may answer with series in any order."""
    command = [program("promtool"), "query", *(at.url if word == "SERVER" else word for word in words)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return sorted(line.replace('.0"', '"') for line in said.decode().splitlines() if line)


async def test_it_scrapes_the_references_programs_as_prometheus_does(tmp_path: Path) -> None:
    async with exporters(tmp_path) as targets, prometheus(scraping(targets), folder=tmp_path) as theirs:
        # A Prometheus's own page is one more.
        config = scraping({**targets, "prometheus": theirs})
        (tmp_path / "prometheus" / "prometheus.yml").write_text(json.dumps(config))
        theirs.process.send_signal(signal.SIGHUP)
        async with server(config, tmp_path) as ours:
            for name in ("node_exporter", "pushgateway", "alertmanager", "prometheus"):
                await have_the_same_series(ours, theirs, of=name)
            for expr in CONSTANT:
                mine, wanted = await asyncio.gather(values(ours, expr), values(theirs, expr))
                assert mine == wanted, expr
                assert mine, expr
            for n in range(len(promtool_queries(time.time()))):
                # A moment that one of them has not scraped yet is no difference: another is asked for.
                end = time.monotonic() + 30
                while True:
                    words = promtool_queries(time.time())[n]
                    mine_said, their_said = [await promtool(*words, at=at) for at in (ours, theirs)]
                    if (mine_said and mine_said == their_said) or time.monotonic() > end:
                        break
                    await asyncio.sleep(1)
                assert mine_said == their_said, words
                assert mine_said, words


def promtool_queries(now: float) -> list[list[str]]:
    """What promtool is to ask, SERVER standing for the address."""
    pushed = 'sum by (le) (took_seconds_bucket) + on () group_left () up{peer="pushgateway"}'
    # Later than both have begun.
    times = [f"--start={now:.0f}", f"--end={now + 2:.0f}", "--step=1s"]
    return [
        ["instant", f"--time={now:.0f}", "SERVER", pushed],
        ["range", *times, "SERVER", "node_memory_MemTotal_bytes"],
        ["series", "--match=temperature", "--match=node_uname_info", "SERVER"],
        ["labels", "SERVER", "peer"],
    ]


async def test_its_alerts_reach_a_real_alertmanager_and_end_there(tmp_path: Path) -> None:
    async with exporters(tmp_path) as targets:
        address = targets["alertmanager"].url.removeprefix("http://")
        alerting = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
        config = scraping({"pushgateway": targets["pushgateway"]}, rule_files=["rules.yml"], alerting=alerting)
        async with server(config, tmp_path) as ours:

            async def active() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = json.loads(await fetch(f"http://{address}/api/v2/alerts", accept="*/*"))
                return found

            [alert] = await until("the alert reaches Alertmanager", active)
            wanted = {
                "alertname": "Hot",
                "severity": "critical",
                "room": "cellar",
                "job": "rooms",
                "peer": "pushgateway",
            }
            assert alert["labels"] == wanted
            assert alert["annotations"] == {"summary": "cellar is at 40"}
            assert alert["status"]["state"] == "active"
            assert alert["generatorURL"].endswith("/graph?g0.expr=temperature+%3E+30&g0.tab=1")
            [shown] = json.loads(await fetch(f"{ours.url}/api/v1/alerts"))["data"]["alerts"]
            assert shown["state"] == "firing"
            await asyncio.to_thread(push, targets["pushgateway"], PUSHED.replace("40", "10"))

            async def ended() -> bool:
                return not await active()

            await until("the alert ends at Alertmanager", ended)
