"""Beside Debian's: amtool drives ours, Prometheus sends to ours, Alertmanager tells a webhook the same."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bellbuoy.alertmanager.times import SECOND, format_time
from tests.alertmanager.conftest import Alertmanager, Start, Webhook
from tests.peers.programs import free_port, program

REAL_TIME = True
pytestmark = pytest.mark.peers
CONFIG = """
route:
  receiver: hook
  group_by: [alertname, cluster]
  group_wait: 1s
  group_interval: 4s
  repeat_interval: 1h
  routes:
  - matchers: [severity="critical", team=~"a|b"]
    receiver: critical.team+x
    continue: true
    group_by: [...]
  - match: {severity: critical}
    receiver: hook
receivers:
- name: hook
  webhook_configs: [{url: "$HOOK"}]
- name: critical.team+x
  webhook_configs: [{url: "$HOOK", max_alerts: 1}]
inhibit_rules:
- source_matchers: [alertname=Down]
  target_matchers: [alertname=Slow]
  equal: [cluster]
"""


# Its webhook's URL is hidden in a form that amtool reads; nothing is sent there within the test.
AMTOOL_CONFIG = """
route:
  receiver: slack
  group_by: [alertname]
  group_wait: 1h
  routes:
  - matchers: [severity="critical", team=~"a|b"]
    receiver: critical.team+x
    continue: true
  - match: {severity: critical}
    receiver: slack
receivers:
- name: slack
  slack_configs: [{api_url: "https://hooks.slack.com/services/T0/B0/secret"}]
- name: critical.team+x
"""


class WallClock:
    """The machine's own."""

    def now(self) -> int:
        return time.time_ns()


async def wait_until(condition: Callable[[], Any], message: str, *, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another program's doing
            await asyncio.sleep(0.05)
    assert condition(), message


@contextlib.asynccontextmanager
async def process(*command: str | Path, cwd: Path, ready: str) -> AsyncIterator[None]:
    """A program that runs inside the block, from when `ready` answers 200."""
    with (cwd / f"{Path(command[0]).name}.log").open("wb") as out:
        started = await asyncio.create_subprocess_exec(*map(str, command), cwd=cwd, stdout=out, stderr=out)
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(ready) as response:
                        if response.status == 200:
                            break
                assert started.returncode is None, (cwd / f"{Path(command[0]).name}.log").read_text()
                await asyncio.sleep(0.1)
        yield
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
        await started.wait()


async def amtool(url: str, *args: str, home: Path) -> str:
    """What amtool prints."""
    started = await asyncio.create_subprocess_exec(
        program("amtool"),
        f"--alertmanager.url={url}",
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"HOME": str(home)},
    )
    out, error = await started.communicate()
    assert started.returncode == 0, error.decode()
    return out.decode()


async def test_amtool_adds_and_queries_alerts_and_silences(start: Start, tmp_path: Path) -> None:
    async with start(AMTOOL_CONFIG, clock=WallClock()) as ours:

        async def run(*args: str) -> str:
            return await amtool(ours.url, *args, home=tmp_path)

        await run("alert", "add", "alertname=Slow", "cluster=a", "--annotation=summary=too slow")
        assert "Slow" in await run("alert", "query", "alertname=Slow")
        (shown,) = json.loads(await run("-o", "json", "alert", "query"))
        assert shown["annotations"] == {"summary": "too slow"}
        key = (await run("silence", "add", "alertname=~Sl.*", "cluster=a", "-a", "me", "-c", "enough")).strip()
        assert key in await run("silence", "query")
        assert "Slow" not in await run("alert", "query", "alertname=Slow")
        assert "Slow" in await run("alert", "query", "--silenced", "alertname=Slow")
        await run("silence", "expire", key)
        assert key not in await run("silence", "query")
        assert key in await run("silence", "query", "--expired")
        assert "Slow" in await run("alert", "query", "alertname=Slow")
        routed = await run("config", "routes", "test", "severity=critical", "team=a")
        assert routed.strip() == "critical.team+x,slack"
        shown_config = await run("config", "show")
        assert "group_wait: 1h" in shown_config
        assert "B0/secret" not in shown_config


async def test_prometheus_sends_its_alerts_to_ours(start: Start, tmp_path: Path, webhook: Webhook) -> None:
    port = free_port()
    async with start(CONFIG, clock=WallClock()) as ours:
        folder = tmp_path / "prometheus"
        folder.mkdir()
        rules = {
            "groups": [
                {
                    "name": "g",
                    "interval": "1s",
                    "rules": [
                        {
                            "alert": "Always",
                            "expr": "vector(1) > 0",
                            "labels": {"severity": "info"},
                            "annotations": {"summary": "value {{ $value }}"},
                        }
                    ],
                }
            ]
        }
        (folder / "rules.yml").write_text(json.dumps(rules))
        config = {
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ours.url.removeprefix("http://")]}]}]},
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = [program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--rules.alert.resend-delay=1s"]
        async with process(*command, cwd=folder, ready=f"http://127.0.0.1:{port}/-/ready"):
            await wait_until(lambda: webhook.payloads, "the alert arrives")
    (alert,) = webhook.payloads[0]["alerts"]
    assert alert["labels"] == {"alertname": "Always", "severity": "info"}
    assert alert["annotations"] == {"summary": "value 1"}
    assert alert["generatorURL"].endswith(f":{port}/graph?g0.expr=vector%281%29+%3E+0&g0.tab=1")


def comparable(payloads: list[dict[str, Any]]) -> list[str]:
    """Without what Alertmanager 0.25 does not have, or names after its own address; in a fixed order."""
    newer = {"notification_reason", "routeLabels", "externalURL"}
    return sorted(json.dumps({k: v for k, v in one.items() if k not in newer}, sort_keys=True) for one in payloads)


async def test_alertmanager_tells_a_webhook_the_same(
    start: Start, tmp_path: Path, webhook: Webhook, other_webhook: Webhook
) -> None:
    async def both_told(count: int) -> None:
        hooks = (webhook, other_webhook)
        await wait_until(lambda: all(len(hook.payloads) >= count for hook in hooks), f"{count} payloads")

    port = free_port()
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(CONFIG.replace("$HOOK", other_webhook.url))
    command = [program("prometheus-alertmanager"), "--config.file=alertmanager.yml", "--storage.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    async with (
        start(CONFIG, clock=WallClock()) as ours,
        process(*command, cwd=folder, ready=f"http://127.0.0.1:{port}/-/ready"),
    ):
        both = [ours, Alertmanager(f"http://127.0.0.1:{port}", ours.session, ours.clock)]
        now = ours.clock.now() // SECOND * SECOND
        alerts = [
            ({"alertname": "Slow", "cluster": "a", "pod": "p1"}, 0, 600),
            ({"alertname": "Slow", "cluster": "b", "pod": "p2", "job": "x"}, 0, 600),
            ({"alertname": "Slow", "cluster": "b", "pod": "p1", "job": "x"}, 0, 600),
            ({"alertname": "Down", "cluster": "a", "severity": "critical", "team": "a"}, 0, 600),
            ({"alertname": 'Quo"ted\n\\', "team": "b", "severity": "critical"}, 0, 600),
            ({"alertname": "Blip", "cluster": "a"}, -60, -30),
        ]
        posted = [
            {
                "labels": labels,
                "annotations": {"summary": f"about {labels['alertname']}", "same": "everywhere"},
                "startsAt": format_time(now + begin * SECOND + 123_456_789),
                "endsAt": format_time(now + end * SECOND),
                "generatorURL": "http://prometheus.example/graph?g0.expr=a%3Eb",
            }
            for labels, begin, end in alerts
        ]
        for one in both:
            await one.post("/api/v2/alerts", posted)
        # Slow in b, Down and the quoted one at two receivers each; Slow in a is inhibited, Blip is over.
        await both_told(5)
        shown = [await one.get("/api/v2/alerts") for one in both]
        for alert in (alert for list_ in shown for alert in list_):
            del alert["updatedAt"]
            alert["receivers"].sort(key=lambda receiver: receiver["name"])
        # 0.25 has no mutedBy.
        for alert in shown[0]:
            assert alert["status"].pop("mutedBy") == []
        assert shown[0] == shown[1]
        groups = [await one.get("/api/v2/alerts/groups") for one in both]
        keys = [[(g["labels"], g["receiver"]["name"], len(g["alerts"])) for g in one] for one in groups]
        assert keys[0] == keys[1]
        # The ends, in the past by now: one that was told, one that was inhibited until now.
        await asyncio.sleep(2)
        for one in both:
            for alert in posted[:1] + posted[3:4]:
                await one.post("/api/v2/alerts", [alert | {"endsAt": format_time(now + 2 * SECOND)}])
        # The end of Down at two receivers; nobody had heard of Slow in a.
        await both_told(7)
        await asyncio.sleep(4)
    assert comparable(webhook.payloads) == comparable(other_webhook.payloads)
    assert len(webhook.payloads) == 7
