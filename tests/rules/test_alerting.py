"""An alert goes from pending to firing to resolved as Prometheus's does, and `for` survives a restart."""

from typing import Any

import pytest

from bellbuoy.rules import AlertingRule, RuleConfig, format_alert_value
from bellbuoy.rules.alerting import TemplateContext
from bellbuoy.rules.recording import RuleError
from bellbuoy.rules.restoring import Restored, restored_start

CONTEXT = TemplateContext({"cluster": "c"}, "http://buoy", lambda _: [])


def rule(**fields: Any) -> AlertingRule:
    return AlertingRule(RuleConfig.model_validate({"alert": "Down", "expr": "up == 0", **fields}), grace_seconds=600)


class Watch:
    """A rule that is evaluated again and again, with the given instances down."""

    def __init__(self, rule: AlertingRule) -> None:
        self.rule = rule

    def at(self, at: float, *down: str, value: float = 0.0, limit: int = 0) -> dict[str, str]:
        samples = [({"__name__": "up", "instance": name}, value) for name in down]
        self.stored = self.rule.evaluate(samples, at=at, context=CONTEXT, limit=limit)
        return {alert.labels["instance"]: alert.state for alert in self.rule.active.values()}


def test_an_alert_is_pending_for_its_time_then_fires_then_is_inactive() -> None:
    watch = Watch(rule(**{"for": "1m", "labels": {"severity": "page"}}))
    assert watch.at(0, "a") == {"a": "pending"}
    labels = {"alertname": "Down", "instance": "a", "severity": "page"}
    assert watch.stored == [
        ({"__name__": "ALERTS", **labels, "alertstate": "pending"}, 1.0),
        ({"__name__": "ALERTS_FOR_STATE", **labels}, 0.0),
    ]
    assert watch.at(59, "a", "b") == {"a": "pending", "b": "pending"}
    assert watch.at(60, "a", "b") == {"a": "firing", "b": "pending"}
    assert watch.at(75) == {"a": "inactive"}
    assert watch.stored == []
    assert watch.at(75 + 900) == {"a": "inactive"}
    assert watch.at(75 + 901) == {}


def test_an_alert_without_for_fires_at_once_and_may_come_again() -> None:
    watch = Watch(rule())
    assert watch.at(0, "a") == {"a": "firing"}
    assert watch.at(10) == {"a": "inactive"}
    assert watch.at(20, "a") == {"a": "firing"}
    (alert,) = watch.rule.active.values()
    assert (alert.active_at, alert.resolved_at) == (20, 0)


def test_an_alert_keeps_firing_for_its_time() -> None:
    watch = Watch(rule(keep_firing_for="1m"))
    watch.at(0, "a")
    assert watch.at(10) == {"a": "firing"}
    assert watch.at(69) == {"a": "firing"}
    assert watch.at(70) == {"a": "inactive"}
    watch.at(80, "a")
    watch.at(90)
    assert watch.at(100, "a") == {"a": "firing"}
    (alert,) = watch.rule.active.values()
    assert alert.keep_firing_since == 0


def test_labels_and_annotations_are_filled_in_and_the_latest_value_counts() -> None:
    annotations = {"summary": "{{ $labels.instance }} {{ $value }} {{ $externalLabels.cluster }}"}
    watch = Watch(rule(annotations=annotations, labels={"who": "{{ $labels.instance }}!", "gone": ""}))
    watch.at(0, "a", value=1)
    watch.at(15, "a", value=2.5)
    (alert,) = watch.rule.active.values()
    assert alert.labels == {"alertname": "Down", "instance": "a", "who": "a!"}
    assert alert.annotations == {"summary": "a 2.5 c"}
    assert alert.value == 2.5


def test_a_template_that_fails_says_so_in_its_place() -> None:
    watch = Watch(rule(annotations={"summary": '{{ query "x" | first }}'}))
    watch.at(0, "a")
    (alert,) = watch.rule.active.values()
    assert alert.annotations["summary"].startswith("<error expanding template: error calling first")


def test_alerts_that_become_one_are_an_error_and_change_nothing() -> None:
    watch = Watch(rule(labels={"instance": "x"}))
    watch.at(0, "a")
    with pytest.raises(RuleError, match="same labelset after applying alert labels"):
        watch.at(10, "a", "b")
    assert len(watch.rule.active) == 1


def test_more_alerts_than_the_limit_are_an_error() -> None:
    watch = Watch(rule())
    with pytest.raises(RuleError, match="exceeded limit of 1 with 2 alerts"):
        watch.at(0, "a", "b", limit=1)
    assert watch.rule.active == {}


def test_the_alertmanager_hears_at_once_then_after_the_delay_and_of_the_end() -> None:
    watch = Watch(rule(**{"for": "10s"}))

    def sent(at: float, *down: str) -> list[str]:
        watch.at(at, *down)
        return [alert.state for alert in watch.rule.take_to_send(at, resend_seconds=60)]

    assert sent(0, "a") == []
    assert sent(10, "a") == ["firing"]
    assert sent(25, "a") == []
    assert sent(71, "a") == ["firing"]
    assert sent(80) == ["inactive"]
    assert sent(90) == []
    assert sent(141) == ["inactive"]


def test_for_goes_on_after_a_restart_without_the_time_in_between() -> None:
    def start(active_at: float, down_at: float, at: float, hold: float) -> float:
        return restored_start(Restored(active_at, down_at), at=at, hold_seconds=hold, grace_seconds=600)

    assert start(0, 3600, 5000, 1800) == 0  # was firing, goes on firing
    assert start(0, 600, 900, 3600) == 300  # 50 minutes were left, and are
    assert start(0, 3500, 4000, 3600) == 4000 + 600 - 3600  # at least the grace period is left
    assert start(0, 30, 50, 60) == 20  # a short `for` has no grace period


def test_an_alert_from_before_a_restart_is_taken_up() -> None:
    one = rule(**{"for": "1m"})
    one.restore = {(("alertname", "Down"), ("instance", "a")): Restored(100.0, 150.0)}
    watch = Watch(one)
    assert watch.at(160, "a", "b") == {"a": "pending", "b": "pending"}
    assert watch.at(170, "a", "b") == {"a": "firing", "b": "pending"}


def test_an_alerts_value_prints_as_the_api_has_it() -> None:
    for value, want in (
        (1.0, "1e+00"), (0.0, "0e+00"), (123.456, "1.23456e+02"), (-1e-7, "-1e-07"), (float("inf"), "+Inf"),
        (float("nan"), "NaN"), (1 / 3, "3.333333333333333e-01"),
    ):  # fmt: skip
        assert format_alert_value(value) == want
