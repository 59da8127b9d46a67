"""A rule is tried on a server's history, over HTTP and by the command line."""

import asyncio
import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from bellbuoy.rules_tools.commands import perform
from bellbuoy.rules_tools.errors import BacktestDataError, RulesFailedError
from bellbuoy.rules_tools.options import Options
from bellbuoy.rules_tools.report import plot
from bellbuoy.tsdb import LabelSets, Storage
from tests.server.conftest import Serve


def fill(folder: Path, start: int) -> None:
    """Ten minutes of a series that is 0 for the last five."""
    storage = Storage(str(folder))
    times = np.arange(0, 600, 15)
    values = np.where(times < 300, 1.0, 0.0)
    labels = LabelSets.from_dicts([{"__name__": "up", "job": "a"}] * len(times))
    storage.append(labels, (start + times) * 1000, values)
    storage.close()


async def test_the_api_tells_when_a_rule_would_have_fired(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = int(time.time()) - 3600
    fill(tmp_path / "data", start)
    window = {"start": start, "end": start + 585, "interval": "15s"}
    async with serve("global: {external_labels: {c: d}}") as client:
        rule = '{alert: Down, expr: up == 0, for: 1m, annotations: {s: "{{ $externalLabels.c }}"}}'
        found = await client.api("bellbuoy/backtest", rule=rule, **window)
        assert found["firings"] == [
            {
                "labels": {"alertname": "Down", "job": "a"}, "annotations": {"s": "d"}, "activeAt": start + 300,
                "firedAt": start + 360, "endedAt": None, "value": "0e+00",
            }
        ]  # fmt: skip
        assert (found["fired"], found["firingSeconds"], found["evaluations"]) == (1, 225, 40)
        assert found["rule"]["for"] == "1m"
        plain = await client.api("bellbuoy/backtest", expr="up == 0", **window, **{"for": "2m"})
        assert plain["firings"][0]["firedAt"] == start + 420
        for bad, want in (
            ({"expr": "sum("}, "could not parse"),
            ({"rule": "[]"}, "must be a mapping"),
            ({"expr": "up", "interval": "1ms"}, "evaluations are more than"),
            ({"expr": "up", "interval": "0"}, "interval must be more than 0"),
            ({"expr": "up", "end": "1"}, "end is before start"),
            ({}, "expr: is missing"),
        ):
            status, body = await client.request("GET", "/api/v1/bellbuoy/backtest", params={**window, **bad})
            assert (status, body["errorType"]) == (400, "bad_data"), body
            assert want in body["error"]
        options = Options(
            "backtest", expr="up == 0", for_seconds=60, url=f"http://{client.address}", start=start, end=start + 585,
            interval_seconds=15,
        )  # fmt: skip
        assert await asyncio.to_thread(perform, options) == 0
    said = capsys.readouterr().out
    assert "would have fired once, for 3m45s in all" in said
    with pytest.raises(BacktestDataError, match="see that a Bellbuoy is there"):
        perform(options)


def test_the_command_line_looks_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = int(time.time()) - 3600
    fill(tmp_path / "data", start)
    rules = tmp_path / "rules.yml"
    rules.write_text(
        "groups: [{name: g, interval: 30s, rules: [{alert: Down, expr: up == 0}, {record: n, expr: count(up)}]}]",
        encoding="utf-8",
    )
    common = {"storage_path": tmp_path / "data", "start": float(start), "end": float(start + 585)}
    assert perform(Options("backtest", (rules,), **common)) == 0  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "alert Down: up == 0" in said
    assert "each 30s, 20 evaluations" in said
    assert "│          ██████████│ 1" in said
    assert "would have written up to 1 series, at 20 of 20 evaluations" in said
    assert perform(Options("backtest", (rules,), name="n", output="json", **common)) == 0  # type: ignore[arg-type]
    (found,) = orjson.loads(capsys.readouterr().out)
    assert found["firing"] == [1] * 20
    with pytest.raises(BacktestDataError, match="name a data folder"):
        perform(Options("backtest", (rules,), storage_path=tmp_path / "none", start=0, end=1))


def test_check_and_test_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, tests = (tmp_path / name for name in ("good.yml", "bad.yml", "tests.yml"))
    good.write_text("groups: [{name: g, rules: [{record: a, expr: up}, {record: a, expr: up}]}]", encoding="utf-8")
    bad.write_text("groups: [{name: g, rules: [{record: a, expr: sum(}]}]", encoding="utf-8")
    tests.write_text("rule_files: [good.yml]\ntests: [{promql_expr_test: [{expr: vector(1)}]}]", encoding="utf-8")
    assert perform(Options("check", (good,))) == 0
    assert "ODD:" in capsys.readouterr().out
    assert perform(Options("check", (good,), lint_fatal=True)) == 3
    assert perform(Options("check", (good,), lint_fatal=True, lint="none")) == 0
    with pytest.raises(RulesFailedError, match="1 of 2 files have mistakes"):
        perform(Options("check", (good, bad)))
    with pytest.raises(RulesFailedError, match="tests of 1 of 1 files failed"):
        perform(Options("test", (tests,)))
    assert "got      {} 1" in capsys.readouterr().out


def test_a_plot_shows_the_highest_of_each_part() -> None:
    assert plot([0, 0, 1, 8, 4, 0], width=6) == "  ▁█▄ "
    assert plot([0] * 50 + [1] + [0] * 49, width=10) == "     █    "
    assert plot([], width=10) == ""
