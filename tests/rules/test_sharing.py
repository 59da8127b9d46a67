"""Rules of a group evaluate what they have in common once, and see what rules before them wrote."""

import threading

import numpy as np

from bellbuoy.promql import Value, parse
from bellbuoy.promql.values import Scalar
from bellbuoy.rules.config import RuleConfig
from bellbuoy.rules.dependencies import batches
from bellbuoy.rules.sharing import Plan, Round
from tests.rules.conftest import Store
from tests.rules.test_groups import START, Make, make, quiet, rules

__all__ = ["make"]


async def test_equal_parts_are_evaluated_once_and_give_what_they_would_alone(store: Store, make: Make) -> None:
    for second in range(0, 300, 15):
        for job in ("a", "b"):
            store.put(START + second, second * (2 if job == "a" else 5), name="hits_total", job=job)
    exprs = {
        "one": "sum(rate(hits_total[4m]))",
        "two": "max(rate(hits_total[4m]))",
        "three": "sum(rate(hits_total[4m])) / 2",
        "four": "rate(hits_total[4m] offset 1m)",
    }
    running = make(store)
    await running.load(rules(*(f'{{record: {name}, expr: "{expr}"}}' for name, expr in exprs.items())))
    await quiet()
    before = running.registry.get_sample_value("bellbuoy_rule_shared_values_total") or 0.0
    running.evaluate(START + 290)
    for name, expr in exprs.items():
        recorded = list(store.get(name, START + 290).values())
        assert recorded == list(store.get(expr, START + 290).values())
    # rate(…[4m]) of `two`, and the whole sum of `three`.
    assert running.registry.get_sample_value("bellbuoy_rule_shared_values_total") == before + 2


async def test_what_a_rule_wrote_is_not_taken_from_before(store: Store, make: Make) -> None:
    running = make(store)
    await running.load(
        rules(
            '{record: before, expr: "sum(x) + 0"}',
            '{record: x, expr: "count(y)"}',
            '{record: after, expr: "sum(x) + 0"}',
            '{record: named, expr: "sum({__name__=~\\"x|z\\"})"}',
            '{record: y, expr: "vector(1)"}',
        )
    )
    await quiet()
    store.put(START + 10, 40, name="x", old="yes")
    for host in ("a", "b"):
        store.put(START + 10, 1, name="y", host=host)
    running.evaluate(START + 10)
    assert [list(store.get(name, START + 10).values()) for name in ("before", "after", "named")] == [[40], [42], [42]]


def test_a_value_is_kept_until_its_last_use_and_no_longer_than_there_is_room() -> None:
    exprs = [parse("sum(rate(a[1m]))"), parse("sum(rate(a[1m]))"), parse("sum(rate(a[1m]))")]
    made: list[int] = []

    def make_value() -> Value:
        made.append(1)
        return Scalar(np.zeros(1))

    round_ = Round(Plan(exprs), max_samples=10)
    for expr in exprs:
        round_.value(expr, make_value)
    assert (len(made), round_.hits, round_._slots) == (1, 2, {})
    full = Round(Plan(exprs), max_samples=0)
    for expr in exprs:
        full.value(expr, make_value)
    assert (len(made), full.hits) == (4, 0)


def test_a_selector_without_buckets_is_not_one_with_them() -> None:
    bare, full = parse("histogram_count(rate(a[1m]))"), parse("histogram_quantile(0.9, rate(a[1m]))")
    plan = Plan([bare, parse("histogram_sum(rate(a[1m]))"), full, parse("histogram_quantile(0.5, rate(a[1m]))")])
    assert plan.numbers[id(bare.children()[0])] != plan.numbers[id(full.children()[1])]
    assert sorted(plan.wanted.values()) == [2, 2]


def test_threads_that_need_the_same_wait_for_one_of_them() -> None:
    exprs = [parse("sum(a)") for _ in range(8)]
    made: list[int] = []
    gate = threading.Event()

    def make_value() -> Value:
        gate.wait(5)
        made.append(1)
        return Scalar(np.ones(1))

    round_ = Round(Plan(exprs), max_samples=10)
    threads = [threading.Thread(target=round_.value, args=(expr, make_value)) for expr in exprs]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert (len(made), round_.hits) == (1, 7)


def test_rules_that_read_others_come_after_them() -> None:
    def order(*entries: dict[str, str]) -> list[list[int]]:
        return batches([(RuleConfig.model_validate(entry), parse(entry["expr"])) for entry in entries])

    a, b = {"record": "a", "expr": "up"}, {"record": "b", "expr": "sum(a)"}
    c, free = {"alert": "C", "expr": "b > 1"}, {"record": "free", "expr": "down"}
    assert order(a, b, c, free) == [[0, 3], [1], [2]]
    assert order(a, free) == [[0, 1]]
    assert order(b, a) == [[0, 1]]  # what stands before does not need what stands after
    assert order(c, {"record": "n", "expr": "count(ALERTS)"}) == [[0], [1]]
    assert order(c, {"record": "n", "expr": 'ALERTS_FOR_STATE{alertname="D"}'}) == [[0, 1]]
    assert order(a, {"record": "n", "expr": '{__name__=~"a|z"}'}) == [[0], [1]]
    assert order(a, free, {"record": "n", "expr": '{job="x"}'}) == [[0], [1], [2]]
