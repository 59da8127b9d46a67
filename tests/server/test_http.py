"""HTTP around the API: encodings, pages of other sites, what has not changed, notifications, ends, descriptions."""

import argparse
import json
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import cramjam
import numpy as np
import pytest
import yaml

from bellbuoy._core import read_exposition
from bellbuoy.http.compression import choose_encoding
from bellbuoy.server import add_arguments, options
from bellbuoy.server.api.cardinality import ulid
from bellbuoy.server.api.federate_protobuf import wants_protobuf
from bellbuoy.server.api.search_scores import jaro_winkler, subsequence, substring
from bellbuoy.server.notifications import RELOAD_FAILED, STOPPING, Notifications
from bellbuoy.tsdb import Histogram, LabelSets, Storage
from tests.server.conftest import Client, Serve, Target, scrape_config
from tests.server.routes import NOT_OURS, PROMETHEUS_ROUTES


async def raw(client: Client, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body as they came."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session,
        session.request(method, f"http://{client.address}{path}", headers=sent) as response,
    ):
        found = {name.title(): ", ".join(response.headers.getall(name)) for name in response.headers}
        return response.status, found, await response.read()


async def test_answers_come_in_the_encoding_that_is_taken(filled: Client) -> None:
    path = "/api/v1/query?query=requests_total[1m]&time=1700000000"
    _, headers, plain = await raw(filled, path)
    assert ("Content-Encoding" in headers, json.loads(plain)["status"]) == (False, "success")
    for accepted, encoding, decode in (
        ("gzip", "gzip", lambda body: zlib.decompress(body, 31)),
        ("deflate", "deflate", zlib.decompress),
        ("gzip, zstd", "zstd", lambda body: bytes(cramjam.zstd.decompress(body))),
    ):
        _, headers, body = await raw(filled, path, Accept_Encoding=accepted)
        assert headers["Content-Encoding"] == encoding
        assert "Accept-Encoding" in headers["Vary"]
        assert len(body) < len(plain) / 2
        assert json.loads(decode(body))["data"] == json.loads(plain)["data"]
    _, headers, _ = await raw(filled, "/api/v1/query?query=1", Accept_Encoding="gzip")
    assert "Content-Encoding" not in headers


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", ""), ("identity", ""), ("br", ""), ("gzip", "gzip"), ("gzip;q=0.5, deflate;q=0.9", "deflate"),
        ("*", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"), ("zstd;q=0, *", "gzip"), ("gzip;q=0", ""), ("GZIP ; Q=1", "gzip"),
        ("gzip;q=x", ""), ("zstd;q=0.1, gzip", "gzip"),
    ],
)  # fmt: skip
def test_an_encoding_is_chosen_as_the_client_weighs_them(accepted: str, encoding: str) -> None:
    assert choose_encoding(accepted) == encoding


async def test_what_has_not_changed_is_not_sent_again(serve: Serve, target: Target, tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text("groups: [{name: g, interval: 1h, rules: [{record: r, expr: up}]}]")
    async with serve(scrape_config("127.0.0.1:1", interval="1h", more="rule_files: [r.yml]\n")) as client:
        for path in ("rules", "metadata", "status/config", "features", "openapi.yaml", "scrape_pools"):
            status, headers, _ = await raw(client, f"/api/v1/{path}")
            assert (status, headers["Cache-Control"]) == (200, "no-cache"), path
            tag = headers["Etag"]
            for asked in (tag, f'"other", {tag}', "*"):
                status, headers, body = await raw(client, f"/api/v1/{path}", If_None_Match=asked)
                assert (status, headers["Etag"], body) == (304, tag, b""), path
            assert (await raw(client, f"/api/v1/{path}", If_None_Match='"other"'))[0] == 200
        _, headers, _ = await raw(client, "/api/v1/query?query=1")
        assert "Etag" not in headers
        assert headers["Cache-Control"] == "no-store"


async def test_pages_of_other_sites_may_read_what_the_flag_lets_them(serve: Serve) -> None:
    async with serve("", cors_origin=r"https?://(a|b)\.example") as client:
        for origin, allowed in (
            ("https://a.example", True),
            ("https://c.example", False),
            ("https://a.example.org", False),
        ):
            for path in ("/api/v1/query?query=1", "/api/v1/nothing", "/federate"):
                _, headers, _ = await raw(client, path, Origin=origin)
                assert headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
                assert "Origin" in headers["Vary"]
        status, headers, _ = await raw(client, "/api/v1/query", method="OPTIONS", Origin="https://b.example")
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://b.example")
        assert "Access-Control-Allow-Origin" not in (await raw(client, "/-/healthy", Origin="https://a.example"))[1]
        assert "Access-Control-Allow-Origin" not in (await raw(client, "/api/v1/labels"))[1]


async def test_health_paths_take_head(serve: Serve) -> None:
    async with serve("") as client:
        for path in ("/-/healthy", "/-/ready"):
            status, _, body = await raw(client, path, method="HEAD")
            assert (status, body) == (200, b"")
        assert json.loads((await raw(client, "/version"))[2])["version"] == "3.16.0"


async def test_quit_ends_the_server_if_it_may(serve: Serve) -> None:
    async with serve("") as client:
        for method in ("POST", "PUT"):
            status, text = await client.request(method, "/-/quit")
            assert (status, "--web.enable-lifecycle" in text) == (403, True)
        assert (await client.request("GET", "/-/quit"))[0] == 405
    async with serve("", lifecycle=True) as client:
        assert await client.request("PUT", "/-/quit") == (200, "Requesting termination... Goodbye!")

        async def is_gone() -> bool:
            try:
                return not await client.request("GET", "/-/healthy")
            except aiohttp.ClientError:
                return True

        await client.until(is_gone)


async def events(response: aiohttp.ClientResponse) -> Any:
    async for line in response.content:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


async def test_notifications_tell_of_a_failed_reload_and_of_the_end(serve: Serve, tmp_path: Path) -> None:
    async with serve("", lifecycle=True, notification_listeners=1) as client:
        assert await client.api("notifications") == []
        async with client.session.get(f"http://{client.address}/api/v1/notifications/live") as live:
            assert live.content_type == "text/event-stream"
            assert (await raw(client, "/api/v1/notifications/live"))[0] == 204
            stream = events(live)
            (tmp_path / "prometheus.yml").write_text("nonsense: 1")
            await client.request("POST", "/-/reload")
            (held,) = await client.api("notifications")
            assert held == await anext(stream) == {"text": RELOAD_FAILED, "date": held["date"], "active": True}
            (tmp_path / "prometheus.yml").write_text("")
            await client.request("POST", "/-/reload")
            assert (await anext(stream))["active"] is False
            assert await client.api("notifications") == []
            await client.request("POST", "/-/quit")
            assert (await anext(stream))["text"] == STOPPING
            assert [one async for one in stream] == []


async def test_who_does_not_keep_up_loses_the_oldest() -> None:
    notifications = Notifications(most_listeners=1)
    with notifications.listening() as queue:
        assert queue is not None
        for number in range(25):
            notifications.add(str(number))
        notifications.end()
        with notifications.listening() as second:
            assert second is None
        found = [queue.get_nowait() for _ in range(queue.qsize())]
    assert [one and one.text for one in found] == [*map(str, range(16, 25)), None]
    with notifications.listening() as queue:
        assert queue is not None


async def test_every_route_of_prometheus_is_there_or_left_out_for_a_reason(serve: Serve) -> None:
    async with serve("", admin=True) as client:
        missing = []
        for method, path in PROMETHEUS_ROUTES:
            place = f"/api/v1{path}".replace("{name}", "job")
            if path == "/notifications/live":
                continue  # it does not end
            status, _, _ = await raw(client, place, method=method)
            if status in (404, 405):
                missing.append((method, path, status))
        assert missing == []
        for method, path in NOT_OURS:
            assert (await raw(client, f"/api/v1{path}", method=method))[0] in (404, 405)


async def test_the_description_is_openapi_and_names_every_route(serve: Serve) -> None:
    async with serve("") as client:
        status, headers, body = await raw(client, "/api/v1/openapi.yaml")
        assert (status, headers["Content-Type"]) == (200, "application/yaml; charset=utf-8")
        document = yaml.safe_load(body)
        assert document["openapi"] == "3.1.0"
        ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
        assert len(ids) == len(set(ids))
        query = document["paths"]["/api/v1/query"]["get"]
        assert query["parameters"][0]["name"] == "query"
        assert query["parameters"][0]["required"] is True
        assert all(one["summary"] for methods in document["paths"].values() for one in methods.values())


async def test_our_own_metrics_come_as_json(serve: Serve) -> None:
    async with serve("") as client:
        await client.api("query", query="1")
        pattern = "bellbuoy_(queries_running|query_duration_seconds|http_requests_total)"
        found = {one["name"]: one for one in await client.api("status/self_metrics", metric_name_pattern=pattern)}
        assert found["bellbuoy_queries_running"]["metric"] == [{"gauge": {"value": 0}}]
        assert found["bellbuoy_http_requests_total"]["type"] == "COUNTER"
        labels = [{one["name"] for one in row["label"]} for row in found["bellbuoy_http_requests_total"]["metric"]]
        assert labels[0] == {"handler", "method", "code"}
        (row,) = found["bellbuoy_query_duration_seconds"]["metric"]
        assert (row["histogram"]["sampleCount"], row["histogram"]["bucket"][-1]["cumulativeCount"]) == ("1", "1")
        assert len(await client.api("status/self_metrics")) > 30
        assert (await client.request("GET", "/api/v1/status/self_metrics?metric_name_pattern=("))[0] == 400


async def test_blocks_have_the_fields_of_prometheus(filled: Client) -> None:
    blocks = (await filled.api("status/tsdb/blocks"))["blocks"]
    assert sum(one["stats"]["numSamples"] for one in blocks) == 6 * 60
    for one in blocks:
        assert set(one) == {"ulid", "minTime", "maxTime", "stats", "compaction", "version"}
        assert one["minTime"] < one["maxTime"]
        assert len(one["ulid"]) == 26
    assert ulid(0, 1) == "0" * 25 + "1"
    assert ulid(1 << 60, 31)[:2] == "7Z"


async def test_a_page_for_federation_has_fresh_samples_of_any_name(serve: Serve, tmp_path: Path) -> None:
    now = round(time.time() * 1000)
    storage = Storage(str(tmp_path / "data"))
    sets = [
        {"__name__": "http.requests", "la.bel": 'a"b\\c\n', "instance": "i"},
        {"__name__": "up", "job": "x", "site": "own"},
        {"__name__": "old"},
        {"job": "nameless"},
    ]
    times = np.array([now - 1000, now - 1000, now - 400_000, now - 1000], np.int64)
    storage.append(LabelSets.from_dicts(sets), times, np.array([1.5, np.inf, 3, 4]))
    storage.close()
    async with serve("global: {external_labels: {site: s}}") as client:
        query = "/federate?match[]={__name__=~'.%2B'}&match[]=up&match[]={job='nameless'}"
        at = now - 1000
        plain = (await raw(client, query))[2].decode()
        assert plain == (
            f'# TYPE http_requests untyped\nhttp_requests{{instance="i",la_bel="a\\"b\\\\c\\n",site="s"}} 1.5 {at}\n'
            f'# TYPE up untyped\nup{{job="x",site="own",instance=""}} +Inf {at}\n'
        )
        accept = "text/plain; version=1.0.0; escaping=allow-utf-8"
        _, headers, quoted = await raw(client, query, Accept=accept)
        assert '{"http.requests",instance="i","la.bel"="a\\"b\\\\c\\n",site="s"} 1.5' in quoted.decode()
        assert headers["Content-Type"].endswith("escaping=allow-utf-8")


async def test_a_page_for_federation_in_protobuf_has_native_histograms(serve: Serve, tmp_path: Path) -> None:
    at = round(time.time() * 1000) - 1000
    native = Histogram(
        schema=1, count=7, sum=2.5, zero_threshold=0.01, zero_count=1, positive_spans=[(-1, 2)],
        positive_buckets=[2, 1], negative_spans=[(3, 1)], negative_buckets=[3], is_float=True,
    )  # fmt: skip
    custom = Histogram(
        schema=-53,
        count=6,
        sum=9,
        positive_spans=[(1, 2)],
        positive_buckets=[2, 4],
        custom_values=[1, 2],
        is_float=True,
    )
    storage = Storage(str(tmp_path / "data"))
    sets = [{"__name__": "latency", "k": "1"}, {"__name__": "nhcb"}]
    storage.append_histograms(LabelSets.from_dicts(sets), np.array([at, at], np.int64), [native, custom])
    names = LabelSets.from_dicts([{"__name__": "latency"}, {"__name__": "ze.ro"}])
    storage.append(names, np.array([at, at], np.int64), np.array([4.5, 0]))
    storage.close()
    async with serve("global: {external_labels: {site: s}}") as client:
        proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
        query = "/federate?match[]={__name__=~'.%2B'}"
        _, headers, body = await raw(client, query, Accept=f"{proto};q=0.6;escaping=allow-utf-8,text/plain;q=0.5")
        assert headers["Content-Type"].startswith("application/vnd.google.protobuf; proto=io.prometheus")
        rows = [
            (dict(labels), value, when) for labels, value, when, _ in read_exposition(body, headers["Content-Type"])
        ]
        assert {when for _, _, when in rows} == {at}
        assert {labels["site"] for labels, _, _ in rows} == {"s"}
        shown = {(labels["__name__"], labels.get("le") or labels.get("k", "")): value for labels, value, _ in rows}
        assert (shown["latency", "1"], shown["latency", ""]) == (native, 4.5)
        assert shown["ze.ro", ""] == 0
        assert [shown["nhcb_bucket", le] for le in ("1.0", "2.0", "+Inf")] == [0, 2, 6]
        assert (shown["nhcb_sum", ""], shown["nhcb_count", ""]) == (9, 6)
        _, headers, text = await raw(client, query, Accept=f"text/plain, {proto};q=0.5")
        assert headers["Content-Type"].startswith("text/plain")
        assert b"nhcb" not in text


@pytest.mark.parametrize(
    ("accepted", "binary"),
    [
        ("", False), ("*/*", False), ("application/vnd.google.protobuf", False),
        ("application/vnd.google.protobuf;encoding=delimited", True),
        ("application/vnd.google.protobuf; encoding=delimited;q=0.3, text/plain;q=0.4", False),
        ("application/openmetrics-text;q=0.9, application/vnd.google.protobuf;encoding=delimited;q=x", False),
    ],
)  # fmt: skip
def test_protobuf_is_for_who_weighs_it_over_text(accepted: str, binary: bool) -> None:
    assert wants_protobuf(accepted) is binary


def test_scores_fall_with_the_distance() -> None:
    assert substring("ab", "ab_cd") == subsequence("ab", "ab_cd") == jaro_winkler("x", "x") == 1
    assert substring("x", "abc") == subsequence("cb", "abc") == jaro_winkler("x", "abc") == 0
    assert substring("b", "abc") > substring("c", "abc") > 0
    assert subsequence("ac", "xacx") > subsequence("ac", "xabc") > subsequence("ac", "xabbbbc")
    assert jaro_winkler("reqests", "requests") > jaro_winkler("reqests", "responses")
    assert jaro_winkler("", "a") == 0


def test_an_origin_that_is_no_pattern_is_refused() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--web.cors.origin=("])
    made = options(parser.parse_args(["--web.cors.origin=https://a", "--query.log-file=q.log"]))
    assert (made.cors_origin, made.query_log_file) == ("https://a", Path("q.log"))
    assert made.flags["web.max-notifications-subscribers"] == "16"
