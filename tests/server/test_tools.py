"""Tools find what they ask for: Grafana's data source by its requests, a Python client and promtool themselves."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_api_client import PrometheusConnect

from tests.peers.programs import check_metrics, program
from tests.server.conftest import NOW_MS, Client, Serve, Target, scrape_config
from tests.server.tools import complaints, unlike


async def test_grafanas_requests_get_the_shapes_that_it_reads(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address)) as client:

        async def scraped() -> bool:
            return len((await client.api("query", query="room_temperature_celsius"))["result"]) == 2

        await client.until(scraped)
        assert await complaints(client, "grafana.json", query="room_temperature_celsius") == []


def ask_as_scripts_do(url: str) -> None:
    """With the package prometheus-api-client."""
    client = PrometheusConnect(url=url, disable_ssl=True)
    at = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    assert client.check_prometheus_connection()
    assert client.all_metrics() == ["requests_total"]
    assert client.get_label_names() == ["__name__", "path", "tenant"]
    assert client.get_label_values("tenant") == ["a", "b"]
    assert client.get_current_metric_value("requests_total") == []
    then = {"time": str(NOW_MS / 1000)}
    found = client.get_current_metric_value("requests_total", {"path": "/", "tenant": "a"}, then)
    labels = {"__name__": "requests_total", "path": "/", "tenant": "a"}
    assert found == [{"metric": labels, "value": [NOW_MS // 1000, "59"]}]
    assert client.custom_query("sum(requests_total)", then)[0]["value"][1] == str(59 * 21)
    (row,) = client.custom_query_range("sum(requests_total)", at - timedelta(seconds=2), at, "1")
    assert [value for _, value in row["values"]] == [str(n * 21) for n in (57, 58, 59)]
    rows = client.get_metric_range_data("requests_total", start_time=at - timedelta(seconds=10), end_time=at)
    assert [len(one["values"]) for one in rows] == [10] * 6
    assert client.get_scrape_pools() == []
    assert client.get_targets()["activeTargets"] == []


async def test_a_python_script_asks_our_server(filled: Client) -> None:
    await asyncio.to_thread(ask_as_scripts_do, f"http://{filled.address}")


async def promtool(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        program("promtool"), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest.mark.peers
async def test_promtool_asks_our_server(filled: Client) -> None:
    url, at = f"http://{filled.address}", NOW_MS // 1000
    mine = 'requests_total{path="/", tenant="a"}'
    code, said = await promtool("query", "instant", f"--time={at}", url, 'requests_total{path="/",tenant="a"}')
    assert (code, said) == (0, f"{mine} => 59 @[{at}]\n")
    times = (f"--start={at - 1}", f"--end={at}", "--step=1s")
    code, said = await promtool("query", "range", *times, url, 'requests_total{path="/",tenant="a"}')
    assert (code, said) == (0, f"{mine} =>\n58 @[{at - 1}]\n59 @[{at}]\n")
    whole = ("--start=0", f"--end={at}")
    code, said = await promtool("query", "series", *whole, "--match=requests_total{path='/x'}", url)
    assert code == 0
    found = [f'{{__name__="requests_total", path="/x", tenant="{one}"}}' for one in "ab"]
    assert said.splitlines() == found
    code, said = await promtool("query", "labels", *whole, url, "path")
    assert (code, said.split()) == (0, ["/", "/x", "/y"])
    code, said = await promtool("query", "instant", url, "sum(")
    assert (code, "parse error" in said) == (1, True)


@pytest.mark.peers
async def test_promtool_reads_the_page_for_federation(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address)) as client:

        async def page() -> str:
            return str((await client.request("GET", "/federate?match[]=up"))[1])

        text = await client.until(page)
        said = await check_metrics(text)
        assert [one for one in said if "no help text" not in one] == []


def test_a_shape_is_held_to_the_last_entry() -> None:
    shape = {"a": ["string"], "b": ["number", "string"], "c": {"d": "success"}}
    assert unlike({"a": ["x", "y"], "b": [1, "2"], "c": {"d": "success"}, "e": 1}, shape) == []
    assert unlike({"a": ["x", 5], "b": ["1", "2"], "c": {}}, shape) == [
        ".a[1] is no string: 5", ".b[0] is no number: '1'", ".c.d is missing",
    ]  # fmt: skip
    assert unlike({"a": [], "b": 1, "c": 2}, shape)[0].startswith(".a is no list")
