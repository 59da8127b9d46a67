"""Results as an Arrow stream: what pandas and Polars read is what JSON says."""

import json
from typing import Any

import polars
import pyarrow as pa
import pytest

from bellbuoy.server.api.arrow import CONTENT_TYPE, column_names
from bellbuoy.server.options import QueryOptions
from bellbuoy.tsdb import Histogram
from tests.server.conftest import NOW_MS, Client, Serve, fill

AT = str(NOW_MS / 1000)
RANGE = {"start": str(NOW_MS // 1000 - 5), "end": AT, "step": "1"}


async def stream(client: Client, path: str, **params: str) -> tuple[int, str, bytes]:
    headers = {"Accept": f"{CONTENT_TYPE}, application/json;q=0.5"}
    async with client.session.get(f"http://{client.address}/api/v1/{path}", params=params, headers=headers) as response:
        return response.status, response.content_type, await response.read()


def samples(data: Any) -> list[tuple[Any, ...]]:
    """Rows of the same form as the table's, from JSON."""
    out = []
    for row in data["result"]:
        pairs = row["values"] if "values" in row else [row["value"]]
        out += [(tuple(sorted(row["metric"].items())), round(time * 1000), float(value)) for time, value in pairs]
    return sorted(out)


async def test_the_table_has_what_json_has(filled: Client) -> None:
    for path, params in (
        ("query_range", {"query": "requests_total", **RANGE}),
        ("query_range", {"query": "sum by (path) (rate(requests_total[3s]))", **RANGE}),
        ("query", {"query": "requests_total or on (nothing) vector(1)", "time": AT}),
        ("query", {"query": "requests_total[5s]", "time": AT}),
        ("query", {"query": "nothing_at_all", "time": AT}),
        ("query", {"query": "requests_total", "time": AT, "limit": "2"}),
        ("query", {"query": "requests_total", "time": AT, "extra_filters[]": '{tenant="a"}'}),
    ):
        status, kind, body = await stream(filled, path, **params)
        assert (status, kind) == (200, CONTENT_TYPE)
        table = pa.ipc.open_stream(body).read_all()
        labels = [name for name in table.column_names if name not in ("timestamp", "value")]
        for name in labels:
            assert pa.types.is_dictionary(table.schema.field(name).type)
        frame = polars.read_ipc_stream(body)
        assert frame.height == table.num_rows
        rows = [
            (
                tuple(sorted((name, row[name]) for name in labels if row[name] is not None)),
                round(row["timestamp"].timestamp() * 1000),
                row["value"],
            )
            for row in frame.to_dicts()
        ]
        assert sorted(rows) == samples(await filled.api(path, **params)), params


async def test_warnings_are_in_the_schemas_metadata(filled: Client) -> None:
    _, _, body = await stream(filled, "query", query="quantile(2, requests_total)", time=AT)
    metadata = pa.ipc.open_stream(body).schema.metadata
    (warning,) = json.loads(metadata[b"warnings"])
    assert "quantile value should be between 0 and 1" in warning
    assert metadata[b"resultType"] == b"vector"
    _, _, body = await stream(filled, "query", query="requests_total", time=AT, limit="1")
    assert json.loads(pa.ipc.open_stream(body).schema.metadata[b"warnings"]) == ["results truncated due to limit"]
    _, _, body = await stream(filled, "query", query="1 + 1", time=AT)
    assert pa.ipc.open_stream(body).read_all().to_pylist()[0]["value"] == 2


async def test_what_has_no_form_in_arrow_says_so(serve: Serve, tmp_path: Any) -> None:
    fill(
        tmp_path / "data", histogram=Histogram(schema=0, count=2, sum=3, positive_spans=[(0, 1)], positive_buckets=[2])
    )
    options = QueryOptions(max_result_bytes=1000)
    async with serve("", retention_seconds=100 * 365 * 86400.0, query=options) as client:
        for query in ("latency", '"text"'):
            status, _, body = await stream(client, "query", query=query, time=AT)
            assert (status, json.loads(body)["errorType"]) == (406, "not_acceptable")
        status, _, body = await stream(client, "query", query="requests_total[1m]", time=AT)
        assert (status, "--query.max-result-size" in json.loads(body)["error"]) == (422, True)


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (["a", "b"], ["a", "b"]),
        (["value"], ["label_value"]),
        (["label_value", "timestamp", "value"], ["label_value", "label_timestamp", "label_label_value"]),
    ],
)
def test_columns_have_names_of_their_own(labels: list[str], columns: list[str]) -> None:
    assert column_names(labels) == columns
