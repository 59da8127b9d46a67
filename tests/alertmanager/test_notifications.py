"""When a group tells its receiver, and of what: waits, resolve, repeat, inhibition, silences, mutes, failures."""

import asyncio
from typing import Any

import pytest

from tests.alertmanager.conftest import START, LoopClock, Start, Webhook

CONFIG = """
route:
  receiver: hook
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
receivers:
- name: hook
  webhook_configs: [{url: "$HOOK"}]
"""
MINUTE, HOUR = 60.0, 3600.0


async def test_a_group_waits_for_company_and_tells_all_at_once(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        began = asyncio.get_running_loop().time()
        await alertmanager.fire("Slow", ends_in=HOUR, pod="a")
        await asyncio.sleep(20)
        await alertmanager.fire("Slow", ends_in=HOUR, pod="b")
        await asyncio.sleep(5)
        assert webhook.told == []
        await asyncio.sleep(10)
        assert webhook.told == [("firing", ["Slow:firing", "Slow:firing"])]
        assert webhook.times[0] - began == pytest.approx(30, abs=0.5)


async def test_what_joins_later_is_told_at_the_group_interval(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR, pod="a")
        await asyncio.sleep(31)
        await alertmanager.fire("Slow", ends_in=HOUR, pod="b")
        await asyncio.sleep(4 * MINUTE)
        assert len(webhook.told) == 1
        await asyncio.sleep(2 * MINUTE)
        assert len(webhook.told) == 2
        assert len(webhook.told[1][1]) == 2
        assert webhook.times[1] - webhook.times[0] == pytest.approx(300, abs=0.5)


async def test_nothing_new_is_not_told_until_the_repeat_interval(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=24 * HOUR)
        await asyncio.sleep(3.9 * HOUR)
        assert len(webhook.told) == 1
        await asyncio.sleep(0.3 * HOUR)
        assert len(webhook.told) == 2
        assert webhook.payloads[1]["notification_reason"] == "repeat interval elapsed"


async def test_an_end_is_told_once_and_the_group_goes(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await asyncio.sleep(MINUTE)
        await alertmanager.resolve("Slow")
        await asyncio.sleep(10 * MINUTE)
        assert webhook.told == [("firing", ["Slow:firing"]), ("resolved", ["Slow:resolved"])]
        await asyncio.sleep(6 * HOUR)
        assert len(webhook.told) == 2
        assert await alertmanager.get("/api/v2/alerts/groups") == []


async def test_an_alert_that_is_no_longer_sent_ends_after_the_resolve_timeout(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG + "global: {resolve_timeout: 10m}\n") as alertmanager:
        await alertmanager.fire("Slow")
        await asyncio.sleep(9 * MINUTE)
        assert [status for status, _ in webhook.told] == ["firing"]
        await asyncio.sleep(7 * MINUTE)
        assert [status for status, _ in webhook.told] == ["firing", "resolved"]


async def test_an_alert_that_ends_within_the_wait_is_never_told(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Blip", ends_in=10)
        await asyncio.sleep(HOUR)
        assert webhook.told == []


async def test_an_alert_that_fires_again_is_told_again(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        for _ in range(2):
            await alertmanager.fire("Slow", ends_in=HOUR)
            await asyncio.sleep(MINUTE)
            await alertmanager.resolve("Slow")
            await asyncio.sleep(10 * MINUTE)
        assert [status for status, _ in webhook.told] == ["firing", "resolved"] * 2


async def test_a_silenced_alert_is_not_told_until_the_silence_ends(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        key = await alertmanager.silence(alertname="Slow", seconds=HOUR)
        await alertmanager.fire("Slow", ends_in=5 * HOUR)
        await alertmanager.fire("Other", ends_in=5 * HOUR)
        await asyncio.sleep(0.9 * HOUR)
        assert [names for _, names in webhook.told] == [["Other:firing"]]
        (shown,) = await alertmanager.get("/api/v2/alerts", filter='alertname="Slow"')
        assert shown["status"] == {"state": "suppressed", "silencedBy": [key], "inhibitedBy": [], "mutedBy": []}
        await asyncio.sleep(0.2 * HOUR)
        assert [names for _, names in webhook.told] == [["Other:firing"], ["Slow:firing"]]


async def test_an_alert_that_ended_silenced_is_news_when_it_fires_again(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await alertmanager.fire("Slow", ends_in=HOUR, pod="b")
        await asyncio.sleep(MINUTE)
        await alertmanager.silence(alertname="Slow", pod="b", seconds=600)
        await alertmanager.resolve("Slow", pod="b")
        await asyncio.sleep(15 * MINUTE)
        assert len(webhook.told) == 1
        await alertmanager.fire("Slow", ends_in=HOUR, pod="b")
        await asyncio.sleep(6 * MINUTE)
        assert webhook.told[1:] == [("firing", ["Slow:firing", "Slow:firing"])]


async def test_an_inhibited_alert_is_not_told_while_its_source_fires(start: Start, webhook: Webhook) -> None:
    rules = """
inhibit_rules:
- source_matchers: [severity="critical"]
  target_matchers: [severity=~"warning|info"]
  equal: [cluster]
"""
    async with start(CONFIG + rules) as alertmanager:
        await alertmanager.fire("Down", ends_in=HOUR, severity="critical", cluster="a")
        await alertmanager.fire("Slow", ends_in=5 * HOUR, severity="warning", cluster="a")
        await alertmanager.fire("Full", ends_in=5 * HOUR, severity="warning", cluster="b")
        await asyncio.sleep(10 * MINUTE)
        assert sorted(names[0] for _, names in webhook.told) == ["Down:firing", "Full:firing"]
        (slow,) = await alertmanager.get("/api/v2/alerts", filter="alertname=Slow")
        (down,) = await alertmanager.get("/api/v2/alerts", filter="alertname=Down")
        assert slow["status"]["inhibitedBy"] == [down["fingerprint"]]
        await asyncio.sleep(HOUR)
        assert "Slow:firing" in [name for _, names in webhook.told for name in names]


async def test_alerts_that_are_source_and_target_do_not_silence_each_other(start: Start, webhook: Webhook) -> None:
    rules = "inhibit_rules: [{source_matchers: [cluster=a], target_matchers: [cluster=a]}]\n"
    async with start(CONFIG + rules) as alertmanager:
        await alertmanager.fire("One", ends_in=HOUR, cluster="a")
        await alertmanager.fire("Two", ends_in=HOUR, cluster="a")
        await asyncio.sleep(MINUTE)
        assert sorted(names[0] for _, names in webhook.told) == ["One:firing", "Two:firing"]


@pytest.mark.parametrize(
    ("route", "hours_quiet"),
    [
        ("mute_time_intervals: [lunch]", 1.0),
        ("active_time_intervals: [evening]", 6.0),
    ],
)
async def test_a_muted_route_tells_when_its_time_has_come(
    start: Start, webhook: Webhook, route: str, hours_quiet: float
) -> None:
    config = CONFIG.replace("  repeat_interval: 4h", f"  repeat_interval: 100h\n  routes: [{{{route}}}]")
    config = config.replace("{mute", "{matchers: [alertname=Slow], mute").replace(
        "{active", "{matchers: [alertname=Slow], active"
    )
    config += """
time_intervals:
- name: lunch
  time_intervals: [{times: [{start_time: "12:00", end_time: "13:00"}], weekdays: ["monday:friday"]}]
- name: evening
  time_intervals: [{times: [{start_time: "18:00", end_time: "24:00"}]}]
"""
    async with start(config) as alertmanager:
        await alertmanager.fire("Slow", ends_in=20 * HOUR)
        await asyncio.sleep((hours_quiet - 0.1) * HOUR)
        assert webhook.told == []
        (group,) = await alertmanager.get("/api/v2/alerts/groups")
        assert group["alerts"][0]["status"]["state"] == "suppressed"
        assert len(group["alerts"][0]["status"]["mutedBy"]) == 1
        assert await alertmanager.get("/api/v2/alerts/groups", muted="false") == []
        await asyncio.sleep(0.3 * HOUR)
        assert webhook.told == [("firing", ["Slow:firing"])]


async def test_a_failing_webhook_is_tried_again_and_hears_each_thing_once(start: Start, webhook: Webhook) -> None:
    webhook.answers = [503, 500, 429]
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await asyncio.sleep(4 * MINUTE)
        assert webhook.told == [("firing", ["Slow:firing"])]
        (tally,) = await alertmanager.get("/api/v1/bellbuoy/receivers")
        assert tally["notifications"] == 1
        assert tally["failures"] == 0


async def test_a_webhook_that_refuses_is_not_pressed_but_asked_again_at_the_next_interval(
    start: Start, webhook: Webhook
) -> None:
    webhook.answers = [400, 200]
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await asyncio.sleep(2 * MINUTE)
        assert webhook.told == []
        (tally,) = await alertmanager.get("/api/v1/bellbuoy/receivers")
        assert tally["failures"] == 1
        assert "answered 400: not now; see that its URL is right" in tally["lastError"]
        await asyncio.sleep(5 * MINUTE)
        assert webhook.told == [("firing", ["Slow:firing"])]
        (tally,) = await alertmanager.get("/api/v1/bellbuoy/receivers")
        assert tally["lastError"] == ""


async def test_the_end_of_an_alert_is_not_lost_while_the_webhook_fails(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await asyncio.sleep(MINUTE)
        await alertmanager.resolve("Slow")
        webhook.answers = [400, 400, 400]
        await asyncio.sleep(25 * MINUTE)
        assert webhook.told == [("firing", ["Slow:firing"]), ("resolved", ["Slow:resolved"])]


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=10 * HOUR)
        await alertmanager.silence(alertname="Quiet")
        await alertmanager.fire("Quiet", ends_in=10 * HOUR)
        await asyncio.sleep(MINUTE)
        clock = alertmanager.clock
    async with start(CONFIG, clock=clock) as alertmanager:
        await asyncio.sleep(10 * MINUTE)
        assert webhook.told == [("firing", ["Slow:firing"])]
        assert [one["labels"]["alertname"] for one in await alertmanager.get("/api/v2/alerts", silenced="false")] == [
            "Slow"
        ]
        (tally,) = await alertmanager.get("/api/v1/bellbuoy/receivers")
        assert tally["notifications"] == 1
        assert tally["lastNotification"].startswith("2026-01-05T12:00:3")
        await alertmanager.resolve("Slow")
    async with start(CONFIG, clock=clock):
        await asyncio.sleep(10 * MINUTE)
        assert webhook.told[1:] == [("resolved", ["Slow:resolved"])]


async def test_an_alert_that_ended_while_we_were_away_is_told_as_ended(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await asyncio.sleep(MINUTE)
    async with start(CONFIG, clock=LoopClock(start=START + 5 * 3600 * 10**9)):
        await asyncio.sleep(MINUTE)
        assert webhook.told == [("firing", ["Slow:firing"]), ("resolved", ["Slow:resolved"])]


async def test_a_new_configuration_takes_over_the_alerts_and_tells_only_new_receivers(
    start: Start, webhook: Webhook, tmp_path: Any
) -> None:
    async with start(CONFIG) as alertmanager:
        await alertmanager.fire("Slow", ends_in=HOUR)
        await asyncio.sleep(MINUTE)
        await alertmanager.session.post(f"{alertmanager.url}/-/reload")
        await asyncio.sleep(10 * MINUTE)
        assert len(webhook.told) == 1
        path = tmp_path / "alertmanager.yml"
        path.write_text(path.read_text().replace("hook\n", "other\n"))
        await alertmanager.session.post(f"{alertmanager.url}/-/reload")
        await asyncio.sleep(10 * MINUTE)
        assert [payload["receiver"] for payload in webhook.payloads] == ["hook", "other"]
        path.write_text("route: {receiver: nobody}\nreceivers: []\n")
        answer = await alertmanager.session.post(f"{alertmanager.url}/-/reload")
        assert answer.status == 400
        assert 'route.receiver: "nobody" is not among receivers' in await answer.text()
        assert [one["name"] for one in await alertmanager.get("/api/v2/receivers")] == ["other"]


async def test_max_alerts_says_how_many_were_left_out(start: Start, webhook: Webhook) -> None:
    async with start(CONFIG.replace('{url: "$HOOK"}', '{url: "$HOOK", max_alerts: 2}')) as alertmanager:
        for pod in "abcde":
            await alertmanager.fire("Slow", ends_in=HOUR, pod=pod)
        await asyncio.sleep(MINUTE)
        assert len(webhook.payloads[0]["alerts"]) == 2
        assert webhook.payloads[0]["truncatedAlerts"] == 3
