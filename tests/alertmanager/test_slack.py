"""Messages to Slack: within its limits whatever alerts hold, readable, and sent as Slack wants it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bellbuoy.alertmanager.alerts import Alert
from bellbuoy.alertmanager.config import SlackConfig
from bellbuoy.alertmanager.notification import Notification
from bellbuoy.alertmanager.slack import MESSAGE_LIMIT, build_message, render_text
from tests.alertmanager.conftest import START, Start
from tests.slack_server import InvalidError, SlackServer, check_message, running

SECOND = 10**9
CONFIG = """
route: {receiver: slack, group_by: [alertname], group_wait: 10s, group_interval: 5m}
receivers:
- name: slack
  slack_configs: [{api_url: "$SLACK", send_resolved: true}]
"""


def notify(
    *alerts: Alert, group_labels: Mapping[str, str] | None = None, external_url: str = "http://bell.example:9093"
) -> Notification:
    return Notification(
        receiver="slack",
        group_key="{}:{}",
        group_labels=group_labels or {},
        route_labels={},
        alerts=alerts,
        external_url=external_url,
        reason="first notification",
        moment=START,
    )


def alert(
    name: str = "Slow",
    *,
    ended: bool = False,
    annotations: Mapping[str, str] | None = None,
    url: str = "",
    **labels: str,
) -> Alert:
    return Alert(
        labels={"alertname": name, **labels},
        annotations=annotations or {},
        starts_at=START - 300 * SECOND,
        ends_at=START - SECOND if ended else 0,
        updated_at=START,
        generator_url=url,
    )


def test_a_firing_message_has_what_a_reader_needs() -> None:
    texts = {
        "summary": "Checkout is slow",
        "description": "p99 is 2.3s > 1s & rising",
        "runbook_url": "https://runbooks.example/slow",
    }
    graph = "http://prometheus.example/graph?g0.expr=up"
    message = build_message(
        notify(
            alert(severity="critical", service="checkout", pod="a", annotations=texts, url=graph),
            alert(severity="critical", service="checkout", pod="b", annotations=texts, url=graph),
            group_labels={"alertname": "Slow"},
        )
    )
    check_message(message)
    header, section, actions = message["blocks"]
    assert header["text"]["text"] == "🔴 Slow: 2 firing"
    assert section["text"]["text"] == "*Checkout is slow*\np99 is 2.3s &gt; 1s &amp; rising"
    assert [field["text"] for field in section["fields"]] == ["*severity*\ncritical", "*service*\ncheckout"]
    buttons = {button["text"]["text"]: button["url"] for button in actions["elements"]}
    assert buttons["Runbook"] == "https://runbooks.example/slow"
    assert buttons["Graph"] == graph
    assert buttons["Silence"].startswith("http://bell.example:9093/silences/new?filter=%7Balertname%3D%22Slow%22")
    (attachment,) = message["attachments"]
    assert attachment["color"] == "#d50000"
    assert [block["text"]["text"].splitlines()[0] for block in attachment["blocks"]] == ["`pod=a`", "`pod=b`"]
    assert message["text"] == "🔴 Slow: 2 firing: *Checkout is slow*\np99 is 2.3s &gt; 1s &amp; rising"


def test_firing_and_resolved_are_told_apart() -> None:
    message = build_message(notify(alert(pod="a"), alert(pod="b", ended=True)))
    assert message["blocks"][0]["text"]["text"] == "🟠 Slow: 1 firing, 1 resolved"
    assert [attachment["color"] for attachment in message["attachments"]] == ["#f2a600", "#2eb67d"]
    assert "after 4m59s" in message["attachments"][1]["blocks"][0]["text"]["text"]
    done = build_message(notify(alert(ended=True)))
    assert done["blocks"][0]["text"]["text"] == "🟢 Slow resolved"
    assert [attachment["color"] for attachment in done["attachments"]] == ["#2eb67d"]


def test_what_does_not_fit_is_counted() -> None:
    many = [alert(pod=f"pod-{n}", annotations={"description": "x" * 400 + str(n)}) for n in range(120)]
    ended = [alert(pod=f"gone-{n}", ended=True) for n in range(7)]
    message = build_message(notify(*many, *ended))
    check_message(message)
    blocks = message["attachments"][0]["blocks"]
    shown = len(blocks) - 1
    assert 10 <= shown <= 20
    assert blocks[-1]["elements"][0]["text"] == f"… and {127 - shown} more: {120 - shown} firing, 7 resolved"


def test_links_that_no_browser_opens_become_no_buttons() -> None:
    bad = [
        "javascript:alert(1)",
        "/graph",
        "http://",
        "https://ex ample",
        "http://x/<y>",
        "http://[::1",
        "http://x/" + "y" * 4000,
    ]
    for url in bad:
        message = build_message(notify(alert(url=url, annotations={"runbook_url": url}), external_url=""))
        assert [block["type"] for block in message["blocks"]] == ["header"], url
        check_message(message)


def test_a_receivers_own_title_and_text_take_their_place() -> None:
    config = SlackConfig.model_validate(
        {"title": "{{ .Status | toUpper }} {{ .CommonLabels.service }}", "text": "<{{ .CommonAnnotations.note }}>"}
    )
    message = build_message(notify(alert(service="api", annotations={"note": "a & b"})), config)
    assert message["blocks"][0]["text"]["text"] == "FIRING api"
    assert message["blocks"][1]["text"]["text"] == "&lt;a &amp; b&gt;"


def test_the_terminal_shows_it_as_slack_would() -> None:
    message = build_message(
        notify(
            alert(severity="warning", pod="a", annotations={"summary": "A < B"}, url="http://p.example/g"),
            external_url="",
        )
    )
    assert render_text(message) == (
        "🟠 Slow firing\n"
        "──────────────\n"
        "A < B\n"
        "  severity  warning\n"
        "  pod       a\n"
        "  [Graph] http://p.example/g\n"
        "┃ firing since 2026-01-05 11:55:00 UTC"
    )


NAMES = st.text(min_size=1, max_size=40)
TEXTS = st.one_of(
    st.text(max_size=300),
    st.sampled_from(["&" * 3500, "<" * 3001, '"\\' * 2000, "é" * 5000, "💥" * 3000, "\x00" * 900]),
)
URLS = st.one_of(TEXTS, st.builds(lambda t: f"https://x.example/{t}", TEXTS))
ALERTS = st.builds(
    lambda name, labels, annotations, url, runbook, ended: Alert(
        labels=labels | {"alertname": name},
        annotations=annotations | {"runbook_url": runbook},
        starts_at=START - 10 * SECOND,
        ends_at=START if ended else 0,
        updated_at=START,
        generator_url=url,
    ),
    TEXTS,
    st.dictionaries(NAMES, TEXTS, max_size=14),
    st.dictionaries(st.one_of(NAMES, st.sampled_from(["summary", "description"])), TEXTS, max_size=5),
    URLS,
    URLS,
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ALERTS, min_size=1, max_size=30), URLS, st.dictionaries(NAMES, TEXTS, max_size=3))
def test_any_alerts_make_a_message_that_slack_takes(
    alerts: list[Alert], url: str, group_labels: dict[str, str]
) -> None:
    message = build_message(notify(*alerts, external_url=url, group_labels=group_labels))
    check_message(message)
    assert len(json.dumps(message, ensure_ascii=False)) <= MESSAGE_LIMIT + 500
    assert render_text(message)


def test_the_test_server_refuses_what_slack_refuses() -> None:
    def refuse(message: Any, want: str) -> None:
        with pytest.raises(InvalidError, match=want):
            check_message(message)

    text = {"type": "mrkdwn", "text": "x"}
    refuse({}, "no_text")
    refuse({"text": "x", "txet": "y"}, "unknown keys txet")
    refuse({"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "150")
    refuse({"blocks": [{"type": "header", "text": text}]}, "plain_text")
    refuse({"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]}, "3000")
    refuse({"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "a < b"}}]}, "must be escaped")
    refuse({"blocks": [{"type": "section", "text": text, "fields": [text] * 11}]}, "10")
    refuse({"blocks": [{"type": "divider"}] * 51}, "51 blocks")
    refuse({"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 2900}}] * 5}, "msg_blocks_too_long")
    refuse({"text": "x", "attachments": [{"color": "reddish"}]}, "color")


@contextlib.asynccontextmanager
async def slack(start: Start, config: str = CONFIG) -> AsyncIterator[tuple[SlackServer, Any]]:
    async with running() as server, start(config.replace("$SLACK", server.url)) as alertmanager:
        yield server, alertmanager


async def test_slack_gets_one_message_when_it_fires_and_one_when_it_ends(start: Start) -> None:
    async with slack(start) as (server, alertmanager):
        await alertmanager.fire("Slow", ends_in=3600, annotations={"summary": "Too slow"})
        await asyncio.sleep(60)
        await alertmanager.resolve("Slow")
        await asyncio.sleep(600)
        assert [message["blocks"][0]["text"]["text"] for message in server.messages] == [
            "🟠 Slow firing",
            "🟢 Slow resolved",
        ]
        assert server.refused == []


async def test_rate_limits_are_heeded(start: Start) -> None:
    async with slack(start) as (server, alertmanager):
        server.answers = [{"status": 429, "text": "rate_limited", "retry_after": 90}]
        await alertmanager.fire("Slow", ends_in=3600)
        await asyncio.sleep(95)
        assert server.messages == []
        await asyncio.sleep(15)
        assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("status", "text", "cure"),
    [
        (404, "no_service", "make a new one and put its URL into api_url"),
        (410, "channel_is_archived", "unarchive the channel"),
        (400, "invalid_payload", "report it with the alert's labels"),
        (403, "action_prohibited", "ask the workspace's admin"),
        (200, '{"ok":false,"error":"channel_not_found"}', "make a new webhook for a channel that exists"),
    ],
)
async def test_a_permanent_error_is_told_with_its_cure_and_not_pressed(
    start: Start, status: int, text: str, cure: str
) -> None:
    async with slack(start) as (server, alertmanager):
        server.answers = [{"status": status, "text": text}]
        await alertmanager.fire("Slow", ends_in=3600)
        await asyncio.sleep(200)
        assert server.messages == []
        (tally,) = await alertmanager.get("/api/v1/bellbuoy/receivers")
        assert cure in tally["lastError"]
        assert tally["failures"] == 1


async def test_a_slack_that_is_away_is_tried_again_within_bounds_and_its_url_stays_secret(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG.replace("$SLACK", "http://127.0.0.1:1/services/T0/B0/secret")
    async with start(config) as alertmanager:
        await alertmanager.fire("Slow", ends_in=3600)
        await asyncio.sleep(400)
        (tally,) = await alertmanager.get("/api/v1/bellbuoy/receivers")
        assert tally["lastError"].startswith("gave up after ")
        assert "secret/" not in caplog.text
        assert "B0/secret" not in caplog.text + json.dumps(tally)
        assert "B0/secret" not in (await alertmanager.get("/api/v2/status"))["config"]["original"]


async def test_the_url_may_lie_in_a_file_that_comes_later(start: Start, tmp_path: Any) -> None:
    config = CONFIG.replace('api_url: "$SLACK"', "api_url_file: webhook-url")
    async with running() as server, start(config) as alertmanager:
        await alertmanager.fire("Slow", ends_in=3600)
        await asyncio.sleep(30)
        (tmp_path / "webhook-url").write_text(server.url + "\n")
        await asyncio.sleep(120)
        assert len(server.messages) == 1


async def test_without_a_webhook_the_message_is_printed(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    config = "route: {receiver: print, group_wait: 1s}\nreceivers: [{name: print, print_configs: [{}]}]\n"
    async with start(config) as alertmanager:
        await alertmanager.fire("Slow", ends_in=3600, annotations={"summary": "Too slow"})
        await asyncio.sleep(5)
    assert "🟠 Slow firing\n" in capsys.readouterr().out
