"""Six hundred generated queries have the same answers from our server as from Prometheus 3.16."""

import os
from pathlib import Path
from typing import Any

import pytest

from bench.programs import PROMETHEUS
from tests.promql.differential import QUERIES, SEED, difference, run, servers
from tests.promql.generated import Generator, Query

ONE = Query("up", 1000, 1000, 0)
# At least so many of the queries have samples, or the test would say little.
LEAST_FILLED = 0.6


# Building the peer takes a quarter of an hour.
@pytest.mark.skipif(not PROMETHEUS.is_built(), reason="Prometheus is not built here")
async def test_generated_queries_have_prometheus_answers(tmp_path: Path) -> None:
    seed = int(os.environ.get("BELLBUOY_DIFFERENTIAL_SEED", SEED))
    with servers(tmp_path) as (ours, theirs):
        outcome = await run(ours, theirs, seed=seed, queries=QUERIES)
    assert not outcome.differences, str(outcome)
    assert outcome.filled >= LEAST_FILLED * outcome.asked, str(outcome)
    assert 0 < outcome.errors < 0.15 * outcome.asked, str(outcome)


def test_a_seed_gives_the_same_queries_of_both_kinds() -> None:
    first, second, other = (Generator(seed) for seed in (5, 5, 6))
    queries = [first.query() for _ in range(200)]
    assert queries == [second.query() for _ in range(200)]
    assert queries != [other.query() for _ in range(200)]
    assert 70 < sum(query.step_ms > 0 for query in queries) < 130


def answer(*rows: tuple[dict[str, str], list[tuple[float, str]]], **more: Any) -> dict[str, Any]:
    """A success as the API gives it."""
    result = [{"metric": metric, "values": [list(one) for one in values]} for metric, values in rows]
    return {"code": 200, "status": "success", "data": {"resultType": "matrix", "result": result}, **more}


def test_what_differs_is_found() -> None:
    a, b = {"x": "a"}, {"x": "b"}
    wanted = answer((a, [(1, "2"), (2, "NaN")]), (b, [(1, "1e300")]))

    def check(ours: dict[str, Any], reason: str | None) -> None:
        found = difference(ONE, ours, wanted)
        assert found == reason if reason is None else found is not None and reason in found

    check(answer((b, [(1, "1.0000000001e300")]), (a, [(1, "2"), (2, "NaN")])), None)
    check(answer((b, [(1, "1.00000001e300")]), (a, [(1, "2"), (2, "NaN")])), "at 1: ours 1.00000001e300")
    check(answer((b, [(1, "1e300")]), (a, [(1, "2"), (2, "0")])), "at 2: ours 0, theirs NaN")
    check(answer((b, [(1, "1e300")]), (a, [(1, "2")])), "times: only ours [], only theirs [2]")
    check(answer((a, [(1, "2"), (2, "NaN")])), "series: only ours [], only theirs [(('x', 'b'),)]")
    check(wanted | {"infos": ["i"]}, "infos: only ours ['i'], only theirs []")
    check({"code": 422, "status": "error", "errorType": "execution", "error": "e"}, "code: ours 422, theirs 200")
