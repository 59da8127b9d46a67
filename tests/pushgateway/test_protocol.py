"""What clients do: push, add, delete; and what those who read find."""

import asyncio
import gzip
import json

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    delete_from_gateway,
    push_to_gateway,
    pushadd_to_gateway,
)

from tests.pushgateway.conftest import Start


def registry(**gauges: float) -> CollectorRegistry:
    made = CollectorRegistry()
    for name, value in gauges.items():
        Gauge(name, f"Help of {name}.", registry=made).set(value)
    return made


async def test_the_python_client_pushes_adds_and_deletes(start: Start) -> None:
    async with start() as gateway:
        key = {"instance": "host/1", "empty": ""}
        await asyncio.to_thread(push_to_gateway, gateway.url, "batch", registry(rows=1, files=2), key)
        labels = '{empty="",instance="host/1",job="batch"}'
        assert await gateway.lines('job="batch"') == [
            f"files{labels} 2",
            f"push_failure_time_seconds{labels} 0",
            (await gateway.lines("push_time"))[0],
            f"rows{labels} 1",
        ]
        await asyncio.to_thread(pushadd_to_gateway, gateway.url, "batch", registry(rows=3), key)
        assert await gateway.lines("rows{") == [f"rows{labels} 3"]
        assert await gateway.lines("files{") == [f"files{labels} 2"]
        await asyncio.to_thread(push_to_gateway, gateway.url, "batch", registry(rows=4), key)
        assert await gateway.lines("files{") == []
        await asyncio.to_thread(delete_from_gateway, gateway.url, "batch", key)
        assert await gateway.lines('job="batch"') == []


async def test_all_kinds_of_metrics_come_out_as_they_went_in(start: Start) -> None:
    made = CollectorRegistry()
    Counter("done", "Done.", ["kind"], registry=made).labels('a"b\\c\nd').inc(2)
    Histogram("took", "Took.", registry=made, buckets=(0.5, 1e6)).observe(0.7)
    Summary("size", "Size.", registry=made).observe(1.5)
    async with start() as gateway:
        await asyncio.to_thread(push_to_gateway, gateway.url, "j", made)
        assert await gateway.lines("done_total{") == ['done_total{instance="",job="j",kind="a\\"b\\\\c\\nd"} 2']
        assert await gateway.lines("took_bucket{") == [
            'took_bucket{instance="",job="j",le="+Inf"} 1',
            'took_bucket{instance="",job="j",le="0.5"} 0',
            'took_bucket{instance="",job="j",le="1e+06"} 1',
        ]
        assert await gateway.lines("size_sum{") == ['size_sum{instance="",job="j"} 1.5']
        _, text = await gateway.send("GET", "/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert "# TYPE done counter\n" in text
        assert text.endswith("# EOF\n")


async def test_metrics_of_the_same_name_as_our_own_join_them(start: Start) -> None:
    async with start() as gateway:
        assert await gateway.put("job/j", "# TYPE process_open_fds gauge\nprocess_open_fds 5\n") == (200, "")
        _, text = await gateway.send("GET", "/metrics")
        assert text.count("# TYPE process_open_fds gauge\n") == 1
        assert len(await gateway.lines("process_open_fds")) == 2
        status, text = await gateway.put("job/k", "# TYPE process_open_fds counter\nprocess_open_fds 5\n")
        assert (status, "is a counter here and a gauge elsewhere" in text) == (400, True)


async def test_a_job_must_have_a_name_and_a_slash_may_be_encoded_either_way(start: Start) -> None:
    async with start() as gateway:
        assert (await gateway.put("job@base64/=", "a 1\n"))[0] == 400
        assert (await gateway.put("job/x%2Fy", "a 1\n"))[0] == 200
        assert (await gateway.put("job@base64/eC95", "a 2\n"))[0] == 200
        assert await gateway.lines("a{") == ['a{instance="",job="x/y"} 2']
        assert (await gateway.put("job/x/l%C3/y", "a 1\n"))[0] == 400


async def test_utf8_names_are_taken_where_they_are_allowed(start: Start) -> None:
    body = '{"a.b","c d"="é"} 1\n'
    async with start() as gateway:
        status, text = await gateway.put("job/j", body)
        assert (status, "--push.enable-utf8-names" in text) == (400, True)
    async with start(utf8_names=True) as gateway:
        assert await gateway.put("job/j/U__my_2e_label/v", body) == (200, "")
        assert '{"a.b","c d"="é",instance="",job="j","my.label"="v"} 1' in await gateway.lines("a.b")


async def test_packed_bodies_are_unpacked_and_others_refused(start: Start) -> None:
    async with start() as gateway:
        assert (await gateway.put("job/j", gzip.compress(b"a 1\n"), Content_Encoding="gzip"))[0] == 200
        assert await gateway.lines("a{") == ['a{instance="",job="j"} 1']
        status, text = await gateway.put("job/j", b"x", Content_Encoding="snappy")
        assert (status, "send gzip, or none" in text) == (415, True)
        assert (await gateway.put("job/j", b"\xff 1\n"))[0] == 400


async def test_the_api_lists_groups_and_tells_flags(start: Start) -> None:
    histogram = '# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 1234567.5\nh_count 2\n'
    async with start() as gateway:
        await gateway.put("job/j/zone/eu", histogram + "# HELP g It is.\n# TYPE g gauge\ng 1000000\n")
        _, text = await gateway.send("GET", "/api/v1/metrics")
        answer = json.loads(text)
        assert answer["status"] == "success"
        (group,) = answer["data"]
        labels = {"job": "j", "zone": "eu", "instance": ""}
        assert group["labels"] == {"job": "j", "zone": "eu"}
        assert group["last_push_successful"] is True
        assert group["g"].pop("time_stamp").endswith("Z")
        assert group["g"] == {"type": "GAUGE", "help": "It is.", "metrics": [{"labels": labels, "value": "1e+06"}]}
        assert group["h"]["metrics"] == [
            {"labels": labels, "buckets": {"1": "1", "+Inf": "2"}, "count": "2", "sum": "1.2345675e+06"}
        ]
        _, text = await gateway.send("GET", "/api/v1/status")
        assert json.loads(text)["data"]["flags"]["group-limit"] == "10000"


async def test_wiping_and_quitting_are_behind_flags(start: Start) -> None:
    async with start() as gateway:
        await gateway.put("job/j", "a 1\n")
        assert (await gateway.send("PUT", "/api/v1/admin/wipe"))[0] == 404
        assert (await gateway.send("PUT", "/-/quit"))[0] == 403
        assert len(await gateway.lines("a{")) == 1
    async with start(enable_admin_api=True, enable_lifecycle=True) as gateway:
        await gateway.put("job/j", "a 1\n")
        assert (await gateway.send("PUT", "/api/v1/admin/wipe"))[0] == 202
        assert await gateway.lines("a{") == []
        assert (await gateway.send("POST", "/-/quit"))[0] == 200


async def test_the_page_for_people_shows_groups_and_escapes_them(start: Start) -> None:
    async with start() as gateway:
        await gateway.put("job/%3Cb%3E/x/%22", "a 1\n")
        status, text = await gateway.send("GET", "/")
        assert status == 200
        assert "job=&quot;&lt;b&gt;&quot;" in text or 'job="&lt;b&gt;"' in text
        assert "<b>" not in text
        # The button's path deletes that group.
        path = text.partition('data-path="')[2].partition('"')[0]
        assert (await gateway.send("DELETE", "/" + path))[0] == 202
        assert await gateway.lines("a{") == []
