"""What queries cost is shown, logged and explained, and a query whose client left is ended."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bellbuoy.configuration import ConfigError
from bellbuoy.promql import Engine, Recorder
from bellbuoy.server.query_cost import Cost
from bellbuoy.server.query_ledger import MOST_KINDS, Asked, QueryLedger, kind_of
from bellbuoy.server.query_log import QueryLog
from bellbuoy.tsdb import LabelSets, Storage
from tests.server.conftest import NOW_MS, Client, Serve, fill

AT = str(NOW_MS / 1000)
RANGE = {"start": str(NOW_MS // 1000 - 5), "end": AT, "step": "1"}


async def test_explain_gives_the_plan_with_time_series_and_samples(filled: Client) -> None:
    query = "sum by (tenant) (rate(requests_total[10s])) / 2 + on () group_left () count(requests_total @ end())"
    data = await filled.api("query_range", query=query, explain="1", **RANGE)
    assert "stats" not in data

    def shape(node: dict[str, Any]) -> list[Any]:
        assert node["seconds"] >= node["selfSeconds"] >= 0
        return [node["node"], node["steps"], node["series"], node["samples"], *map(shape, node["children"])]

    samples, selected = 6 * 10, 6 * 15
    assert shape(data["explain"]) == [
        "Binary", 6, 2, samples * 6 + 36,
        ["Aggregate", 6, 2, samples * 6, ["Call", 6, 6, samples * 6, ["MatrixSelector", 6, 6, samples * 6]]],
        ["NumberLiteral", 6, 0, 0],
        ["Aggregate", 1, 1, 6, ["VectorSelector", 1, 6, 6]],
    ]  # fmt: skip
    selector = data["explain"]["children"][0]["children"][0]["children"][0]
    assert selector["expr"] == "requests_total[10s]"
    assert (selector["selectedSeries"], selector["selectedSamples"]) == (6, selected)
    assert (await filled.request("GET", "/api/v1/query?query=up&explain=x"))[0] == 400


async def test_a_result_is_the_same_whether_it_is_explained_or_not(filled: Client) -> None:
    for query in ("sum(requests_total) > 3", "requests_total[5s]", "1 + 1", "'text'", "-requests_total offset 2s"):
        plain, explained = [
            await filled.api("query", query=query, time=AT, **more) for more in ({}, {"explain": "1", "stats": "all"})
        ]
        assert explained.pop("explain")["node"]
        assert explained.pop("stats")["samples"]["totalQueryableSamples"] >= 0
        assert plain == explained


async def test_lookback_delta_is_the_requests_own(filled: Client) -> None:
    late = str(NOW_MS / 1000 + 100)
    for more, count in (
        ({}, 6),
        ({"lookback_delta": "1m"}, 0),
        ({"lookback_delta": "0"}, 6),
        ({"lookback_delta": "200"}, 6),
    ):
        found = await filled.api("query", query="requests_total", time=late, **more)
        assert len(found["result"]) == count, more
    status, body = await filled.request("GET", "/api/v1/query?query=up&lookback_delta=x")
    assert (status, body["error"]) == (
        400,
        'error parsing lookback delta duration: cannot parse "x" to a valid duration',
    )


async def test_queries_of_a_kind_are_counted_together(filled: Client) -> None:
    for path in ("/", "/x", "/y"):
        await filled.api("query_range", query=f'sum(rate( requests_total{{path="{path}"}}[10s]))', **RANGE)
    await filled.api("query", query="requests_total", time=AT)
    await filled.request("GET", "/api/v1/query", params={"query": "requests_total + on() requests_total", "time": AT})
    rows = (await filled.api("bellbuoy/queries", order="count"))["top"]
    first = rows[0]
    assert (first["kind"], first["count"], first["errors"]) == ('sum(rate(requests_total{path = "…"}[10s]))', 3, 0)
    assert first["samples"] == 3 * 2 * 15
    assert first["cpuSeconds"] > 0
    assert first["peakBytes"] > 2 * 15 * 16
    assert 'path="/y"' in first["example"]
    assert [row["errors"] for row in rows if "on" in row["kind"]] == [1]
    assert len((await filled.api("bellbuoy/queries", limit="1"))["top"]) == 1
    assert (await filled.request("GET", "/api/v1/bellbuoy/queries?order=name"))[0] == 400


async def test_a_client_that_leaves_ends_its_query(serve: Serve, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "data"))
    count = 12_000
    times = NOW_MS - 1000 * np.arange(count, dtype=np.int64)[::-1]
    for row in range(30):
        labels = LabelSets.from_dicts([{"__name__": "many", "row": str(row)}] * count)
        storage.append(labels, times, np.zeros(count))
    storage.close()
    async with serve("", retention_seconds=100 * 365 * 86400.0) as client:
        # Each step sorts what each inner step sorted: many seconds, unless somebody ends it.
        query = "many"
        for _ in range(4):
            query = f"quantile_over_time(0.5, {query}[5m:1s])"
        request = (
            f"GET /api/v1/query_range?query={query.replace(' ', '%20')}&start={NOW_MS // 1000 - 10_000}&end={AT}&step=1"
        )
        host, _, port = client.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()

        async def active() -> list[Any]:
            return list((await client.api("bellbuoy/queries"))["active"])

        async def is_running() -> bool:
            return any(one["samples"] > 0 for one in await active())

        await client.until(is_running)
        (one,) = await active()
        assert (one["path"], one["params"]["query"], one["params"]["step"]) == ("/api/v1/query_range", query, 1)
        writer.close()

        async def is_gone() -> bool:
            return not await active()

        await client.until(is_gone)
        text = (await client.request("GET", "/metrics"))[1]
        assert 'bellbuoy_queries_aborted_total{reason="client gone"} 1.0' in text
        (row,) = (await client.api("bellbuoy/queries"))["top"]
        assert row["errors"] == 1

        async def thread_is_free() -> bool:
            return "bellbuoy_queries_running 0.0" in (await client.request("GET", "/metrics"))[1]

        await client.until(thread_is_free, seconds=10)


async def test_the_log_has_a_line_a_query_in_prometheus_form_with_its_cost(serve: Serve, tmp_path: Path) -> None:
    fill(tmp_path / "data")
    async with serve(
        "global: {query_log_file: queries.log}", retention_seconds=100 * 365 * 86400.0, lifecycle=True,
        query_log_file=tmp_path / "flag.log",
    ) as client:  # fmt: skip
        await client.api("query_range", query="sum(requests_total)", **RANGE)
        await client.request(
            "POST", "/api/v1/query", data={"query": "requests_total + on() requests_total", "time": AT}
        )
        lines = [json.loads(line) for line in (tmp_path / "queries.log").read_text().splitlines()]
        (first, second) = lines
        timings = "evalTotalTime resultSortTime queryPreparationTime innerEvalTime execQueueTime execTotalTime"
        assert first["msg"] == "promql query logged"
        assert first["params"] == {
            "query": "sum(requests_total)", "start": "2023-11-14T22:13:15.000Z", "end": "2023-11-14T22:13:20.000Z",
            "step": 1,
        }  # fmt: skip
        assert first["httpRequest"] == {"clientIP": "127.0.0.1", "method": "GET", "path": "/api/v1/query_range"}
        assert set(first["stats"]["timings"]) == set(timings.split())
        assert first["cost"]["samples"] == first["stats"]["samples"]["samplesRead"] == 6 * 60
        assert first["cost"]["cpuSeconds"] > 0
        assert "error" not in first
        assert "many-to-many" in second["error"] or "duplicate" in second["error"]
        assert not (tmp_path / "flag.log").exists()
        # Moved away, it is made anew at a reload; taken out of the configuration, the flag's is written.
        (tmp_path / "queries.log").rename(tmp_path / "old.log")
        assert (await client.request("POST", "/-/reload"))[0] == 200
        await client.api("query", query="1")
        assert len((tmp_path / "queries.log").read_text().splitlines()) == 1
        (tmp_path / "prometheus.yml").write_text("")
        assert (await client.request("POST", "/-/reload"))[0] == 200
        await client.api("query", query="2")
        assert json.loads((tmp_path / "flag.log").read_text())["params"]["query"] == "2"
        (tmp_path / "prometheus.yml").write_text("global: {query_log_file: no/such/folder.log}")
        status, text = await client.request("POST", "/-/reload")
        assert (status, "mend query_log_file" in text) == (500, True)
        await client.api("query", query="3")
        assert len((tmp_path / "flag.log").read_text().splitlines()) == 2


def test_a_full_disk_costs_lines_and_no_queries(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    log = QueryLog(registry)
    log.write({"nobody": "reads it"})
    with pytest.raises(ConfigError, match="mend query_log_file"):
        log.open(tmp_path)
    log.open(Path("/dev/full"))
    log.write({"a": 1})
    log.write({"a": 2})
    assert registry.get_sample_value("bellbuoy_query_log_failures_total") == 2
    log.close()


def test_what_is_held_of_kinds_is_bounded() -> None:
    ledger = QueryLedger(QueryLog(CollectorRegistry()))
    for number in range(MOST_KINDS + 50):
        with ledger.running(Asked("/q", f"metric_{number}", 0, 0, cost=Cost(cpu_seconds=float(number)))):
            assert len(ledger.active()) == 1
    rows = ledger.top(order="cpu", limit=10_000)
    assert len(rows) == MOST_KINDS
    assert rows[0]["kind"] == f"metric_{MOST_KINDS + 49}"
    assert ledger.active() == []


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ('up{job="a"}', 'up{job = "…"}'),
        ("up{job='b',x=~\"c\"}", 'up{job = "…", x =~ "…"}'),
        ("sum by (a)(rate(x[5m]))", "sum by(a)(rate(x[5m]))"),
        ("a  +\n b # why", "a + b"),
        ("topk(3, x)", "topk(3, x)"),
        ("a +", "a +"),
        ('"', '"'),
    ],
)
def test_a_kind_is_the_query_without_its_texts(query: str, kind: str) -> None:
    assert kind_of(query) == kind


def test_a_plan_of_very_many_nodes_is_cut(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    recorder = Recorder()
    engine = Engine(storage).asking(storage, recorder=recorder)
    result = engine.instant("+".join(["1"] * 2500), NOW_MS)
    assert result.values[0, 0] == 2500
    assert len(recorder.roots[0].children) < 2001
    storage.close()
