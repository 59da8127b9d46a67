"""Prometheus 3.16 beside our server: it reads our samples by remote read, and what both answer is the same.

The two scrape one target as jobs of names that are equally long, so that what they count is equal, too; of our job
Prometheus has nothing but what it reads from us. Where it is not built (`make bench-ingest` builds it), our answers are
held by the other tests of this folder alone.
"""

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.programs import PROMETHEUS
from tests.peers.programs import free_port, started
from tests.server.conftest import Client, Serve, Target, scrape_config
from tests.server.routes import NOT_OURS, PROMETHEUS_ROUTES
from tests.server.tools import complaints

pytestmark = pytest.mark.peers
BUILT = ["Prometheus 3.16"] if PROMETHEUS.is_built() else []


@asynccontextmanager
async def both(serve: Serve, target: Target, folder: Path) -> AsyncIterator[tuple[Client, Client]]:
    """Ours, which scrapes as `app`, and theirs, which scrapes as `ppa` and reads `app` from ours."""
    more = "  - {job_name: late, static_configs: [{targets: ['127.0.0.1:1']}]}\n"
    config = scrape_config(target.address, more=more).replace("global: {", "global: {external_labels: {site: s}, ")
    async with serve(config) as ours, aiohttp.ClientSession() as session:
        read = f"remote_read: [{{url: 'http://{ours.address}/api/v1/read', read_recent: true}}]\n"
        (folder / "theirs.yml").write_text(config.replace("job_name: app", "job_name: ppa") + read, encoding="utf-8")
        port = free_port()
        command = [
            str(PROMETHEUS.path()), f"--config.file={folder / 'theirs.yml'}",
            f"--storage.tsdb.path={folder / 'theirs'}",
            f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=search-api,promql-per-step-stats",
            "--scrape.discovery-reload-interval=100ms",
        ]  # fmt: skip
        async with started(command, name="prometheus", port=port, folder=folder, ready="/-/ready"):
            theirs = Client(f"127.0.0.1:{port}", session)

            async def scraped(client: Client, job: str) -> bool:
                query = f'count_over_time(app_requests_total{{job="{job}"}}[1m]) > 5'
                return bool((await client.api("query", query=query))["result"])

            await theirs.until(lambda: scraped(theirs, "ppa"))
            await ours.until(lambda: scraped(ours, "app"))
            yield ours, theirs


QUOTED = '{"my.name", "la.bel"="x"}'
SYNTAX = (
    'sum by(a) (rate(x{b=~"c", d!="e"}[5m] offset 1m)) / on(a) group_left(k) topk(3, y)',
    "x[5m:1m] @ start() offset -2m", "-x + 3 ^ 2", "1e-7 > bool 1", "x or y unless ignoring(a) z", '"text"', "NaN",
    "-Inf", "(x)", "x[5m+1m] offset (10m/2)", "x[max_of(step(), 5m+3m)]", "x[4s+4s:1s*2] offset (5s-8)", "x @ 12.5",
    "x[1m] anchored", "x smoothed", "count_values without(a, b) ('v', x)", 'label_replace(x, "a", "$1", "b", "(.*)")',
    "quantile(0.9, x)", "x atan2 on() y", "x == bool on(a) group_right() y", "time()", "hour()", "-(x)", "+1",
    QUOTED, '{__name__=~"a.*"}', "round(x, 5)", "x[range()]", "histogram_quantile(0.9, x)",
    'label_join(x, "a", ",", "b", "c")', "1h", "x offset 1h30m", "sum(x) by (a)", "absent(x{a='b'})",
    "sum by (instance, job, namespace, pod, container) (rate(a_metric_with_a_long_name_total{namespace='some'}[5m])) "
    "/ on (instance) group_left () count by (instance) (another_metric_with_a_long_name{namespace='some'} > 0)",
)  # fmt: skip


async def check_syntax(ours: Client, theirs: Client) -> None:
    """Trees, and the printer."""
    for path in ("parse_query", "format_query"):
        for query in SYNTAX:
            if (path, query) == ("format_query", QUOTED):
                continue  # where Prometheus prints {__name__="my.name"}, we print it as it was written
            assert await ours.api(path, query=query) == await theirs.api(path, query=query), (path, query)


QUERIES = (
    "up", "room_temperature_celsius", "rate(app_requests_total[2s])", "sum(rate(app_seconds_bucket[3s])) by (le)",
    "app_requests_total offset 1s", "up + sum_over_time(up[2s:500ms])",
    "max_over_time(rate(app_requests_total[1s])[3s:1s])",
    "up @ end()", "sum_over_time(up[2s] @ end()) + up", "count(up) * 2", "vector(1)",
    "histogram_quantile(0.5, app_seconds_bucket)",
    "room_temperature_celsius > 0 or on() vector(3)", "topk(1, room_temperature_celsius)",
    "label_replace(up, 'a', 'b', '', '')",
)  # fmt: skip


def ours_only(query: str) -> str:
    """The query, of our job's series only."""
    return re.sub(r"\b(up|room_temperature_celsius|app_seconds_bucket|app_requests_total)\b", r'\1{job="app"}', query)


async def check_remote_read(ours: Client, theirs: Client) -> None:
    """What Prometheus reads from us gives what it gives here, and the samples are counted alike."""
    end = int(time.time()) - 1
    different = []
    for query in map(ours_only, QUERIES):
        for path, times in (
            ("query", {"time": str(end)}),
            ("query_range", {"start": str(end - 4), "end": str(end), "step": "1"}),
        ):
            answers = []
            for one in (ours, theirs):
                data = await one.api(path, query=query, stats="all", **times)
                rows = sorted(data["result"], key=str) if isinstance(data["result"], list) else data["result"]
                samples = data["stats"]["samples"]
                assert samples.pop("peakSamples") >= 0
                assert min(data["stats"]["timings"].values()) >= 0
                answers.append((rows, len(data["stats"]["timings"]), samples))
            if answers[0] != answers[1]:
                different.append(f"{path} {query}:\n  ours   {answers[0]}\n  theirs {answers[1]}")
    assert not different, "\n".join(different)


async def check_cardinality(ours: Client, theirs: Client) -> None:
    """The same series have the same weights."""
    mine, wanted = [await one.api("status/tsdb", limit="1000") for one in (ours, theirs)]
    for name in ("seriesCountByMetricName", "labelValueCountByLabelName", "memoryInBytesByLabelName"):
        assert sorted(mine[name], key=str) == sorted(wanted[name], key=str), name
    pairs = [
        sorted((one["name"].replace("ppa", "app"), one["value"]) for one in each["seriesCountByLabelValuePair"])
        for each in (mine, wanted)
    ]
    assert pairs[0] == pairs[1]
    for name in ("numSeries", "numLabelPairs"):
        assert mine["headStats"][name] == wanted["headStats"][name]
    for limit in ("0", "x", "10001"):
        refusals = [await one.request("GET", f"/api/v1/status/tsdb?limit={limit}") for one in (ours, theirs)]
        assert refusals[0] == refusals[1]


async def check_federation(ours: Client, theirs: Client) -> None:
    """The same page, but for times and names of jobs."""
    for query in (
        "match[]=app_requests_total&match[]={__name__=~'room.*|app_re.*'}",
        "match[]=up",
        "match[]=nothing",
        "",
    ):
        pages = []
        for one in (ours, theirs):
            status, text = await one.request("GET", f"/federate?{query}")
            assert status == 200
            text = text.replace("ppa", "app")
            assert not text or 'site="s"' in text
            pages.append([re.sub(r" \d+$", "", line) for line in text.splitlines()])
            kind = (await one.headers(f"/federate?{query}"))["Content-Type"]
            assert kind == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        assert sorted(pages[0]) == sorted(pages[1])
    refusals = [await one.request("GET", "/federate?match[]=sum(") for one in (ours, theirs)]
    assert [status for status, _ in refusals] == [400, 400]


SEARCHES = (
    "metric_names?search[]=req", "metric_names?search[]=aptotal&sort_by=score",
    "metric_names?search[]=APP&case_sensitive=false",
    "metric_names?search[]=app_reqests&fuzz_alg=jarowinkler&fuzz_threshold=60",
    "metric_names?limit=2&sort_by=alpha&sort_dir=dsc",
    "metric_names?search[]=app&search[]=room&batch_size=2", "label_names?search[]=o",
    "label_names", "label_values?label=room",
    "label_values?label=room&search[]=kn&fuzz_threshold=10", "label_values",
    "label_values?label=a&limit=0",
    "metric_names?sort_dir=asc", "metric_names?sort_by=score", "metric_names?fuzz_alg=x",
    "metric_names?fuzz_threshold=101",
    "label_values?label=code&match[]=app_requests_total",
    "metric_names?sort_by=x",
    "metric_names?include_score=7",
    "metric_names?search[]=room&include_metadata=true",
)  # fmt: skip


async def check_search(ours: Client, theirs: Client) -> None:
    """The same lines, in the same order."""
    for path in SEARCHES:
        path += ("&" if "?" in path else "?") + ("" if "include_score" in path else "include_score=true")
        answers = []
        for one in (ours, theirs):
            status, body = await one.request("GET", f"/api/v1/search/{path}")
            lines = [json.loads(line) for line in body.splitlines() if line] if status == 200 else [body]
            for line in lines:
                line.pop("warnings", None)  # Prometheus cannot search what it reads from us
                for result in line.get("results", []):
                    if "score" in result:
                        result["score"] = round(result["score"], 9)
            answers.append((status, lines))
        assert answers[0] == answers[1], path


async def check_small(ours: Client, theirs: Client) -> None:
    """Features by name, the list of routes, what pages of other sites are told."""
    mine, wanted = await ours.api("features"), await theirs.api("features")
    for group in ("api", "promql", "promql_functions", "promql_operators", "rules"):
        assert sorted(set(wanted[group]) - set(mine[group])) == [], group
    # Reading all of it as YAML takes seconds.
    text, listed, path = (await theirs.request("GET", "/api/v1/openapi.yaml"))[1], set(), ""
    for line in text.partition("\npaths:")[2].splitlines():
        if found := re.fullmatch(r" {4}(/\S+):", line):
            path = found[1]
        elif found := re.fullmatch(r" {8}(get|post|put|delete|patch|head):", line):
            listed.add((found[1].upper(), path))
    assert len(listed) > 40
    known = {(method, path) for method, path in PROMETHEUS_ROUTES} | NOT_OURS.keys()
    assert sorted(listed - {(method, f"/{path.lstrip('/')}") for method, path in known}) == []
    origins = []
    for one in (ours, theirs):
        headers = await one.headers("/api/v1/labels", headers={"Origin": "http://x.org"})
        origins.append({name: value for name, value in headers.items() if name.startswith("Access-Control")})
    origins[1]["Access-Control-Allow-Origin"] = "*"  # 3.16 names the origin, which caches cannot share
    assert origins[0] == origins[1]


async def check_tools(ours: Client, theirs: Client) -> None:
    """What Grafana reads is in both answers: the fixture says what is true of Prometheus."""
    for one in (ours, theirs):
        assert await complaints(one, "grafana.json", query="room_temperature_celsius") == []


@pytest.mark.parametrize("built", BUILT)
async def test_prometheus_reads_from_ours_and_both_answer_the_same(
    built: str, serve: Serve, target: Target, tmp_path: Path
) -> None:
    assert built
    async with both(serve, target, tmp_path) as (ours, theirs):
        failures: list[Any] = []
        for check in (
            check_syntax, check_remote_read, check_cardinality, check_federation, check_search, check_small,
            check_tools,
        ):  # fmt: skip
            try:
                await check(ours, theirs)
            except AssertionError as e:
                failures.append(f"{check.__name__}: {e}")
        assert not failures, "\n\n".join(failures)
