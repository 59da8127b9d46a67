"""The same requests to a real Prometheus and to our server get the same answers, or answers of the same shape.

Both scrape the same target and evaluate the same rules. Debian's Prometheus is older than the one whose API is ours,
so our answers may have more fields; none may be missing or of another type.
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.peers.programs import free_port, program
from tests.server.conftest import Client, Serve, Target, scrape_config

pytestmark = pytest.mark.peers
RULES = """
groups:
  - name: g
    interval: 200ms
    rules:
      - {record: "zone:temperature:avg", expr: "avg by (zone) (room_temperature_celsius)", labels: {kind: recorded}}
      - alert: Warm
        expr: room_temperature_celsius > 20
        for: 1h
        labels: {severity: info}
        annotations: {summary: "{{ $labels.room }} has {{ $value }}"}
      - {alert: Cold, expr: room_temperature_celsius < 0}
      - {alert: Never, expr: "vector(0) > 1"}
"""


@pytest.fixture
async def both(serve: Serve, target: Target, tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    """Ours and theirs, both with a scrape and an evaluation behind them."""
    (tmp_path / "rules.yml").write_text(RULES, encoding="utf-8")
    config = scrape_config(target.address, more="rule_files: [rules.yml]\nalerting: {alertmanagers: [{static_configs: "
                           '[{targets: ["127.0.0.1:1"]}]}]}\n')  # fmt: skip
    dropped = "  - job_name: nobody\n    static_configs: [{targets: ['dropped:1']}]\n    relabel_configs: " \
        "[{action: drop, source_labels: [__address__], regex: dropped.*}]\n"  # fmt: skip
    config = config.replace("rule_files", dropped + "rule_files")
    port = free_port()
    (tmp_path / "theirs.yml").write_text(config, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={tmp_path / 'theirs.yml'}",
        f"--storage.tsdb.path={tmp_path / 'theirs'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
        env={**os.environ, "GOGC": "200"},
    )
    try:
        async with serve(config) as ours, aiohttp.ClientSession() as session:
            theirs = Client(f"127.0.0.1:{port}", session)

            async def settled(client: Client) -> bool:
                found = await client.api("query", query='ALERTS{alertname="Warm"} and on () zone:temperature:avg')
                targets = await client.api("targets", state="active")
                return bool(found["result"]) and targets["activeTargets"][0]["health"] == "up"

            async def started() -> bool:
                try:
                    return (await theirs.request("GET", "/-/ready"))[0] == 200
                except aiohttp.ClientError:
                    return False

            await theirs.until(started)
            for one in (theirs, ours):
                await one.until(lambda one=one: settled(one))  # type: ignore[misc]
            yield ours, theirs
    finally:
        process.terminate()
        await process.wait()


def shape(value: Any) -> Any:
    """Types and keys, without the values; a list has the shape of all its entries."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        out: list[Any] = []
        for item in value:
            if (one := shape(item)) not in out:
                out.append(one)
        return out
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def missing(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """What theirs has and ours has not, or has otherwise."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        out = [f"{place}.{key} is missing" for key in theirs if key not in ours]
        for key in theirs:
            if key in ours:
                out += missing(ours[key], theirs[key], f"{place}.{key}")
        return out
    if isinstance(theirs, list) and isinstance(ours, list):
        if not theirs or not ours:
            return [] if theirs == ours else [f"{place}: {ours} is not {theirs}"]
        return [
            f"{place}: no entry like {one}: {[missing(other, one) for other in ours]}"
            for one in theirs
            if not any(not missing(other, one) for other in ours)
        ]
    return [] if ours == theirs else [f"{place}: {ours} is not {theirs}"]


SHAPES = (
    "targets", "targets?state=active", "targets?state=dropped", "targets/metadata",
    "targets/metadata?metric=app_seconds", "metadata", "rules", "rules?type=alert", "rules?type=record", "alerts",
    "alertmanagers", "status/config", "status/runtimeinfo", "status/buildinfo", "query?query=up", "query?query=up[1m]",
    "query?query=1", 'query?query="a"', "query_range?query=up&start=0&end=60&step=15", "labels", "label/job/values",
    "series?match[]=up",
)  # fmt: skip


async def test_answers_have_prometheus_shapes(both: tuple[Client, Client]) -> None:
    ours, theirs = both
    for path in SHAPES:
        (status, mine), (their_status, wanted) = [await one.request("GET", f"/api/v1/{path}") for one in both]
        assert (status, missing(shape(mine), shape(wanted), path)) == (their_status, []), path
    tsdb = await ours.api("status/tsdb")
    assert missing(sorted(tsdb), sorted(await theirs.api("status/tsdb"))) == []
    assert tsdb["headStats"]["numSeries"] > 0
    assert tsdb["seriesCountByMetricName"][0]["value"] > 0


VALUES = (
    ("query", {"query": "room_temperature_celsius"}),
    ("query", {"query": "sum by (zone) (room_temperature_celsius) + 0.1"}),
    ("query", {"query": "sort(room_temperature_celsius)"}),
    ("query", {"query": "zone:temperature:avg"}),
    ("query", {"query": "app_requests_total == 7"}),
    ("query", {"query": "histogram_quantile(0.5, app_seconds_bucket)"}),
    ("query", {"query": "absent(nothing{a='b'})"}),
    ("query", {"query": "nothing"}),
    ("query", {"query": "vector(1e-7 * 3)"}),
    # A scalar never has an exponent; samples of vectors and matrices have one beyond 1e-6 and 1e21.
    *(
        ("query", {"query": form.format(number)})
        for number in ("1e-7 * 3", "-1e-7", "1e-6", "1e20", "1e21", "1e300", "5e-324", "0.1 + 0.2", "-0", "0/0")
        for form in ("{}", "vector({})", "round(vector({}), 1e-300)")
    ),
    ("query", {"query": "1 / 0"}),
    ("query", {"query": '"text"'}),
    ("query", {"query": 'ALERTS{alertname="Cold"}'}),
    ("query_range", {"query": "room_temperature_celsius", "step": "0.5"}),
    ("query_range", {"query": "vector(1)", "step": "250ms"}),
    ("query_range", {"query": "1e-7 * 3", "step": "1"}),
    ("query_range", {"query": "1e21", "step": "1"}),
    ("query", {"query": "count_values('value', vector(1e-7))"}),
    ("query_range", {"query": "time() * 0", "step": "1"}),
)


async def test_values_are_the_same(both: tuple[Client, Client]) -> None:
    now = time.time()
    for path, params in VALUES:
        times = {"time": f"{now:.3f}"} if path == "query" else {"start": f"{now:.3f}", "end": f"{now + 3:.3f}"}
        mine, wanted = [await one.api(path, **params, **times) for one in both]
        for answer in (mine, wanted):
            if answer["resultType"] in ("vector", "matrix") and "sort" not in params["query"]:
                answer["result"].sort(key=lambda row: sorted(row["metric"].items()))
        assert mine == wanted, params


SERIES: tuple[tuple[str, list[tuple[str, str]]], ...] = (
    ("series", [("match[]", "room_temperature_celsius"), ("match[]", 'app_requests_total{code="500"}')]),
    ("series", [("match[]", '{job="app",__name__=~"app_.*"}')]),
    ("series", [("match[]", "nothing")]),
    ("labels", [("match[]", "room_temperature_celsius")]),
    ("label/room/values", []),
    ("label/__name__/values", [("match[]", '{__name__=~"app_.*|room_.*|zone.*"}')]),
    ("label/nothing/values", []),
    ("label/room/values", [("match[]", 'room_temperature_celsius{room=~"k.*"}')]),
    ("series", [("match[]", "up"), ("start", "0"), ("end", "10")]),
    ("labels", [("start", "0"), ("end", "10")]),
)


async def test_series_and_labels_are_the_same(both: tuple[Client, Client]) -> None:
    for path, params in SERIES:
        for method in ("GET", "POST") if not path.startswith("label/") else ("GET",):
            answers = []
            for one in both:
                more = {"params": params} if method == "GET" else {"data": params}
                status, body = await one.request(method, f"/api/v1/{path}", **more)
                assert status == 200, body
                rows = body["data"]
                answers.append(
                    sorted(rows, key=str) if path != "series" else sorted(map(str, map(sorted, map(dict.items, rows))))
                )
            assert answers[0] == answers[1], (path, params)


ERRORS: tuple[tuple[str, dict[str, str]], ...] = (
    ("query", {"query": "sum("}),
    ("query", {"query": ""}),
    ("query", {"query": "up", "time": "soon"}),
    ("query", {"query": "up", "timeout": "x"}),
    ("query", {"query": "rate(up)"}),
    ("query_range", {"query": "up", "start": "0", "end": "10"}),
    ("query_range", {"query": "up", "start": "0", "end": "10", "step": "0"}),
    ("query_range", {"query": "up", "start": "20", "end": "10", "step": "1"}),
    ("query_range", {"query": "up", "start": "0", "end": "100000", "step": "1"}),
    ("query_range", {"query": "up", "end": "100000", "step": "1"}),
    ("query_range", {"query": "up[1m]", "start": "0", "end": "10", "step": "1"}),
    ("series", {}),
    ("series", {"match[]": "{"}),
    ("series", {"match[]": "{}"}),
    ("labels", {"match[]": "{a=''}"}),
    ("rules", {"type": "other"}),
    ("targets/metadata", {"match_target": '{job="none"}'}),
)


async def test_errors_have_the_same_status_kind_and_text(both: tuple[Client, Client]) -> None:
    different = []
    for path, params in ERRORS:
        answers = []
        for one in both:
            status, body = await one.request("GET", f"/api/v1/{path}", params=params)
            # What was expected instead is worded anew in each version of Prometheus.
            text = re.sub(r"(: parse error).*", r"\1", body.get("error", ""))
            answers.append((status, body["status"], body.get("errorType"), text))
        if answers[0] != answers[1]:
            different.append(f"{path} {params}:\n  ours   {answers[0]}\n  theirs {answers[1]}")
    assert not different, "\n".join(different)


async def test_alerts_and_rules_say_the_same(both: tuple[Client, Client]) -> None:
    def plain(rule: dict[str, Any]) -> dict[str, Any]:
        keep = ("name", "query", "duration", "labels", "annotations", "health", "state", "type")
        out = {key: rule[key] for key in keep if key in rule}
        return out | {"alerts": [{**one, "activeAt": ""} for one in rule.get("alerts", [])]}

    mine, wanted = [
        [plain(rule) for group in (await one.api("rules"))["groups"] for rule in group["rules"]] for one in both
    ]
    assert mine == wanted
    states = [
        sorted((one["labels"]["alertname"], one["state"], one["value"]) for one in (await each.api("alerts"))["alerts"])
        for each in both
    ]
    assert states[0] == states[1]
