"""Alerts reach every alertmanager: batched, retried, bounded, one not held up by another."""

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from bellbuoy.rules import Alert, AlertingConfig, AlertingRule, Notifier, NotifierOptions, RuleConfig
from tests.rules.conftest import Alertmanager, until

RULE = AlertingRule(RuleConfig.model_validate({"alert": "Down", "expr": "up == 0"}))


def alert(name: str = "a", **more: Any) -> Alert:
    return Alert(
        {"alertname": "Down", "instance": name}, {"summary": "s", "empty": ""}, 0.0, "firing", 100.0, 160.0, **more
    )


async def start(config: dict[str, Any], **options: Any) -> tuple[Notifier, CollectorRegistry]:
    registry = CollectorRegistry()
    notifier = Notifier(
        NotifierOptions(external_url="http://buoy:9090", retry_seconds=0.01, **options), registry=registry
    )
    await notifier.apply(
        AlertingConfig.model_validate(config), base=None, external_labels={"cluster": "c", "instance": "no"}
    )
    return notifier, registry


def to(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"alertmanagers": [{"static_configs": [{"targets": list(addresses)}], **more}]}


async def test_an_alert_arrives_in_the_form_of_api_v2(alertmanager: Alertmanager) -> None:
    notifier, _ = await start(to(alertmanager.address))
    notifier.send([alert()], RULE, 400.0)
    assert await alertmanager.until(1) == [
        {
            "labels": {"cluster": "c", "alertname": "Down", "instance": "a"},
            "annotations": {"summary": "s"},
            "startsAt": "1970-01-01T00:02:40.000Z",
            "endsAt": "1970-01-01T00:06:40.000Z",
            "generatorURL": "http://buoy:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
        }
    ]
    notifier.send([alert(resolved_at=300.0)], RULE, 400.0)
    assert (await alertmanager.until(2))[1]["endsAt"] == "1970-01-01T00:05:00.000Z"
    assert notifier.urls() == [f"http://{alertmanager.address}/api/v2/alerts"]
    await notifier.stop()


async def test_many_alerts_go_in_batches_and_failures_are_tried_again(alertmanager: Alertmanager) -> None:
    notifier, registry = await start(to(alertmanager.address), batch_alerts=4)
    alertmanager.answers = [500, 503]
    notifier.send([alert(str(i)) for i in range(10)], RULE, 400.0)
    await alertmanager.until(10)
    assert alertmanager.batches == [4, 4, 2]
    await notifier.stop()
    name = {"alertmanager": f"http://{alertmanager.address}/api/v2/alerts"}
    assert registry.get_sample_value("bellbuoy_notifications_errors_total", name) in (None, 0)


async def test_a_refusal_is_not_tried_again_and_is_remembered(alertmanager: Alertmanager) -> None:
    notifier, registry = await start(to(alertmanager.address))
    alertmanager.answers = [400]
    url = f"http://{alertmanager.address}/api/v2/alerts"
    notifier.send([alert()], RULE, 400.0)
    await until(lambda: bool(notifier.errors()))
    assert notifier.errors() == {url: "it answers 400: said so"}
    assert registry.get_sample_value("bellbuoy_notifications_errors_total", {"alertmanager": url}) == 1
    notifier.send([alert()], RULE, 400.0)
    await alertmanager.until(1)
    await notifier.stop()


async def test_one_that_is_dead_or_slow_does_not_hold_up_another(alertmanager: Alertmanager) -> None:
    notifier, registry = await start(to("127.0.0.1:1", alertmanager.address), queue_alerts=5)
    for i in range(3):
        notifier.send([alert(str(i))], RULE, 400.0)
    await alertmanager.until(3)
    alertmanager.hold.clear()
    before = len(alertmanager.requests)
    notifier.send([alert("held")], RULE, 400.0)
    await until(lambda: len(alertmanager.requests) > before)
    notifier.send([alert(str(i)) for i in range(9)], RULE, 400.0)
    await asyncio.sleep(0.05)
    url = f"http://{alertmanager.address}/api/v2/alerts"
    assert registry.get_sample_value("bellbuoy_notifications_dropped_total", {"alertmanager": url}) == 4
    alertmanager.hold.set()
    got = await alertmanager.until(9)
    assert [one["labels"]["instance"] for one in got[4:]] == ["4", "5", "6", "7", "8"]
    await notifier.stop()


async def test_alertmanagers_are_found_and_relabeled_and_alerts_too(alertmanager: Alertmanager, tmp_path: Path) -> None:
    found = tmp_path / "am.json"
    found.write_text("[]", encoding="utf-8")
    config = {
        "alert_relabel_configs": [{"action": "drop", "source_labels": ["instance"], "regex": "secret"}],
        "alertmanagers": [
            {
                "path_prefix": "/sub/",
                "authorization": {"credentials": "t0ken"},
                "file_sd_configs": [{"files": [str(found)], "refresh_interval": "50ms"}],
                "alert_relabel_configs": [{"action": "labeldrop", "regex": "cluster"}],
            }
        ],
    }
    notifier, _ = await start(config)
    assert notifier.urls() == []
    found.write_text(f'[{{"targets": ["{alertmanager.address}"]}}]', encoding="utf-8")
    await until(lambda: bool(notifier.urls()))
    assert notifier.urls() == [f"http://{alertmanager.address}/sub/api/v2/alerts"]
    notifier.send([alert("secret"), alert("b")], RULE, 400.0)
    (got,) = await alertmanager.until(1)
    assert got["labels"] == {"alertname": "Down", "instance": "b"}
    assert alertmanager.requests[0].headers["Authorization"] == "Bearer t0ken"
    await notifier.stop()
