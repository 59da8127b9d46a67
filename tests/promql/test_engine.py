"""What the engine gives, refuses and stops: results in each form, limits, cancelling."""

import threading
from typing import Any

import orjson
import pytest

from bellbuoy._core import Histogram
from bellbuoy.promql import (
    FUNCTIONS,
    Engine,
    EngineOptions,
    ExecutionError,
    InvalidQuery,
    ParseError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
    Recorder,
    format_expr,
    parse,
    pieces,
)
from bellbuoy.promql.functions import AGGREGATION_PARAMETERS, AGGREGATIONS
from tests.conformance.storage import MemoryStorage

ALWAYS_SOMETHING = {"absent", "absent_over_time", "end", "max_of", "min_of", "pi", "range"} | {
    *("scalar", "start", "step", "time", "vector")
}


@pytest.fixture
def store() -> MemoryStorage:
    store = MemoryStorage()
    for number in range(3):
        samples = [(time, float(time // 10_000 * (number + 1))) for time in range(0, 100_001, 10_000)]
        store.append({"__name__": "x_total", "i": str(number)}, samples)
    return store


def test_each_kind_of_result_is_the_apis_json(store: MemoryStorage) -> None:
    engine = Engine(store)

    def check(query: str, want: object) -> None:
        assert orjson.loads(engine.instant(query, 50_500).to_json()) == want

    check("1 + 1", {"resultType": "scalar", "result": [50.5, "2"]})
    check("1e-7 * 3", {"resultType": "scalar", "result": [50.5, "0.0000003"]})
    check('"héllo"', {"resultType": "string", "result": [50.5, "héllo"]})
    check(
        'x_total{i="1"}',
        {"resultType": "vector", "result": [{"metric": {"__name__": "x_total", "i": "1"}, "value": [50.5, "10"]}]},
    )
    check("nothing", {"resultType": "vector", "result": []})
    check(
        'x_total{i="0"}[20s]',
        {
            "resultType": "matrix",
            "result": [{"metric": {"__name__": "x_total", "i": "0"}, "values": [[40, "4"], [50, "5"]]}],
        },
    )
    ranged = engine.range('sum(x_total{i!="0"})', 0, 20_000, 10_000)
    want = {"resultType": "matrix", "result": [{"metric": {}, "values": [[0, "0"], [10, "5"], [20, "10"]]}]}
    assert orjson.loads(ranged.to_json()) == want


def test_samples_are_rows_for_callers_in_python(store: MemoryStorage) -> None:
    result = Engine(store).instant("max by (i) (x_total)", 20_000)
    assert result.kind == "vector"
    assert list(result.samples()) == [({"i": "0"}, 20_000, 2.0), ({"i": "1"}, 20_000, 4.0), ({"i": "2"}, 20_000, 6.0)]


def test_a_scalar_as_a_range_query_is_a_series(store: MemoryStorage) -> None:
    result = Engine(store).range("time()", 0, 2_000, 1_000)
    assert list(result.samples()) == [({}, 0, 0.0), ({}, 1_000, 1.0), ({}, 2_000, 2.0)]


def test_what_cannot_be_a_range_query_is_refused(store: MemoryStorage) -> None:
    engine = Engine(store)
    with pytest.raises(InvalidQuery, match='invalid expression type "string" for range query'):
        engine.range('"a"', 0, 1, 1)
    with pytest.raises(InvalidQuery, match='invalid expression type "range vector" for range query'):
        engine.range("x_total[5m]", 0, 1, 1)
    with pytest.raises(InvalidQuery, match="zero or negative query resolution"):
        engine.range("x_total", 0, 1, 0)
    with pytest.raises(InvalidQuery, match="end timestamp must not be before start time"):
        engine.range("x_total", 1, 0, 1)


def test_errors_have_the_apis_kinds(store: MemoryStorage) -> None:
    engine = Engine(store)
    with pytest.raises(ParseError) as parse_error:
        engine.instant("sum(", 0)
    assert parse_error.value.kind == "bad_data"
    with pytest.raises(ExecutionError) as execution_error:
        engine.instant('label_replace(x_total, "i", "", "", "")', 0)
    assert execution_error.value.kind == "execution"
    assert str(execution_error.value) == "vector cannot contain metrics with the same labelset"


def test_too_many_samples_are_refused(store: MemoryStorage) -> None:
    engine = Engine(store, EngineOptions(max_samples=20))
    text = "query processing would load too many samples into memory in query execution"
    with pytest.raises(ExecutionError, match=text):
        engine.instant("rate(x_total[5m])", 100_000)
    with pytest.raises(ExecutionError, match=text):
        engine.instant("sum_over_time(vector(1)[5m:1s])", 100_000)
    assert len(engine.instant("x_total", 1_000).labels) == 3


def test_a_query_is_cancelled_by_event_or_function(store: MemoryStorage) -> None:
    gone = threading.Event()
    gone.set()
    with pytest.raises(QueryCanceled) as caught:
        Engine(store).instant("x_total", 0, cancelled=gone)
    assert caught.value.kind == "canceled"
    with pytest.raises(QueryCanceled):
        Engine(store).range("x_total", 0, 10, 1, cancelled=lambda: True)
    assert len(Engine(store).instant("x_total", 0, cancelled=threading.Event()).labels) == 3


def test_a_query_past_its_time_is_stopped(store: MemoryStorage) -> None:
    with pytest.raises(QueryTimeout) as caught:
        Engine(store, EngineOptions(timeout_seconds=-1)).instant("x_total", 0)
    assert caught.value.kind == "timeout"


def test_annotations_say_what_and_where(store: MemoryStorage) -> None:
    store.append({"__name__": "gauge"}, [(0, 1.0), (10_000, 2.0)])
    result = Engine(store).instant("sum(\n  rate(gauge[1m]))", 10_000)
    text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
    assert result.infos == [f'PromQL info: {text} "gauge" (2:8)']
    result = Engine(store).instant("quantile(2, x_total)", 0)
    assert result.warnings == ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]
    result = Engine(store).instant("quantile(2000000, x_total)", 0)
    assert "got 2e+06 (1:10)" in result.warnings[0]
    result = Engine(store).range("sort(x_total)", 0, 10, 10)
    assert "sort is ineffective for range queries" in result.warnings[0]


def test_what_is_pinned_is_evaluated_once_and_the_same_everywhere(store: MemoryStorage) -> None:
    result = Engine(store).range("sum(x_total @ 20) * 2 + time() * 0", 0, 90_000, 10_000)
    assert {value for _, _, value in result.samples()} == {24.0}
    assert len(list(result.samples())) == 10


def test_missing_sides_are_filled(store: MemoryStorage) -> None:
    store.append({"__name__": "y", "i": "0"}, [(0, 10.0)])
    store.append({"__name__": "y", "i": "9"}, [(0, 20.0)])

    def check(query: str, want: dict[str, float]) -> None:
        found = {labels["i"]: value for labels, _, value in Engine(store).instant(query, 0).samples()}
        assert found == want

    check("y + x_total", {"0": 10.0})
    check("y + fill_right(1) x_total", {"0": 10.0, "9": 21.0})
    check("y + fill_left(100) x_total", {"0": 10.0, "1": 100.0, "2": 100.0})
    check("y + fill(5) x_total", {"0": 10.0, "9": 25.0, "1": 5.0, "2": 5.0})
    check("y - on(i) group_left fill(5) x_total", {"0": 10.0, "9": 15.0, "1": 5.0, "2": 5.0})


def test_a_limit_chooses_the_same_series_each_time(store: MemoryStorage) -> None:
    engine = Engine(store)

    def names(query: str) -> set[str]:
        return {labels["i"] for labels, _, _ in engine.instant(query, 0).samples()}

    assert len(names("limitk(2, x_total)")) == 2
    assert names("limit_ratio(0.4, x_total)") | names("limit_ratio(-0.6, x_total)") == {"0", "1", "2"}
    assert not names("limit_ratio(0.4, x_total)") & names("limit_ratio(-0.6, x_total)")
    assert names("limit_ratio(1, x_total)") == {"0", "1", "2"}


def test_every_function_and_aggregation_takes_what_is_empty(store: MemoryStorage) -> None:
    engine = Engine(store)
    samples = {"vector": "nothing", "matrix": "nothing[5m]", "scalar": "0.5", "string": '"a"'}
    queries = []
    for function in FUNCTIONS.values():
        arguments = [samples[kind] for kind in function.arguments]
        if function.name == "info":
            arguments = ["nothing"]
        queries.append(f"{function.name}({', '.join(arguments)})")
    for operator in sorted(AGGREGATIONS):
        parameter = AGGREGATION_PARAMETERS.get(operator)
        queries.append(f"{operator}({samples[parameter] + ', ' if parameter else ''}nothing)")
    queries += [f"nothing {operator} nothing" for operator in ("+", "==", "and", "or", "unless", "</")]
    for query in queries:
        engine.instant(query, 0)
        result = engine.range(query, 0, 30_000, 10_000)
        assert len(result.labels) == (query.partition("(")[0] in ALWAYS_SOMETHING), query


def test_no_query_takes_all_memory_or_the_stack(store: MemoryStorage) -> None:
    engine = Engine(store)
    with pytest.raises(ExecutionError, match="too many samples"):
        engine.instant("sum_over_time(vector(1)[200y:1ms])", 0)
    with pytest.raises(ExecutionError, match="too many samples"):
        engine.range("1", 0, 2**60, 1)
    with pytest.raises(InvalidQuery, match="out of bounds"):
        engine.instant("1", 2**70)
    with pytest.raises(ParseError, match="out of bounds"):
        engine.instant("x_total @ 1e18", 0)
    chain = " + ".join(["sum(x_total)"] * 3000)
    assert [value for _, _, value in engine.instant(chain, 10_000).samples()] == [18_000.0]
    assert format_expr(parse(chain)) == chain
    assert parse(format_expr(parse(chain), pretty=True)).type == "vector"
    for nested in ("rate(" * 150 + "x_total" + "[5m:])" * 150, "sum(" * 199 + "x_total" + ")" * 199):
        try:
            engine.instant(nested, 0)
        except QueryError as e:
            assert "nested too deeply" in str(e)  # noqa: PT017 - either is right, a crash is not
    assert engine.instant("0x" + "f" * 5000 + " + " + "9" * 5000 + "y", 0).kind == "scalar"


def test_times_far_apart_are_found(store: MemoryStorage) -> None:
    for number in range(3):
        store.append({"__name__": "far", "i": str(number)}, [(number, 1.0), (2**61 + number, 2.0)])
    result = Engine(store).range("far", 0, 2**61, 2**60)
    assert [(labels["i"], time) for labels, time, _ in result.samples()] == [("0", 0), ("0", 2**61)]


def test_a_long_range_is_evaluated_in_pieces_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    for series in range(3):
        first = 400 * series  # each begins and ends where others do not
        storage.append(
            {"__name__": "m", "series": str(series)}, [(1000 * t, float(t)) for t in range(first, first + 900)]
        )
    counted = [
        Histogram(schema=0, count=t, sum=t, positive_spans=[(0, 1)], positive_buckets=[t])
        for t in map(float, range(900))
    ]
    storage.append({"__name__": "h"}, [(1000 * t, one) for t, one in enumerate(counted)])
    engine = Engine(storage)
    queries = [
        "m",
        "h",
        "sum(rate(h[30s]))",
        "h or m",
        "rate(m[30s])",
        "sum(m)",
        "scalar(sum(m))",
        "m - on(series) m @ end()",
        "max_over_time(sum(m)[1m:5s])",
    ]

    def answer(query: str) -> tuple[bytes, list[int], dict[str, Any]]:
        recorder = Recorder()
        result = engine.asking(storage, recorder=recorder).range(query, 0, 2_000_000, 10_000)
        return result.to_json(), recorder.queryable(201).tolist(), recorder.to_dict()

    want = {query: answer(query) for query in queries}
    monkeypatch.setattr(pieces, "SAMPLES_AT_ONCE", 100)
    for query in queries:
        found, looked_at, plan = answer(query)
        assert (found, looked_at) == want[query][:2], query
        assert (plan["expr"], plan["steps"], plan["samples"]) == (format_expr(parse(query)), 201, sum(looked_at))
        assert sum(piece["steps"] for piece in plan["children"]) == 201
