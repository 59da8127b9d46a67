"""What the API does beyond what is compared with Prometheus: limits, forms, compression, nodes, pages."""

import gzip
from pathlib import Path

import aiohttp
import pytest

from bellbuoy.server import ui
from bellbuoy.server.api.parameters import MAX_TIME_MS, MIN_TIME_MS, parse_seconds, parse_time
from bellbuoy.server.api.series import unescape
from bellbuoy.server.api.times import rfc3339
from bellbuoy.server.options import QueryOptions
from tests.server.conftest import Client, Serve, Target, scrape_config


async def scraped(client: Client) -> None:
    async def there() -> bool:
        return len((await client.api("query", query="room_temperature_celsius"))["result"]) == 2

    await client.until(there)


async def test_a_limit_cuts_the_answer_and_says_so(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address)) as client:
        await scraped(client)
        for path, params in (
            ("query", {"query": "room_temperature_celsius"}),
            ("query", {"query": "room_temperature_celsius[1m]"}),
            ("query_range", {"query": "room_temperature_celsius", "start": "0", "end": "9e9", "step": "1e6"}),
            ("series", {"match[]": "room_temperature_celsius"}),
            ("labels", {}),
            ("label/room/values", {}),
        ):
            _, body = await client.request("GET", f"/api/v1/{path}", params={**params, "limit": "1"})
            rows = body["data"]["result"] if isinstance(body["data"], dict) else body["data"]
            if path != "query_range":
                assert (len(rows), body["warnings"]) == (1, ["results truncated due to limit"]), path
        status, body = await client.request("GET", "/api/v1/labels", params={"limit": "-1"})
        assert (status, body["errorType"]) == (400, "bad_data")


async def test_a_query_may_come_as_a_form_and_the_answer_compressed(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address)) as client:
        await scraped(client)
        status, body = await client.request("POST", "/api/v1/query?query=bad(", data={"query": "count(up)"})
        assert (status, body["data"]["result"][0]["value"][1]) == (200, "1")
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(f"http://{client.address}/api/v1/metadata", headers={"Accept-Encoding": "gzip"}) as response,
        ):
            assert response.headers["Content-Encoding"] == "gzip"
            assert b'"status":"success"' in gzip.decompress(await response.read())


async def test_a_result_over_the_limit_is_an_error_that_says_what_to_do(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address), query=QueryOptions(max_result_bytes=50)) as client:

        async def too_large() -> str:
            status, body = await client.request("GET", "/api/v1/query", params={"query": "room_temperature_celsius"})
            return body["error"] if status == 422 else ""

        assert "over --query.max-result-size of 50; aggregate" in await client.until(too_large)


async def test_an_unknown_path_of_the_api_is_an_error_in_the_envelope(serve: Serve) -> None:
    async with serve("") as client:
        status, body = await client.request("GET", "/api/v1/nothing")
        assert (status, body["errorType"]) == (404, "not_found")


async def test_dropped_targets_say_why(serve: Serve, target: Target) -> None:
    async with serve(scrape_config("dropped:1")) as client:
        found = await client.api("targets", state="dropped")
        assert found["activeTargets"] == []
        assert found["droppedTargets"][0]["reason"] == "relabel_configs[0] (action drop) drops it"
        assert found["droppedTargetCounts"] == {"app": 1}


async def test_targets_and_recording_rules_say_how_many_series_they_yielded(
    serve: Serve, target: Target, tmp_path: Path
) -> None:
    rules = "{record: two, expr: room_temperature_celsius}, {record: bad, expr: up + on () up}, {alert: A, expr: up}"
    (tmp_path / "rules.yml").write_text(f"groups: [{{name: g, rules: [{rules}]}}]", encoding="utf-8")
    more = "  - job_name: away\n    static_configs: [{targets: ['127.0.0.1:1']}]\nrule_files: [rules.yml]\n"
    async with serve(scrape_config(target.address, more=more), lifecycle=True) as client:

        async def series() -> dict[str, int | None]:
            (group,) = (await client.api("rules"))["groups"]
            found = {rule["name"]: rule.get("series") for rule in group["rules"]}
            targets = (await client.api("targets"))["activeTargets"]
            return found | {one["scrapePool"]: one.get("series") for one in targets}

        async def settled() -> bool:
            kept = (await client.api("query", query='scrape_samples_scraped{job="app"}'))["result"]
            want = {"two": 2, "bad": 0, "A": None, "app": int(kept[0]["value"][1]) if kept else 1, "away": 0}
            return await series() == want

        await client.until(settled)
        for one in (await client.api("targets"))["activeTargets"]:
            assert one["samples"] == one["series"]
        assert await client.request("POST", "/-/reload") == (200, "")
        assert (await series())["two"] == 2


async def test_nodes_come_with_their_figures(serve: Serve, target: Target, tmp_path: Path) -> None:
    import prometheus_client as prom

    registry = prom.CollectorRegistry()
    names = ("nodename", "release")
    prom.Gauge("node_uname_info", "x", names, registry=registry).labels("worker-1", "6.1").set(1)
    prom.Gauge("node_memory_MemTotal_bytes", "x", registry=registry).set(8 << 30)
    prom.Gauge("node_memory_MemAvailable_bytes", "x", registry=registry).set(6 << 30)
    prom.Gauge("node_load1", "x", registry=registry).set(0.5)
    idle = prom.Counter("node_cpu_seconds", "x", ("cpu", "mode"), registry=registry)
    idle.labels("0", "idle").inc(5)
    server, thread = prom.start_http_server(0, "127.0.0.1", registry)
    async with serve(scrape_config(f"127.0.0.1:{server.server_port}")) as client:

        async def cpu() -> bool:
            nodes = (await client.api("bellbuoy/nodes"))["nodes"]
            return bool(nodes) and nodes[0]["cpuPercent"] is not None

        await client.until(cpu)
        (node,) = (await client.api("bellbuoy/nodes"))["nodes"]
        assert (node["name"], node["up"], node["kernel"], node["cores"]) == ("worker-1", True, "6.1", 1)
        assert (node["memoryTotalBytes"], node["memoryUsedBytes"], node["load1"]) == (8 << 30, 2 << 30, 0.5)
        assert node["filesystemSizeBytes"] is None
        assert (await client.api("bellbuoy/nodes", **{"extra_filters[]": '{job!="app"}'}))["nodes"] == []
        assert node["cpuPercent"] == 100
    server.shutdown()
    server.server_close()
    thread.join()


async def test_pages_are_one_file_with_safe_headers(serve: Serve) -> None:
    async with serve("") as client:
        pages = [await client.request("GET", path) for path in ("/", "/targets", "/nodes", "/graph?g0.expr=up")]
        assert {status for status, _ in pages} == {200}
        assert len({text for _, text in pages}) == 1
        headers = await client.headers("/")
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        script = next(path for path in (ui.STATIC / "assets").iterdir() if path.suffix == ".js")
        headers = await client.headers(f"/assets/{script.name}")
        assert headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert "immutable" in headers["Cache-Control"]
        assert (await client.request("GET", "/assets/nothing.js"))[0] == 404


def test_a_path_out_of_the_folder_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "ui").mkdir()
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    (tmp_path / "ui" / "a.js").write_text("1", encoding="utf-8")
    assert ui.find(tmp_path / "ui", "a.js") is not None
    for path in ("../secret.json", "/etc/passwd", "b.js", ".", ""):
        assert ui.find(tmp_path / "ui", path) is None


def test_times_are_read_in_every_form_that_clients_send() -> None:
    for text, want in (
        ("1435781430.781", 1435781430781), ("1435781430", 1435781430000), ("2015-07-01T20:10:30.781Z", 1435781430781),
        ("2015-07-01T22:10:30.781234567+02:00", 1435781430781), ("-1.5", -1500), ("1e99", MAX_TIME_MS),
        ("-292273086-05-16T16:47:06Z", MIN_TIME_MS), ("292277025-08-18T07:12:54.999999999Z", MAX_TIME_MS),
    ):  # fmt: skip
        assert parse_time(text) == want
    for text in ("", "soon", "NaN", "Inf", "2015-13-01T00:00:00Z", "2015-07-01", "1_0"):
        with pytest.raises(ValueError, match="to a valid timestamp"):
            parse_time(text)
    assert (parse_seconds("15"), parse_seconds("1m30s"), parse_seconds("0.5")) == (15, 90, 0.5)
    with pytest.raises(ValueError, match="to a valid duration"):
        parse_seconds("x")


def test_times_are_printed_as_go_prints_them() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339(1435781430.5) == "2015-07-01T20:10:30.5Z"
    assert rfc3339(1435781430) == "2015-07-01T20:10:30Z"


def test_escaped_label_names_are_taken() -> None:
    assert unescape("job") == "job"
    assert unescape("U__http_2e_status__code") == "http.status_code"
    assert unescape("U__bad_zz_") == "U__bad_zz_"
