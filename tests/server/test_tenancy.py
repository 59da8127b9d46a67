"""`extra_filters[]` holds on every path that selects, whatever the rest of the request says."""

import re
from typing import Any

import cramjam
import pytest
from aiohttp import web

from bellbuoy.server.api.parameters import parse_filter
from bellbuoy.server.api.protobuf import put_bytes, put_number, put_text
from bellbuoy.server.query_cost import restricted
from tests.server.conftest import NOW_MS, Client

FILTER = ("extra_filters[]", '{tenant="a"}')
AT = str(NOW_MS / 1000)
RANGE = (("start", str(NOW_MS / 1000 - 5)), ("end", AT), ("step", "1"))
QUERIES = (
    "requests_total", 'requests_total{tenant="b"} or requests_total', "rate(requests_total[10s])",
    '{tenant=~".+"}', "sum by (tenant) (requests_total)", "max_over_time(requests_total[10s:2s])",
    'label_replace(requests_total, "t", "$1", "tenant", "(.*)")', 'info(requests_total, {__name__=~"requests.*"})',
    "requests_total @ end() + on(tenant, path) requests_total offset 3s", "absent(requests_total{tenant='a'})",
)  # fmt: skip


def tenants(answer: Any) -> set[str]:
    """Every tenant that an answer says anything of."""
    return set(re.findall(r"tenant['\"]?: ?['\"](\w*)", str(answer))) - {""}


async def get(client: Client, path: str, *params: tuple[str, str], method: str = "GET") -> Any:
    more: dict[str, Any] = {"params": params} if method == "GET" else {"params": [FILTER], "data": params}
    status, body = await client.request(method, path, **more)
    assert status == 200, body
    return body


async def test_queries_see_only_what_the_filters_let_through(filled: Client) -> None:
    for query in QUERIES:
        for path, times in (("query", (("time", AT),)), ("query_range", RANGE)):
            answer = await get(filled, f"/api/v1/{path}", ("query", query), FILTER, *times)
            assert tenants(answer) <= {"a"}, (path, query)
            everyone = await get(filled, f"/api/v1/{path}", ("query", query), *times)
            assert tenants(everyone) in ({"a", "b"}, set()), (path, query)


async def test_what_a_form_says_only_narrows_it_further(filled: Client) -> None:
    everyone = ("extra_filters[]", '{tenant=~".+"}')
    times = ("time", AT)
    answer = await get(filled, "/api/v1/query", ("query", "requests_total"), everyone, times, method="POST")
    assert tenants(answer) == {"a"}
    path = ("extra_filters[]", '{path="/x"}')
    answer = await get(filled, "/api/v1/query", ("query", "requests_total"), path, times, method="POST")
    assert [one["metric"]["path"] for one in answer["data"]["result"]] == ["/x"]
    other = ("extra_filters[]", '{tenant="b"}')
    answer = await get(filled, "/api/v1/query", ("query", "requests_total"), other, times, method="POST")
    assert answer["data"]["result"] == []


async def test_series_labels_values_search_and_cardinality_are_filtered(filled: Client) -> None:
    wanted = ("match[]", "requests_total")
    assert tenants(await get(filled, "/api/v1/series", wanted, FILTER)) == {"a"}
    assert (await get(filled, "/api/v1/label/tenant/values", FILTER))["data"] == ["a"]
    assert (await get(filled, "/api/v1/label/tenant/values", wanted, FILTER))["data"] == ["a"]
    assert (await get(filled, "/api/v1/labels", ("extra_filters[]", '{tenant="c"}')))["data"] == []
    times = (("start", "0"), ("end", AT))
    found = await get(filled, "/api/v1/search/label_values", ("label", "tenant"), FILTER, *times)
    assert re.findall(r'"value":"(\w+)"', found) == ["a"]
    weights = await get(filled, "/api/v1/status/tsdb", FILTER)
    assert weights["data"]["headStats"]["numSeries"] == 3
    assert "tenant=b" not in str(weights)
    assert (await get(filled, "/api/v1/query_exemplars", ("query", "requests_total"), FILTER))["data"] == []


async def test_remote_read_is_filtered(filled: Client) -> None:
    matcher = put_bytes(3, put_text(2, "__name__") + put_text(3, "requests_total"))
    request = put_bytes(1, put_number(1, NOW_MS - 5000) + put_number(2, NOW_MS) + matcher)
    body = bytes(cramjam.snappy.compress_raw(request))
    for params, want in (([], {b"a", b"b"}), ([FILTER], {b"a"})):
        status, answer = await read(filled, "/api/v1/read", data=body, params=params)
        data = bytes(cramjam.snappy.decompress_raw(answer))
        assert (status, set(re.findall(rb"tenant\x12\x01(.)", data))) == (200, want)


async def read(client: Client, path: str, **more: Any) -> tuple[int, bytes]:
    async with client.session.post(f"http://{client.address}{path}", **more) as response:
        return response.status, await response.read()


async def test_deletion_is_filtered(filled: Client) -> None:
    params = [("match[]", "requests_total"), FILTER]
    assert (await filled.request("POST", "/api/v1/admin/tsdb/delete_series", params=params))[0] == 204
    answer = await get(filled, "/api/v1/query", ("query", "requests_total"), ("time", AT))
    assert tenants(answer) == {"b"}


async def test_a_filter_that_cannot_be_read_is_an_error_and_not_ignored(filled: Client) -> None:
    for path in ("query", "query_range", "series", "labels", "label/x/values", "status/tsdb", "query_exemplars"):
        for bad in ("{", "rate(x[1m])", "x offset 5m", "{}", '{a=~"("}'):
            params = [("query", "requests_total"), ("match[]", "x"), *RANGE, ("extra_filters[]", bad)]
            status, body = await filled.request("GET", f"/api/v1/{path}", params=params)
            assert (status, body["errorType"]) == (400, "bad_data"), (path, bad)


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        ('{tenant="a"}', [("tenant", "=", "a")]),
        ('{tenant!="a"}', [("tenant", "!=", "a")]),
        (' { tenant = "" , job=~".*" }', [("tenant", "=", ""), ("job", "=~", ".*")]),
        ("up", [("__name__", "=", "up")]),
        ('{__name__!="up"}', [("__name__", "!=", "up")]),
        ('{a="",}', [("a", "=", "")]),
        ('{"http.requests"}', [("__name__", "=", "http.requests")]),
    ],
)
def test_a_filter_may_let_through_what_has_none_of_its_labels(text: str, matchers: list[Any]) -> None:
    assert list(parse_filter(text)) == matchers


@pytest.mark.parametrize("selectors", [[], [(("a", "=", "b"),)], [(("a", "=", "b"),), (("c", "!=", "d"),)]])
def test_all_filters_are_added_to_each_selector(selectors: list[Any]) -> None:
    extra = [("x", "=", "y"), ("z", "=", "")]
    want = [(*one, *extra) for one in selectors] or [tuple(extra)]
    assert restricted(selectors, extra) == want
    assert restricted(selectors, []) == selectors


async def test_federation_is_filtered(filled: Client) -> None:
    # Nothing is fresh in a storage of the past: what counts is that the filter is read.
    assert await filled.request("GET", "/federate", params=[("match[]", "requests_total"), FILTER]) == (200, "")
    status, _ = await filled.request("GET", "/federate", params=[("match[]", "up"), ("extra_filters[]", "{")])
    assert status == web.HTTPBadRequest.status_code
