"""The generic webhook: Alertmanager's JSON, version 4, to any HTTP service; and the receiver that prints."""

import re
import sys
from typing import Any, TextIO

import orjson

from bellbuoy.alertmanager.config import HttpConfig, PrintConfig, WebhookConfig
from bellbuoy.alertmanager.notification import Notification
from bellbuoy.alertmanager.senders import HttpClient, PermanentError, TemporaryError, read_url, retry_after
from bellbuoy.alertmanager.slack import build_message, render_text

_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")


def webhook_payload(notification: Notification, *, max_alerts: int = 0) -> dict[str, Any]:
    """The body: the first `max_alerts` alerts (0: all), and how many were left out."""
    shown = list(notification.alerts)
    cut = max(len(shown) - max_alerts, 0) if max_alerts else 0
    part = Notification(
        receiver=notification.receiver,
        group_key=notification.group_key,
        group_labels=notification.group_labels,
        route_labels=notification.route_labels,
        alerts=shown[: len(shown) - cut],
        external_url=notification.external_url,
        reason=notification.reason,
        moment=notification.moment,
    )
    return {
        # A pattern's special characters are escaped, as Alertmanager does: readers unescape it.
        "receiver": _SPECIAL.sub(r"\\\1", part.receiver),
        "status": part.status,
        "alerts": [part.alert_to_json(alert) for alert in part.alerts],
        "notification_reason": part.reason,
        "groupLabels": dict(sorted(part.group_labels.items())),
        "commonLabels": dict(sorted(part.common_labels.items())),
        "commonAnnotations": dict(sorted(part.common_annotations.items())),
        "routeLabels": dict(sorted(part.route_labels.items())),
        "externalURL": part.external_url,
        "version": "4",
        "groupKey": part.group_key,
        "truncatedAlerts": cut,
    }


class WebhookSender:
    """Posts the payload; 2xx is success, 5xx and 429 are tried again."""

    kind = "webhook"

    def __init__(self, config: WebhookConfig, *, http: HttpConfig, index: int) -> None:
        self._config, self.index, self.send_resolved = config, index, config.send_resolved
        self._http = HttpClient(config.http_config or http)

    async def send(self, notification: Notification) -> None:
        """Try once."""
        config = self._config
        url = read_url(config.url, config.url_file, field="url_file")
        body = orjson.dumps(webhook_payload(notification, max_alerts=config.max_alerts))
        status, headers, text = await self._http.post(url, body, timeout_seconds=config.timeout)
        if status // 100 == 2:
            return
        said = f"the webhook answered {status}: {text[:200]}"
        if status == 429 or status >= 500:
            raise TemporaryError(said, wait_seconds=retry_after(headers))
        raise PermanentError(f"{said}; see that its URL is right and that it takes Alertmanager's JSON, version 4")


class PrintSender:
    """Writes the message to standard output, as Slack would show it."""

    kind = "print"

    def __init__(self, config: PrintConfig, *, index: int, out: TextIO | None = None) -> None:
        self.index, self.send_resolved, self._out = index, config.send_resolved, out

    async def send(self, notification: Notification) -> None:
        """Print it."""
        out = self._out or sys.stdout
        out.write(render_text(build_message(notification)) + "\n")
        out.flush()
