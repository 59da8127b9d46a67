"""Slack by incoming webhook: a notification as blocks within Slack's limits, sent, and printed as Slack would show it.

A header says what and how many; a section what all alerts share; buttons lead to the runbook, the graph and a
silence. The alerts follow in two attachments, since only attachments have a colour: firing in that of the severity,
resolved in green. What does not fit is counted at the end. Facts of the limits: docs/alertmanager.md.
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from bellbuoy.alertmanager.alerts import ALERT_NAME, Alert
from bellbuoy.alertmanager.config import HttpConfig, SlackConfig
from bellbuoy.alertmanager.matchers import selector
from bellbuoy.alertmanager.notification import Notification
from bellbuoy.alertmanager.senders import HttpClient, PermanentError, TemporaryError, read_url, retry_after
from bellbuoy.alertmanager.template import fill
from bellbuoy.alertmanager.times import SECOND, to_datetime
from bellbuoy.durations import format_duration

# Slack's limits, in characters. The last is not documented: messages near 13,200 are refused as too long.
HEADER_LIMIT = 150
SECTION_LIMIT = 3000
BUTTON_LIMIT = 75
URL_LIMIT = 3000
MESSAGE_LIMIT = 12_000
# Ours, for a message that can be read: of alerts, fields, and characters of each part.
ALERTS_SHOWN = 20
FIELDS_SHOWN = 10
FIELD_CHARACTERS = 160
SUMMARY_CHARACTERS = 1200
ALERT_CHARACTERS = 500
LINK_CHARACTERS = 900

COLOURS = {"critical": "#d50000", "page": "#d50000", "error": "#d50000", "info": "#439fe0"}
FIRING_COLOUR, RESOLVED_COLOUR = "#f2a600", "#2eb67d"
_SHOWN_ELSEWHERE = {ALERT_NAME, "summary", "description", "message", "runbook_url", "runbook", "dashboard_url"}
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")

_CURES = {
    "invalid_payload": "Slack refused the message's form; report it with the alert's labels",
    "invalid_blocks": "Slack refused the message's blocks; report it with the alert's labels",
    "no_text": "give the receiver a text",
    "user_not_found": "set channel to a user or channel that exists, or leave it out",
    "channel_not_found": "make a new webhook for a channel that exists and put its URL into api_url",
    "channel_is_archived": "unarchive the channel, or make a webhook for another one",
    "action_prohibited": "ask the workspace's admin to allow the webhook's app to post there",
    "posting_to_general_channel_denied": "make a webhook for a channel other than the general one",
    "no_service": "the webhook was removed or switched off; make a new one and put its URL into api_url",
    "no_active_hooks": "the webhook was switched off; make a new one and put its URL into api_url",
    "no_team": "the URL's workspace is wrong; copy the webhook's URL again",
    "team_disabled": "the workspace is not active any more; make a webhook in another one",
    "invalid_token": "the URL is not complete; copy the webhook's URL again",
}


class SlackSender:
    """Posts to a webhook. Heeds `Retry-After`; tells a permanent error with its cure."""

    kind = "slack"

    def __init__(self, config: SlackConfig, *, http: HttpConfig, index: int = 0) -> None:
        self._config, self.index, self.send_resolved = config, index, config.send_resolved
        self._http = HttpClient(config.http_config or http)

    async def send(self, notification: Notification) -> None:
        """Try once."""
        url = read_url(self._config.api_url, self._config.api_url_file, field="api_url_file")
        body = orjson.dumps(build_message(notification, self._config))
        status, headers, text = await self._http.post(url, body, timeout_seconds=self._config.timeout)
        if status == 200 and (text == "ok" or _says_ok(text)):
            return
        if status == 429 or status >= 500:
            raise TemporaryError(f"Slack answered {status}: {text[:200]}", wait_seconds=retry_after(headers))
        error = _error_of(text)
        cure = _CURES.get(error, "see that api_url is the whole URL of an incoming webhook")
        raise PermanentError(f"Slack answered {status}: {error[:200]}; {cure}")


def build_message(notification: Notification, config: SlackConfig | None = None) -> dict[str, Any]:
    """The payload of a webhook, with as many alerts as fit."""
    config = config or SlackConfig()
    most = min(len(notification.alerts), ALERTS_SHOWN)
    for shown in range(most, -1, -1):
        message = _message(notification, config, shown)
        if len(orjson.dumps(message).decode()) <= MESSAGE_LIMIT:
            return message
    raise PermanentError(f"BUG: the message has more than {MESSAGE_LIMIT} characters without any alert")


def _message(notification: Notification, config: SlackConfig, shown: int) -> dict[str, Any]:
    title = _title(notification, config)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(title, HEADER_LIMIT), "emoji": True}}
    ]
    summary = _summary(notification, config)
    fields = _fields(notification)
    if summary or fields:
        section: dict[str, Any] = {"type": "section"}
        if summary:
            section["text"] = _mrkdwn(summary)
        if fields:
            section["fields"] = fields
        blocks.append(section)
    buttons = _buttons(notification)
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    firing = notification.firing[:shown]
    resolved = notification.resolved[: shown - len(firing)]
    attachments = []
    if firing:
        colour = COLOURS.get(notification.common_labels.get("severity", ""), FIRING_COLOUR)
        attachments.append(_attachment(notification, firing, colour))
    if resolved:
        attachments.append(_attachment(notification, resolved, RESOLVED_COLOUR))
    more = _more(len(notification.firing) - len(firing), len(notification.resolved) - len(resolved))
    if more:
        last = attachments[-1]["blocks"] if attachments else blocks
        last.append({"type": "context", "elements": [_mrkdwn(more)]})
    fallback = title + (f": {summary}" if summary and not config.title else "")
    message: dict[str, Any] = {"text": _escape_cut(_plain(fallback), 300), "blocks": blocks}
    if attachments:
        message["attachments"] = attachments
    for key in ("channel", "username", "icon_emoji", "icon_url"):
        if getattr(config, key):
            message[key] = _cut(getattr(config, key), 200)
    return message


def _title(notification: Notification, config: SlackConfig) -> str:
    if config.title:
        filled = _clean(fill(config.title, notification)).strip()
        if filled:
            return filled
    firing, resolved = len(notification.firing), len(notification.resolved)
    name = notification.common_labels.get(ALERT_NAME) or notification.group_labels.get(ALERT_NAME) or "Alerts"
    if not firing:
        return f"🟢 {_cut(_clean(name), 90)} resolved" + (f" ({resolved})" if resolved > 1 else "")
    counts = f"{firing} firing" + (f", {resolved} resolved" if resolved else "")
    sign = {"critical": "🔴", "page": "🔴", "info": "🔵"}.get(notification.common_labels.get("severity", ""), "🟠")
    return f"{sign} {_cut(_clean(name), 90)}" + (f": {counts}" if firing + resolved > 1 else " firing")


def _summary(notification: Notification, config: SlackConfig) -> str:
    """What all alerts share, as markup; a receiver's own text takes its place."""
    link = _web_url(fill(config.title_link, notification)) if config.title_link else ""
    parts = [f"<{_link(link)}|{_escape(_cut(_title(notification, config), 60))}>"] if link else []
    if config.text:
        # Escaped as a whole: what alerts put into it must not become markup.
        parts.append(_escape_cut(_clean(fill(config.text, notification)), SUMMARY_CHARACTERS))
    else:
        parts += _annotations(notification.common_annotations, SUMMARY_CHARACTERS)
    return "\n".join(part for part in parts if part)


def _annotations(annotations: Any, characters: int) -> list[str]:
    """The summary, bold, and the description below it."""
    out = []
    summary = _escape_cut(_clean(annotations.get("summary", "")).strip(), characters // 3)
    if summary:
        out.append(f"*{summary}*" if "\n" not in summary else summary)
    text = annotations.get("description") or annotations.get("message") or ""
    text = _escape_cut(_clean(text).strip(), characters * 2 // 3)
    return [*out, text] if text else out


def _fields(notification: Notification) -> list[dict[str, Any]]:
    """Labels that all alerts share, the group's own first."""
    common = {name: value for name, value in notification.common_labels.items() if name != ALERT_NAME}
    names = sorted(common, key=lambda name: (name != "severity", name not in notification.group_labels, name))
    fields = []
    for name in names[:FIELDS_SHOWN]:
        label, value = _escape_cut(_clean(name), 60), _escape_cut(_clean(common[name]), FIELD_CHARACTERS)
        fields.append(_mrkdwn(f"*{label or ' '}*\n{value or ' '}"))
    return fields


def _buttons(notification: Notification) -> list[dict[str, Any]]:
    annotations = notification.common_annotations
    alerts = notification.firing or notification.resolved
    graph = alerts[0].generator_url if alerts else ""
    links = [
        ("Runbook", annotations.get("runbook_url") or annotations.get("runbook") or ""),
        ("Dashboard", annotations.get("dashboard_url", "")),
        ("Graph", graph),
    ]
    if notification.firing and notification.external_url:
        links.append(("Silence", _silence_url(notification)))
    buttons = []
    for text, url in links:
        if usable := _web_url(url):
            buttons.append(
                {
                    "type": "button",
                    "text": {"type": "plain_text", "text": text[:BUTTON_LIMIT]},
                    "url": usable,
                    "action_id": f"open_{text.lower()}",
                }
            )
    return buttons


def _silence_url(notification: Notification) -> str:
    """The form for a silence of all these alerts, by what they share; by what groups them, where that is too long."""
    base = f"{notification.external_url.rstrip('/')}/silences/new?filter="
    whole = base + quote(selector(notification.common_labels))
    return whole if len(whole) <= LINK_CHARACTERS else base + quote(selector(notification.group_labels))


def _attachment(notification: Notification, alerts: Sequence[Alert], colour: str) -> dict[str, Any]:
    blocks = [{"type": "section", "text": _mrkdwn(_alert_text(notification, alert))} for alert in alerts]
    return {"color": colour, "fallback": f"{len(alerts)} alerts", "blocks": blocks}


def _alert_text(notification: Notification, alert: Alert) -> str:
    """One alert: what sets it apart, what it says, since when."""
    common, texts = notification.common_labels, notification.common_annotations
    own = [f"{name}={value}" for name, value in sorted(alert.labels.items()) if name not in common]
    others = {name: value for name, value in alert.annotations.items() if name not in texts}
    lines = []
    if own:
        lines.append(f"`{_escape_cut(_clean(', '.join(own)).replace('`', chr(39)), ALERT_CHARACTERS // 2)}`")
    lines += _annotations(others, ALERT_CHARACTERS)
    rest = [f"{k}: {v}" for k, v in sorted(others.items()) if k not in _SHOWN_ELSEWHERE]
    if rest:
        lines.append(_escape_cut(_clean("\n".join(rest)), ALERT_CHARACTERS // 2))
    if alert.resolved_at(notification.moment):
        lasted = format_duration(max((alert.ends_at - alert.starts_at) // SECOND, 0))
        lines.append(f"resolved {_date(alert.ends_at)}, after {lasted}")
    else:
        lines.append(f"firing since {_date(alert.starts_at)}")
    return "\n".join(lines)


def _more(firing: int, resolved: int) -> str:
    if not firing and not resolved:
        return ""
    kinds = [f"{count} {kind}" for count, kind in ((firing, "firing"), (resolved, "resolved")) if count]
    return f"… and {firing + resolved} more: {', '.join(kinds)}"


def _date(moment: int) -> str:
    """A moment that Slack shows in the reader's own time."""
    when = max(moment, 0)
    text = to_datetime(when).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"<!date^{when // SECOND}^{{date_short_pretty}} {{time_secs}}|{text}>"


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text if len(text) <= SECTION_LIMIT else text[: SECTION_LIMIT - 1] + "…"}


def _clean(text: str) -> str:
    """Without control characters: their JSON is long and Slack shows none of them."""
    return _CONTROL.sub(" ", text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escape_cut(text: str, limit: int) -> str:
    """Escaped, and no longer than the limit: an escape is never cut apart."""
    whole = _escape(text)
    if len(whole) <= limit:
        return whole
    out, length = [], 0
    for c in text:
        escaped = _escape(c)
        if length + len(escaped) > limit - 1:
            break
        out.append(escaped)
        length += len(escaped)
    return "".join(out) + "…"


def _web_url(text: str) -> str:
    """The URL if a button can open it, else nothing."""
    if not text or len(text) > LINK_CHARACTERS or not text.isprintable() or any(c in text for c in ' "<>\\'):
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return text if usable else ""


def _link(url: str) -> str:
    return _escape(url).replace("|", "%7C")


def _plain(markup: str) -> str:
    """Markup as text: links as their words, bold lines as they are, no escapes."""
    text = re.sub(r"<!date\^[^|>]*\|([^>]*)>", r"\1", markup)
    text = re.sub(r"<([^|>]+)\|([^>]*)>", r"\2", text)
    text = re.sub(r"^\*(.+)\*$", r"\1", text, flags=re.M)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _says_ok(text: str) -> bool:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and answer.get("ok") is True


def _error_of(text: str) -> str:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return str(answer.get("error", text)) if isinstance(answer, dict) else text


def render_text(payload: dict[str, Any]) -> str:
    """The message as Slack would show it, for a terminal: attachments behind a bar, buttons with their addresses."""
    lines = [line for block in payload.get("blocks", []) for line in _render_block(block)]
    for attachment in payload.get("attachments", []):
        resolved = attachment.get("color") == RESOLVED_COLOUR
        bar = "│" if resolved else "┃"
        for n, block in enumerate(attachment.get("blocks", [])):
            if n:
                lines.append(bar)
            lines += [f"{bar} {line}" for line in _render_block(block)]
    return "\n".join(lines or [_plain(payload.get("text", ""))])


def _render_block(block: dict[str, Any]) -> list[str]:
    kind = block["type"]
    if kind == "header":
        text = block["text"]["text"]
        return [text, "─" * min(len(text) + 1, 72)]
    if kind == "section":
        lines = _plain(block["text"]["text"]).splitlines() if "text" in block else []
        pairs = [_plain(field["text"]).split("\n") for field in block.get("fields", [])]
        width = max((len(name) for name, *_ in pairs), default=0)
        return lines + [f"  {name:<{width}}  {' '.join(rest)}".rstrip() for name, *rest in pairs]
    if kind == "actions":
        return [f"  [{button['text']['text']}] {button['url']}" for button in block["elements"]]
    if kind == "context":
        return [_plain(element["text"]) for element in block["elements"]]
    return []
