"""Rules ring at the real Alertmanager: alerts of a group arrive, resolve, and a dead one delays nobody."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bellbuoy.rules import AlertingConfig, Notifier, NotifierOptions, RuleManager, RuleOptions, load_groups
from tests.peers.programs import Program, fetch, free_port, peer, until
from tests.rules.conftest import Store


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Program]:
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n", encoding="utf-8")
    files = [f"--config.file={config}", f"--storage.path={tmp_path / 'am'}", "--cluster.listen-address="]
    async with peer(
        "prometheus-alertmanager", *files, "--web.route-prefix=/am", folder=tmp_path, ready="/am/-/ready"
    ) as it:
        yield it


async def alerts(at: Program) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await fetch(f"{at.url}/am/api/v2/alerts", accept="application/json"))
    return found


@pytest.mark.peers
async def test_alerts_of_rules_arrive_at_the_real_one_and_end_there(real: Program, store: Store) -> None:
    registry = CollectorRegistry()
    notifier = Notifier(
        NotifierOptions(external_url="http://buoy:9090", retry_seconds=0.05, queue_alerts=50), registry=registry
    )
    dead, address = f"127.0.0.1:{free_port()}", real.url.removeprefix("http://")
    config = {
        "alert_relabel_configs": [{"action": "labeldrop", "regex": "replica"}],
        "alertmanagers": [
            {"path_prefix": "/am", "static_configs": [{"targets": [dead]}]},
            {
                "path_prefix": "/am/",
                "static_configs": [{"targets": [address, "dropped:1"]}],
                "relabel_configs": [{"action": "drop", "source_labels": ["__address__"], "regex": "dropped.*"}],
                "alert_relabel_configs": [{"target_label": "seen", "replacement": "by the second"}],
            },
        ],
    }
    external = {"cluster": "c", "replica": "0"}
    await notifier.apply(AlertingConfig.model_validate(config), base=None, external_labels=external)
    manager = RuleManager(
        engine=store.engine,
        storage=store.storage,
        options=RuleOptions(external_url="http://buoy:9090"),
        send=notifier.send,
        registry=registry,
    )
    text = """groups: [{name: g, interval: 200ms, rules: [{alert: Down, expr: up == 0, labels: {severity: page},
              annotations: {summary: "{{ $labels.job }} is {{ $value }}"}}]}]"""
    now = time.time()
    for at in range(-2, 3):
        store.put(now + at, 0, name="up", job="a")
    await manager.apply(load_groups({"r": text}, interval_seconds=1), external_labels=external)
    (alert,) = await until("the alert is there", lambda: alerts(real))
    assert alert["labels"] == {
        "alertname": "Down", "job": "a", "severity": "page", "cluster": "c", "seen": "by the second",
    }  # fmt: skip
    assert alert["annotations"] == {"summary": "a is 0"}
    assert alert["status"]["state"] == "active"
    assert alert["generatorURL"] == "http://buoy:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1"
    assert notifier.dropped_urls() == ["http://dropped:1/am/api/v2/alerts"]
    url = f"http://{dead}/am/api/v2/alerts"

    async def is_dead() -> bool:
        return list(notifier.errors()) == [url]

    await until("the dead one is known", is_dead)
    assert registry.get_sample_value("bellbuoy_notifications_dropped_total", {"alertmanager": url}) == 1
    # A change elsewhere leaves what is the same alone.
    before = notifier._sections[1]
    await notifier.apply(
        AlertingConfig.model_validate({**config, "alertmanagers": config["alertmanagers"][1:]}),  # type: ignore[index]
        base=None,
        external_labels=external,
    )
    assert notifier._sections == [before]
    assert registry.get_sample_value("bellbuoy_notifications_dropped_total", {"alertmanager": url}) is None
    store.put(time.time() + 0.01, 1, name="up", job="a")
    for at in range(1, 20):
        store.put(time.time() + at / 5, 1, name="up", job="a")

    async def is_resolved() -> bool:
        return await alerts(real) == []

    await until("the alert is resolved", is_resolved)
    await manager.stop()
    await asyncio.wait_for(notifier.stop(), 10)
