"""Groups of rules are evaluated against a real storage: recorded, alerted, restored, each rule by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from bellbuoy.promql import Engine, QueryResult
from bellbuoy.rules import Alert, AlertingRule, RuleManager, RuleOptions, load_groups
from bellbuoy.tsdb import Histogram, LabelSets
from tests.rules.conftest import Store, until

START = 1_700_000_000.0


class Running:
    """A manager whose groups are evaluated by hand."""

    def __init__(self, store: Store, *, now: float = START, **options: Any) -> None:
        self.store, self.now = store, now
        self.sent: list[tuple[str, float]] = []
        self.registry = CollectorRegistry()
        self.manager = RuleManager(
            engine=store.engine,
            storage=store.storage,
            options=RuleOptions(**options),
            send=self._send,
            registry=self.registry,
            clock=lambda: self.now,
        )

    def _send(self, alerts: Sequence[Alert], rule: AlertingRule, valid_until: float) -> None:
        self.sent += [(alert.state, valid_until) for alert in alerts]

    async def load(self, text: str) -> None:
        groups = load_groups({"rules.yml": text}, interval_seconds=3600.0)
        await self.manager.apply(groups, external_labels={})

    def evaluate(self, at: float) -> None:
        self.now = at
        for group in self.manager.groups():
            group.evaluate(at)

    def alerting(self, name: str) -> AlertingRule:
        """The alert's rule."""
        states = [state.rule for group in self.manager.groups() for state in group.rules if state.name == name]
        assert isinstance(states[0], AlertingRule)
        return states[0]

    def health(self) -> dict[str, tuple[str, str]]:
        return {
            state.name: (state.health, state.last_error) for group in self.manager.groups() for state in group.rules
        }

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"rule_group": "rules.yml;g"}) or 0.0


Make = Callable[..., Running]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Running] = []

    def build(store: Store, **more: Any) -> Running:
        made.append(Running(store, **more))
        return made[-1]

    yield build
    for one in made:
        await one.manager.stop()


def rules(*entries: str) -> str:
    return "groups: [{name: g, interval: 1h, rules: [" + ", ".join(entries) + "]}]"


async def quiet() -> None:
    """Let the tasks make their first evaluation, of the tick gone by, which has no data yet."""
    await asyncio.sleep(0.2)


async def test_a_recorded_series_is_there_for_the_next_rule_and_ends_stale(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(
        rules(
            '{record: "job:up:sum", expr: "sum by (job) (up)", labels: {by: rule}}',
            '{record: double, expr: "job:up:sum * 2"}',
        )
    )
    await quiet()
    store.put(START + 10, 3, name="up", job="a")
    running.evaluate(START + 10)
    assert store.get("job:up:sum", START + 10) == {"__name__=job:up:sum,by=rule,job=a": 3}
    assert store.get("double", START + 10) == {"__name__=double,by=rule,job=a": 6}
    running.evaluate(START + 400)  # up is older than the lookback: nothing is recorded
    assert store.get("job:up:sum", START + 401) == {}
    assert running.health() == {"job:up:sum": ("ok", ""), "double": ("ok", "")}


async def test_of_native_histograms_rules_record_numbers_and_alerts_fire(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(
        rules(
            '{record: "latency:count", expr: "histogram_count(sum(latency))"}',
            '{alert: Slow, expr: "latency", annotations: {value: "{{ $value }}"}}',
        )
    )
    await quiet()
    histogram = Histogram(schema=0, count=4.0, sum=5.0, positive_spans=[(0, 2)], positive_buckets=[1.0, 3.0])
    at = np.array([round((START + 10) * 1000)])
    store.storage.append_histograms(LabelSets.from_dicts([{"__name__": "latency"}]), at, [histogram])
    running.evaluate(START + 10)
    assert store.get("latency:count", START + 10) == {"__name__=latency:count": 4}
    assert store.get('ALERTS{alertname="Slow"}', START + 10) == {"__name__=ALERTS,alertname=Slow,alertstate=firing": 1}
    assert set(running.health().values()) == {("ok", "")}


async def test_a_rule_that_fails_does_not_touch_the_others(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(
        rules(
            '{record: broken, expr: "sum("}',
            '{record: twice, expr: "up", labels: {job: same}}',
            '{record: many, expr: "up * on (none) up"}',
            '{record: fine, expr: "count(up)"}',
        )
    )
    await quiet()
    for job in ("a", "b"):
        store.put(START + 10, 1, name="up", job=job)
    running.evaluate(START + 10)
    health = running.health()
    assert health["broken"][0] == "err"
    assert "parse error" in health["broken"][1]
    assert "same labelset after applying rule labels" in health["twice"][1]
    assert health["many"][0] == "err"
    assert health["fine"] == ("ok", "")
    assert store.get("fine", START + 10) == {"__name__=fine": 2}
    assert running.metric("bellbuoy_rule_evaluation_failures_total") >= 3


async def test_an_alert_is_stored_told_and_restored_after_a_restart(store: Store, make: Make) -> None:
    text = rules('{alert: Down, expr: "up == 0", for: 1m, labels: {severity: page}}')
    running = make(store)
    await running.load(text)
    await quiet()
    for at in range(0, 300, 15):
        store.put(START + at, 0, name="up", job="a")
    running.evaluate(START + 15)
    running.evaluate(START + 60)
    stored = "__name__=ALERTS,alertname=Down,alertstate=pending,job=a,severity=page"
    assert store.get("ALERTS", START + 60) == {stored: 1}
    assert running.sent == []
    await running.manager.stop()

    again = make(store, now=START + 65)
    await again.load(text)
    await quiet()
    again.evaluate(START + 70)
    assert store.get("ALERTS_FOR_STATE", START + 70) == {
        "__name__=ALERTS_FOR_STATE,alertname=Down,job=a,severity=page": START + 15 + 10
    }
    again.evaluate(START + 90)
    assert store.get('ALERTS{alertstate="firing"}', START + 90) != {}
    assert again.sent == [("firing", START + 90 + 4 * 3600)]
    assert store.get('ALERTS{alertstate="pending"}', START + 91) == {}


async def test_an_alert_that_had_ended_before_the_restart_starts_anew(store: Store, make: Make) -> None:
    text = rules('{alert: Down, expr: "up == 0", for: 1m}')
    running = make(store)
    await running.load(text)
    await quiet()
    store.put(START + 10, 0, name="up", job="a")
    running.evaluate(START + 10)
    store.put(START + 20, 1, name="up", job="a")
    running.evaluate(START + 20)
    await running.manager.stop()
    again = make(store, now=START + 65)
    await again.load(text)
    await quiet()
    store.put(START + 100, 0, name="up", job="a")
    again.evaluate(START + 100)
    assert set(store.get("ALERTS_FOR_STATE", START + 100).values()) == {START + 100}


async def test_a_reload_keeps_alerts_and_ends_the_series_of_rules_that_are_gone(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(rules('{alert: Down, expr: "up == 0", for: 1m}', '{record: gone, expr: "up"}'))
    await quiet()
    for at in range(0, 300, 10):
        store.put(START + at, 0, name="up", job="a")
    running.evaluate(START + 10)
    running.now = START + 20
    await running.load(rules('{alert: Down, expr: "up < 1", for: 1m}'))
    assert store.get("gone", START + 21) == {}
    running.evaluate(START + 70)
    assert store.get('ALERTS{alertstate="firing"}', START + 70) != {}
    running.now = START + 80
    await running.load("groups: []")
    assert store.get("ALERTS", START + 81) == {}


async def test_groups_are_evaluated_at_a_stable_offset_in_their_interval(store: Store, make: Make) -> None:
    running = make(store)
    text = "groups: [{name: a, interval: 10s, rules: []}, {name: b, interval: 10s, rules: []}]"
    await running.load(text)
    a, b = running.manager.groups()
    assert a.tick(START + 25) - a.tick(START + 5) == pytest.approx(20)
    assert a.tick(a.tick(START)) == pytest.approx(a.tick(START))
    assert START - 10 < a.tick(START) <= START
    assert a.tick(START) != b.tick(START)


async def test_the_task_evaluates_by_itself_and_its_query_may_look_back(store: Store) -> None:
    now = time.time()
    store.put(now - 30, 5, name="up")
    store.put(now, 1, name="up")
    manager = RuleManager(
        engine=store.engine,
        storage=store.storage,
        options=RuleOptions(),
        send=lambda *_: None,
        registry=CollectorRegistry(),
    )
    text = "groups: [{name: g, interval: 100ms, query_offset: 20s, rules: [{record: old, expr: up}]}]"
    await manager.apply(load_groups({"r": text}, interval_seconds=1), external_labels={})
    await until(lambda: bool(store.get("old", time.time())))
    await manager.stop()
    assert store.get("old", time.time()) == {"__name__=old": 5}


async def test_samples_and_alerts_lie_at_the_time_that_was_asked_for(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(
        "groups: [{name: g, interval: 1h, query_offset: 30s, labels: {team: t}, rules: ["
        '{record: r, expr: "up", labels: {a: b}}, {alert: A, expr: "up == 1", labels: {who: "{{ $labels.job }}"}}]}]'
    )
    await quiet()
    store.put(START + 65, 1, name="up", job="j")
    running.evaluate(START + 100)
    assert store.get("timestamp(r)", START + 100) == {"a=b,job=j,team=t": START + 70}
    assert store.get('timestamp(ALERTS{team="t",who="j"})', START + 100) == {
        "alertname=A,alertstate=firing,job=j,team=t,who=j": START + 70
    }


async def test_independent_rules_may_go_side_by_side(store: Store, make: Make) -> None:
    running = make(store, concurrent_evaluations=3)
    await running.load(
        rules(
            *(f'{{record: r{i}, expr: "up + {i}"}}' for i in range(20)),
            '{record: last, expr: "count({__name__=~\\"r.+\\"})"}',
        )
    )
    await quiet()
    store.put(START + 10, 1, name="up", job="j")
    running.evaluate(START + 10)
    assert store.get("last", START + 10) == {"__name__=last": 20}
    assert {health for health, _ in running.health().values()} == {"ok"}


async def test_histograms_are_recorded_and_end_stale(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(
        rules('{record: copy, expr: "latency"}', '{alert: Any, expr: "latency", annotations: {v: "{{ $value }}"}}')
    )
    await quiet()
    histogram = Histogram(schema=0, count=5.0, sum=7.5, positive_spans=[(0, 2)], positive_buckets=[2.0, 3.0])
    labels = LabelSets.from_dicts([{"__name__": "latency", "job": "j"}])
    store.storage.append_histograms(labels, np.array([round((START + 10) * 1000)]), [histogram])
    running.evaluate(START + 10)
    result = store.engine.instant("copy", round((START + 10) * 1000))
    assert (result.labels.to_dicts(), result.histograms and result.histograms[0]) == (
        [{"__name__": "copy", "job": "j"}],
        histogram,
    )
    (alert,) = running.alerting("Any").active.values()
    assert alert.annotations == {"v": "{count:5, sum:7.5, (0.5,1]:2, (1,2]:3}"}
    running.evaluate(START + 400)  # latency is older than the lookback
    assert len(store.engine.instant("copy", round((START + 400) * 1000)).labels) == 0
    # There is a sample within the lookback, but it was ended.
    assert len(store.engine.instant("copy[400s]", round((START + 400) * 1000)).labels) == 1


async def test_a_longer_for_makes_what_fires_wait_again(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(rules('{alert: Down, expr: "up == 0", for: 10s}'))
    await quiet()
    for second in range(0, 100, 10):
        store.put(START + second, 0, name="up", job="a")
    running.evaluate(START + 10)
    running.evaluate(START + 20)
    assert running.alerting("Down").state == "firing"
    await running.load(rules('{alert: Down, expr: "up == 0", for: 1m}'))
    running.evaluate(START + 30)
    assert running.alerting("Down").state == "pending"
    running.evaluate(START + 70)
    assert running.alerting("Down").state == "firing"


async def test_a_rule_that_moves_to_another_group_leaves_no_gap(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(rules('{record: kept, expr: "up"}', '{record: gone, expr: "up"}'))
    await quiet()
    store.put(START + 10, 1, name="up")
    running.evaluate(START + 10)
    running.now = START + 20
    await running.load('groups: [{name: other, interval: 1h, rules: [{record: kept, expr: "up"}]}]')
    assert store.get("kept", START + 21) == {"__name__=kept": 1}
    assert store.get("gone", START + 21) == {}


class SlowEngine(Engine):
    """An engine that takes a while."""

    def instant(self, query: str, at_ms: int, **more: Any) -> QueryResult:
        time.sleep(0.25)
        return super().instant(query, at_ms, **more)


async def test_evaluations_that_are_left_out_are_counted(store: Store) -> None:
    registry = CollectorRegistry()
    manager = RuleManager(
        engine=SlowEngine(store.storage),
        storage=store.storage,
        options=RuleOptions(),
        send=lambda *_: None,
        registry=registry,
    )
    text = "groups: [{name: g, interval: 50ms, rules: [{record: r, expr: vector(1)}]}]"
    await manager.apply(load_groups({"r": text}, interval_seconds=1), external_labels={})

    def count(name: str) -> float:
        return registry.get_sample_value(name, {"rule_group": "r;g"}) or 0.0

    await until(lambda: count("bellbuoy_rule_evaluations_total") >= 3)
    await manager.stop()
    missed, all_ = count("bellbuoy_rule_group_iterations_missed_total"), count("bellbuoy_rule_group_iterations_total")
    done = count("bellbuoy_rule_evaluations_total")
    assert missed >= 6
    assert all_ == missed + done
    assert count("bellbuoy_rule_group_last_rule_duration_sum_seconds") >= 0.25
    assert registry.get_sample_value("bellbuoy_rule_group_duration_seconds_count") == done
