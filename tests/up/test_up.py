"""`bellbuoy up --manifests examples/` as a newcomer runs it: from nothing to a message, on this machine."""

import json
import platform
import shutil
import time
from pathlib import Path

import pytest

from tests.up.program import EXAMPLES, Up, fetch, slack, wait_for

BROKEN = """
apiVersion: bellbuoy.io/v1alpha1
kind: ScrapeTarget
metadata: {name: mistaken, namespace: shop}
spec: {static: {addresses: 5}}
---
apiVersion: bellbuoy.io/v1alpha1
kind: AlertRule
metadata: {name: unclosed, namespace: shop}
spec: {expr: "sum(up"}
"""
RULE = """
apiVersion: bellbuoy.io/v1alpha1
kind: AlertRule
metadata: {name: added, namespace: monitoring}
spec: {alert: Added, expr: "vector(1)", interval: 1s}
"""


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path / "manifests"))


def test_the_examples_watch_this_machine_and_print_the_first_alert(manifests: Path, tmp_path: Path) -> None:
    node = platform.node()
    with Up.on(manifests, tmp_path / "data") as up:
        wait_for("the greeting", lambda: "Ctrl-C ends it." in up.printed)
        assert up.server in up.printed
        started = time.time()
        jobs = {"server", "node", "alertmanager", "pushgateway"}
        wait_for("all targets", lambda: {one["metric"]["job"] for one in up.query("up == 1")} == jobs)
        assert {one["health"] for one in up.api("targets")["activeTargets"]} == {"up"}
        [load] = up.query("node_load1")
        assert (load["metric"]["node"], load["metric"]["instance"]) == (node, node)
        assert [one["metric"]["nodename"] for one in up.query("node_uname_info")] == [node]
        assert wait_for("the alert", lambda: up.query('ALERTS{alertname="Watchdog", alertstate="firing"}'))
        wait_for("the message", lambda: "firing since" in up.printed)
        assert time.time() - started < 60
        assert "🔵 Watchdog firing\n───" in up.printed
        assert "Bellbuoy is at work: 4 targets are up" in up.printed
        # What needs a cluster is no error.
        assert "level=error" not in up.logged
        ended = time.time()
        assert up.end() == 0
        assert time.time() - ended < 10
        assert "Traceback" not in up.logged
    with Up.on(manifests, tmp_path / "data") as again:
        wait_for("the data", lambda: again.query("node_load1", time=ended))
        assert again.end() == 0


def test_with_a_webhook_in_the_environment_slack_gets_the_message(manifests: Path, tmp_path: Path) -> None:
    hurried = (EXAMPLES / "watchdog.yaml").read_text().replace("for: 10s", "interval: 1s")
    (manifests / "watchdog.yaml").write_text(hurried)
    (manifests / "receiver.yaml").write_text((EXAMPLES / "receiver.yaml").read_text().replace("Wait: 5s", "Wait: 0s"))
    with slack() as url, Up.on(manifests, tmp_path / "data", SLACK_WEBHOOK_URL=url) as up:
        base = url.partition("/services/")[0]
        [message] = wait_for("the message", lambda: fetch(f"{base}/messages"))
        assert fetch(f"{base}/refused") == []
        assert "Watchdog" in json.dumps(message)
        assert message["attachments"][0]["color"] == "#439fe0"
        assert "sent to Slack" in up.printed
        assert "Watchdog" not in up.printed
        assert up.end() == 0
        assert "/services/" not in up.printed + up.logged


def test_manifests_that_change_take_effect_and_broken_ones_cost_only_themselves(
    manifests: Path, tmp_path: Path
) -> None:
    (manifests / "broken.yaml").write_text(BROKEN)
    with Up.on(manifests, tmp_path / "data") as up:
        wait_for("the greeting", lambda: "Ctrl-C ends it." in up.printed)
        assert "2 mistakes: see the log" in up.printed
        told = f"{manifests}/broken.yaml: cannot use ScrapeTarget shop/mistaken, spec: static.addresses: must be a list"
        assert told in up.logged
        assert "cannot use AlertRule shop/unclosed: expr cannot be used: 1:7: parse error: unclosed" in up.logged

        def names() -> set[str]:
            return {rule["name"] for group in up.api("rules")["groups"] for rule in group["rules"]}

        assert wait_for("the rules", lambda: "Watchdog" in names())
        assert "unclosed" not in names()
        (manifests / "added.yaml").write_text(RULE)
        wait_for("the new rule", lambda: "Added" in names())
        wait_for("its alert", lambda: up.query('ALERTS{alertname="Added"}'))
        # Broken, it stays as it was; gone, it goes.
        (manifests / "added.yaml").write_text(RULE.replace("vector(1)", "vector("))
        wait_for("the mistake", lambda: "added.yaml: cannot use AlertRule monitoring/added: expr" in up.logged)
        (manifests / "added.yaml").write_text(RULE + "---\n" + RULE.replace("added", "more").replace("Added", "More"))
        wait_for("a rule that came later", lambda: {"Added", "More"} <= names())
        (manifests / "added.yaml").unlink()
        wait_for("the end of the rules", lambda: not {"Added", "More"} & names())
        assert up.end() == 0
