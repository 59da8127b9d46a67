"""Exemplars, from a scrape to `/api/v1/query_exemplars`: in Prometheus's shape, and there after a restart."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.formats import OPENMETRICS
from tests.core.scraping import Exporter
from tests.server.conftest import Client, Serve, scrape_config

BODY = b"""# TYPE seconds histogram
seconds_bucket{le="0.5"} 3 # {trace_id="KOO5S4vxi0o"} 0.25 1700000000.25
seconds_bucket{le="+Inf"} 4 # {trace_id="a",span_id="b"} 1e21 1700000001
seconds_sum 2
seconds_count 4
# TYPE sent counter
sent_total{to="x"} 5 # {} 1.5e-07 1700000002.5
# EOF
"""
TARGET = {"instance": "", "job": "app", "zone": "a"}
SPAN = {"start": "1700000000", "end": "1700000010"}


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    one.body, one.content_type = BODY, OPENMETRICS
    yield one
    one.stop()


def series(exporter: Exporter, **labels: str) -> dict[str, str]:
    return {**TARGET, "instance": exporter.address, **labels}


async def found(client: Client, query: str, **params: str) -> Any:
    return await client.api("query_exemplars", query=query, **{**SPAN, **params})


async def test_exemplars_come_in_prometheus_shape_and_outlive_a_restart(serve: Serve, exporter: Exporter) -> None:
    config = scrape_config(exporter.address)
    # The times of the example are long past.
    kept = {"retention_seconds": 100 * 365 * 86400.0}
    infinite = {
        "seriesLabels": series(exporter, __name__="seconds_bucket", le="+Inf"),
        "exemplars": [{"labels": {"span_id": "b", "trace_id": "a"}, "value": "1e+21", "timestamp": 1700000001}],
    }
    half = {
        "seriesLabels": series(exporter, __name__="seconds_bucket", le="0.5"),
        "exemplars": [{"labels": {"trace_id": "KOO5S4vxi0o"}, "value": "0.25", "timestamp": 1700000000.25}],
    }
    sent = {
        "seriesLabels": series(exporter, __name__="sent_total", to="x"),
        "exemplars": [{"labels": {}, "value": "1.5e-07", "timestamp": 1700000002.5}],
    }

    async def check(client: Client) -> None:
        assert await client.until(lambda: found(client, '{__name__=~".+"}')) == [infinite, half, sent]
        rate = 'histogram_quantile(0.9, rate(seconds_bucket{le!="+Inf"}[5m] offset 1h)) / on () sent_total'
        assert await found(client, rate) == [half, sent]
        assert await found(client, "seconds_bucket", end="1700000000.25") == [half]
        assert await found(client, "seconds_bucket", start="1700000000.251") == [infinite]
        assert await found(client, "seconds_sum") == []

    async with serve(config, **kept) as client:
        await check(client)
        form = {"query": "sent_total"}
        status, body = await client.request("POST", "/api/v1/query_exemplars", data=form)
        assert (status, body) == (200, {"status": "success", "data": [sent]})
        exporter.body = BODY.replace(b"2.5", b"1.5")

        async def refused() -> bool:
            _, page = await client.request("GET", "/metrics")
            numbers = dict(re.findall(r"^bellbuoy_storage_exemplars(\w*) (\S+)$", page, re.MULTILINE))
            held = {name: float(numbers[name]) for name in ("", "_series", "_limit", "_appended_total")}
            assert held == {"": 3, "_series": 3, "_limit": 100_000, "_appended_total": 3}
            assert float(numbers["_oldest_timestamp_seconds"]) == 1700000000
            return float(numbers["_out_of_order_total"]) == 1

        await client.until(refused)
    exporter.status = 500
    async with serve(**kept) as client:
        await check(client)


async def test_what_cannot_be_asked_is_told_as_prometheus_tells_it(serve: Serve) -> None:
    async with serve("scrape_configs: []") as client:

        async def check(text: str, **params: str) -> None:
            status, body = await client.request("GET", "/api/v1/query_exemplars", params=params)
            assert (status, body) == (400, {"status": "error", "errorType": "bad_data", "error": text})

        await check("end timestamp must not be before start timestamp", query="a", start="2", end="1")
        await check(
            'invalid parameter "start": Invalid time value for \'start\': cannot parse "x" to a valid timestamp',
            query="a",
            start="x",
        )
        await check(
            'invalid parameter "end": Invalid time value for \'end\': cannot parse "y" to a valid timestamp',
            query="a",
            end="y",
        )
        status, body = await client.request("GET", "/api/v1/query_exemplars", params={"query": "a{"})
        assert (status, body["errorType"], ": parse error: " in body["error"]) == (400, "bad_data", True)
        status, body = await client.request("GET", "/api/v1/query_exemplars", params={"query": "1 + vector(2)"})
        assert (status, body) == (204, "")


async def test_none_are_taken_when_that_is_told(serve: Serve, exporter: Exporter) -> None:
    async with serve(scrape_config(exporter.address), max_exemplars=0) as client:

        async def scraped() -> bool:
            return bool((await client.api("query", query="sent_total"))["result"])

        await client.until(scraped)
        assert await found(client, "sent_total") == []
