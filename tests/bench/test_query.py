"""The benchmark of queries runs to its end, and compares only answers that are the same."""

import json
import re
from itertools import pairwise

import pytest

from bench.errors import BenchmarkError
from bench.programs import PROMETHEUS, TSDB
from bench.query import Figures, Row, goals, ratios, table
from bench.query_cases import CASES, GOALS, Case
from bench.query_client import compare
from bench.query_data import SLACK_SECONDS, Data, windows
from tests.bench.running import run

CASE = Case("one", "aggregated", "sum(up)", 1)
TINY = ("--tiny", "--repeat=1", "--place=head", "--place=month", "--cases", "rate_10k", "month_rate")


# Building the peer takes a quarter of an hour.
@pytest.mark.skipif(not (PROMETHEUS.is_built() and TSDB.is_built()), reason="Prometheus is not built here")
async def test_a_run_ends_in_a_table_and_a_line_of_ratios() -> None:
    code, out, said = await run("bench.query", *TINY)
    assert code == 0, said
    head, columns, *rows = out.splitlines()
    assert head.startswith("2 cases on ")
    assert columns.split()[:4] == ["case", "kind", "place", "points"]
    assert [row.split()[0::2][:2] for row in rows[:2]] == [["rate_10k", "head"], ["month_rate", "month"]]
    assert re.fullmatch(r"ratios:( \w+=\d+\.\d{3})+", rows[-1])
    names = {pair.partition("=")[0] for pair in rows[-1].split()[1:]}
    assert names == {
        *(f"rate_10k_head_{way}" for way in ("cold", "warm", "clients")),
        *("month_rate_month_cold", "month_rate_month_warm", "peak"),
    }


def answer(*values: str, start: int = 0, **labels: str) -> bytes:
    series = {"metric": labels, "values": [[start + at, value] for at, value in enumerate(values)]}
    return json.dumps({"data": {"resultType": "matrix", "result": [series]}}).encode()


def test_equal_answers_are_compared_by_number() -> None:
    assert compare(CASE, answer("1", "NaN", "0.3", a="b"), answer("1.0", "NaN", "0.30000000000000004", a="b")) == 3


@pytest.mark.parametrize(
    "theirs", [answer("1", "3", a="b"), answer("1", a="b"), answer("1", "2", a="c"), answer("1", "2", a="b", start=1)]
)
def test_answers_that_differ_are_an_error(theirs: bytes) -> None:
    with pytest.raises(BenchmarkError, match="cannot compare one"):
        compare(CASE, answer("1", "2", a="b"), theirs)


def test_an_empty_answer_is_an_error() -> None:
    nothing = json.dumps({"data": {"result": []}}).encode()
    with pytest.raises(BenchmarkError, match="0 and 0 series"):
        compare(CASE, nothing, nothing)


def test_windows_are_shifted_and_stay_within_the_data() -> None:
    data = Data("head", {}, 0, 2 * 3_600_000 + SLACK_SECONDS * 1000, 0)
    times = windows(data, 6)
    some = [next(times) for _ in range(200)]
    assert {end - start for start, end in some} == {2 * 3_600_000}
    assert all(one != following for one, following in pairwise(some))
    assert min(start for start, _ in some) >= 0
    assert max(end for _, end in some) <= data.end_ms


def test_the_worst_of_each_kind_stands_beside_its_goal() -> None:
    rows = [
        Row(CASE, "head", 1, Figures(5, 1, 4, 50 << 20), Figures(10, 10, 8, 100 << 20)),
        Row(CASE, "blocks", 1, Figures(9, 1, None, 90 << 20), Figures(10, 10, None, 90 << 20)),
    ]
    assert goals(rows) == {
        "aggregated": (0.9, "one from blocks, cold"),
        "aggregated_clients": (0.5, "one from head, clients"),
        "peak": (0.5, "one from head"),
    }
    assert ratios(rows).split()[1:] == [
        *("one_head_cold=0.500", "one_head_warm=0.100", "one_head_clients=0.500"),
        *("one_blocks_cold=0.900", "one_blocks_warm=0.100", "peak=0.500"),
    ]
    assert table(rows).splitlines()[1].split()[:4] == ["one", "aggregated", "head", "1"]


def test_every_kind_of_case_has_a_goal() -> None:
    kinds = {case.kind for case in CASES} | {f"{case.kind}_clients" for case in CASES if case.clients}
    assert GOALS.keys() == kinds | {"peak"}
