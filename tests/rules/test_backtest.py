"""A backtest says what the rule's own evaluation would have: the same alerts, at the same times."""

import json
import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bellbuoy.promql import QueryCanceled
from bellbuoy.rules import (
    FIRING,
    BacktestError,
    RuleConfig,
    RuleGroup,
    RuleOptions,
    Window,
    as_json,
    backtest,
    load_groups,
)
from bellbuoy.rules.evaluation import RuleWorld
from bellbuoy.rules.metrics import RuleMetrics
from tests.rules.conftest import Store

START = 1_700_000_000


def fill(store: Store, seed: int) -> None:
    """Twenty minutes of four series that come and go."""
    chance = random.Random(seed)
    for host in "abcd":
        value = 0.0
        for second in range(0, 1200, 15):
            if chance.random() < 0.2:
                value = float(chance.randrange(3))
            if chance.random() < 0.85:
                store.put(START + second, value, name="level", host=host)


def evaluated(store: Store, rule: dict[str, Any], window: Window) -> list[tuple[str, int, int | None]]:
    """What a group gives that is evaluated step by step: `(host, fired, ended)`."""
    (loaded,) = load_groups({"f": json.dumps({"groups": [{"name": "g", "rules": [rule]}]})}, interval_seconds=60)
    world = RuleWorld(
        store.engine, store.storage, None, RuleOptions(for_outage_tolerance_seconds=0),  # type: ignore[arg-type]
        RuleMetrics(CollectorRegistry()), lambda *_: None,
    )  # fmt: skip
    group = RuleGroup(loaded, world, started=0.0)
    out: list[tuple[str, int, int | None]] = []
    open_: dict[str, int] = {}
    for at_ms in window.times:
        group.evaluate(at_ms / 1000)
        (error,) = [state.last_error for state in group.rules]
        assert error == ""
        rule_ = group.rules[0].rule
        now = {alert.labels["host"] for alert in rule_.active.values() if alert.state == FIRING}  # type: ignore[union-attr]
        for host in set(open_) - now:
            out.append((host, open_.pop(host), at_ms))
        for host in now - set(open_):
            open_[host] = at_ms
    return sorted([*out, *((host, at, None) for host, at in open_.items())], key=str)


@pytest.mark.parametrize(
    ("seed", "fields"),
    [
        (1, {"expr": "level > 0"}),
        (2, {"expr": "level > 0", "for": "45s"}),
        (3, {"expr": "level > 0", "for": "30s", "keep_firing_for": "1m"}),
        (4, {"expr": "max_over_time(level[1m]) > 1", "keep_firing_for": "40s"}),
        (5, {"expr": "level > 0 and level offset 1m > 0"}),
        (6, {"expr": "level > bool 0 == 1 and level @ end() >= 0"}),
        (7, {"expr": "avg_over_time(level[2m:20s]) > 0.5", "for": "1m"}),
    ],
)
def test_a_backtest_agrees_with_the_evaluation(store: Store, seed: int, fields: dict[str, str]) -> None:
    fill(store, seed)
    rule = {"alert": "High", **fields}
    window = Window(START * 1000, (START + 1200) * 1000, 20_000)
    found = backtest(store.engine, RuleConfig.model_validate(rule), window)
    got = [
        (one.labels["host"], round(one.fired_at * 1000), round(one.ended_at * 1000) if one.ended_at else None)
        for one in found.firings
    ]
    want = evaluated(store, rule, window)
    assert sorted(got, key=str) == want
    assert want != []
    assert (found.errors, len(found.firing), found.fired) == ({}, window.count, len(want))


def test_it_tells_labels_annotations_and_how_long(store: Store) -> None:
    for second in range(0, 300, 15):
        store.put(START + second, 0 if 60 <= second < 180 else 1, name="up", job="a")
    rule = RuleConfig.model_validate(
        {
            "alert": "Down", "expr": "up == 0", "for": "30s", "labels": {"who": "{{ $labels.job }}!"},
            "annotations": {"text": "{{ $value }} {{ $externalLabels.c }} {{ query `count(up)` | first | value }}"},
        }
    )  # fmt: skip
    window = Window(START * 1000, (START + 290) * 1000, 15_000)
    told = as_json(backtest(store.engine, rule, window, external_labels={"c": "d"}), rule)
    assert told["firings"] == [
        {
            "labels": {"alertname": "Down", "job": "a", "who": "a!"},
            "annotations": {"text": "0 d 1"},
            "activeAt": START + 60,
            "firedAt": START + 90,
            "endedAt": START + 180,
            "value": "0e+00",
        }
    ]
    assert (told["fired"], told["firingSeconds"], sum(told["pending"]), sum(told["firing"])) == (1, 90, 2, 6)


def test_what_would_fail_is_said_and_the_rest_is_told(store: Store) -> None:
    for second in range(0, 120, 15):
        store.put(START + second, 1, name="a", x="1")
        store.put(START + second, 1, name="b", x="1")
        if second >= 60:
            store.put(START + second, 1, name="b", x="1", y="2")
    rule = RuleConfig.model_validate({"alert": "Join", "expr": "a + on (x) b"})
    found = backtest(store.engine, rule, Window(START * 1000, (START + 105) * 1000, 15_000))
    assert sum(found.errors.values()) == 4
    assert "found duplicate series" in next(iter(found.errors))
    recorded = RuleConfig.model_validate({"record": "r", "expr": "b", "labels": {"y": "same"}})
    found = backtest(store.engine, recorded, Window(START * 1000, (START + 105) * 1000, 15_000))
    assert found.firing == [1, 1, 1, 1, 0, 0, 0, 0]
    assert "same labelset" in next(iter(found.errors))


def test_it_is_bounded_and_may_be_stopped(store: Store) -> None:
    for bad, want in ((Window, "evaluations are more than"),):
        with pytest.raises(BacktestError, match=want):
            bad(0, 10**12, 1000)
    with pytest.raises(BacktestError, match="end is before start"):
        Window(10, 5, 1)
    with pytest.raises(BacktestError, match="interval must be more than 0"):
        Window(0, 5, 0)
    rule = RuleConfig.model_validate({"alert": "A", "expr": "vector(1)"})
    with pytest.raises(QueryCanceled):
        backtest(store.engine, rule, Window(0, 10_000, 1000), cancelled=lambda: True)
