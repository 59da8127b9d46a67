"""How targets come to be and what they answer: relabel steps, a pool's configuration, a live look at a response."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.scraping import Exporter
from tests.server.conftest import Client, Serve, scrape_config

RULES = """
scrape_configs:
  - job_name: app
    basic_auth: {username: u, password: hush}
    static_configs: [{targets: ["127.0.0.1:1"]}]
    relabel_configs:
      - {source_labels: [a, b], target_label: c, replacement: "$1-x"}
      - {action: drop, source_labels: [c], regex: "1;2-x"}
      - {action: hashmod, source_labels: [a], modulus: 8, target_label: d}
"""


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.stop()


async def error(client: Client, path: str, **params: str) -> str:
    status, body = await client.request("GET", f"/api/v1/{path}", params=params)
    assert status == {"bad_data": 400, "not_found": 404, "unavailable": 503}[body["errorType"]]
    return str(body["error"])


async def test_relabel_steps_tell_what_each_rule_makes_of_labels(serve: Serve) -> None:
    async with serve(RULES) as client:

        async def steps(labels: dict[str, str]) -> list[dict[str, Any]]:
            answer = await client.api("targets/relabel_steps", scrapePool="app", labels=json.dumps(labels))
            found: list[dict[str, Any]] = answer["steps"]
            return found

        kept = await steps({"a": "2", "b": "2", "empty": ""})
        assert kept[0] == {
            "rule": {
                "source_labels": ["a", "b"],
                "separator": ";",
                "regex": "(.*)",
                "target_label": "c",
                "replacement": "$1-x",
                "action": "replace",
            },
            "output": {"a": "2", "b": "2", "c": "2;2-x"},
            "keep": True,
        }
        assert [step["keep"] for step in kept] == [True, True, True]
        assert kept[2]["rule"]["modulus"] == 8
        assert kept[2]["output"]["d"] in set("01234567")
        dropped = await steps({"a": "1", "b": "2"})
        assert [(step["keep"], step["output"]) for step in dropped[1:]] == [(False, {}), (False, {})]


async def test_what_is_missing_is_told_as_prometheus_tells_it(serve: Serve) -> None:
    async with serve(RULES) as client:
        steps = "targets/relabel_steps"
        assert await error(client, steps) == "no scrapePool parameter provided"
        assert await error(client, steps, scrapePool="app") == "no labels parameter provided"
        assert (await error(client, steps, scrapePool="app", labels="{")).startswith("error parsing labels: ")
        want = 'error retrieving scrape config: scrape pool "x" not found'
        assert await error(client, steps, scrapePool="x", labels="{}") == want
        assert await error(client, "scrape_pools/config", scrapePool="x") == want
        assert await error(client, "scrape_pools/config") == "no scrapePool parameter provided"


async def test_a_pool_s_configuration_is_shown_without_secrets(serve: Serve) -> None:
    async with serve(RULES) as client:
        shown = (await client.api("scrape_pools/config", scrapePool="app"))["yaml"]
        assert "job_name: app" in shown
        assert "<secret>" in shown
        assert "hush" not in shown


async def test_a_response_can_be_looked_at_where_that_is_allowed(serve: Serve, exporter: Exporter) -> None:
    config = scrape_config(exporter.address).replace(
        "job_name: app", "job_name: app\n    authorization: {credentials: c}"
    )
    async with serve(config) as client:
        said = await error(client, "targets/response", scrapePool="app", scrapeUrl=exporter.url)
        assert "start with --web.enable-target-response" in said
    async with serve(config, target_response=True) as client:

        async def look(**more: str) -> dict[str, Any]:
            found: dict[str, Any] = await client.api(
                "targets/response", scrapePool="app", scrapeUrl=exporter.url, **more
            )
            return found

        exporter.body = gzip.compress(b"a 1\nb 2\n")
        exporter.headers = {"Content-Encoding": "gzip"}
        seen = await look()
        assert exporter.requests[-1][1]["authorization"] == "Bearer c"
        assert seen == {
            "scrapePool": "app",
            "scrapeUrl": exporter.url,
            "status": 200,
            "httpVersion": "HTTP/1.1",
            "contentType": exporter.content_type,
            "contentEncoding": "gzip",
            "wireBytes": len(exporter.body),
            "bodyBytes": 8,
            "truncated": False,
            "body": "a 1\nb 2\n",
            "samples": 2,
        }
        short = await look(limit="5")
        assert (short["body"], short["truncated"], "samples" in short) == ("a 1\nb", True, False)
        exporter.body, exporter.headers = b"a 1\nb x\n", {}
        assert (await look())["error"] == 'line 2: expected a number after the metric: "b x"'
        exporter.status = 500
        assert {**await look(), "error": ""}["status"] == 500
        exporter.content_type = None
        exporter.status = 200
        assert "blank Content-Type" in (await look())["error"]
        target = (await client.api("targets"))["activeTargets"][0]
        assert (await look(labels=json.dumps(target["labels"])))["status"] == 200
        # Nothing but what is scraped can be asked.
        other = "http://127.0.0.1:1/metrics"
        want = 'scrape pool "app" has no such target'
        assert want in await error(client, "targets/response", scrapePool="app", scrapeUrl=other)
        known = {"scrapePool": "app", "scrapeUrl": exporter.url}
        assert want in await error(client, "targets/response", **known, labels="{}")
        assert "at most 16777216 bytes" in await error(client, "targets/response", **known, limit="999999999")
        exporter.stop()
        assert "connection refused" in (await look())["error"]


async def test_a_target_that_lost_series_to_its_budget_says_so(serve: Serve, exporter: Exporter) -> None:
    exporter.body = b"a 1\nb 1\nc 1\n"
    config = scrape_config(exporter.address).replace("job_name: app", "job_name: app\n    series_budget: 2")
    async with serve(config) as client:

        async def lost() -> bool:
            (one,) = (await client.api("targets"))["activeTargets"]
            return (one.get("series"), one.get("seriesDropped")) == (2, 1)

        await client.until(lost)
