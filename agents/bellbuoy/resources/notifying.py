"""A stack's `alertmanager.yml`: a receiver and a route for each AlertReceiver, all asked, none hiding another.

Every route says `continue: true`, so that an alert goes to each receiver that takes it, in whatever order they were
made; what no receiver takes ends at the root, which tells no one. An AlertRule that names receivers gets to those by
routes of their own. A receiver of a foreign namespace takes that namespace's alerts only.
"""

from typing import Any

from bellbuoy.labels import quote
from bellbuoy.resources.model import AlertReceiver, AlertRule, SecretKey
from bellbuoy.resources.ruling import alert_name
from bellbuoy.resources.scraping import Layout
from bellbuoy.resources.secrets import secret_use
from bellbuoy.resources.selection import Selection

# The receiver of alerts that no AlertReceiver takes: it has no integration, so nobody is told.
NOBODY = "nobody"


def alertmanager_config(selection: Selection, layout: Layout) -> dict[str, Any]:
    """The configuration of the stack's alertmanager, as `alertmanager.yml` holds it."""
    routes = [_route(selection, receiver) for receiver in selection.receivers]
    root: dict[str, Any] = {"receiver": NOBODY, "group_by": ["alertname", "namespace"]}
    if routes:
        root["routes"] = routes
    return {
        "route": root,
        "receivers": [{"name": NOBODY}, *(_receiver(receiver, layout) for receiver in selection.receivers)],
    }


def _route(selection: Selection, receiver: AlertReceiver) -> dict[str, Any]:
    spec = receiver.spec
    bound = [] if selection.is_own(receiver) else [f"namespace={quote(receiver.namespace)}"]
    named = sorted(alert_name(rule) for rule in selection.alert_rules if _names(rule, receiver))
    timing: dict[str, Any] = {
        "group_by": list(spec.group_by),
        "group_wait": spec.group_wait,
        "group_interval": spec.group_interval,
        "repeat_interval": spec.repeat_interval,
        "continue": True,
    }
    if not spec.matchers or not named:
        return {"receiver": receiver.id, "matchers": [*spec.matchers, *bound], **timing}
    # Of routes below one that continues the first match ends the search, so that an alert which is both named and
    # matched is told once; what is neither ends at the last one.
    below: list[dict[str, Any]] = [{"receiver": receiver.id, "matchers": list(spec.matchers)}]
    below.extend({"receiver": receiver.id, "matchers": [f"alertname={quote(name)}"]} for name in named)
    below.append({"receiver": NOBODY})
    return {"receiver": receiver.id, "matchers": bound, **timing, "routes": below}


def _names(rule: AlertRule, receiver: AlertReceiver) -> bool:
    return rule.namespace == receiver.namespace and receiver.name in rule.spec.receivers


def _receiver(receiver: AlertReceiver, layout: Layout) -> dict[str, Any]:
    spec = receiver.spec

    def file(key: SecretKey) -> str:
        return f"{layout.secrets_folder}/{secret_use(receiver, key).file}"

    if spec.slack is not None:
        slack: dict[str, Any] = {"api_url_file": file(spec.slack.webhook), "send_resolved": spec.send_resolved}
        if spec.slack.channel:
            slack["channel"] = spec.slack.channel
        return {"name": receiver.id, "slack_configs": [slack]}
    if spec.webhook is None:
        raise AssertionError(f"BUG: {receiver} has neither slack nor webhook, which its model refuses")
    webhook: dict[str, Any] = {"send_resolved": spec.send_resolved}
    if spec.webhook.url_from is not None:
        webhook["url_file"] = file(spec.webhook.url_from)
    else:
        webhook["url"] = spec.webhook.url
    if spec.webhook.max_alerts:
        webhook["max_alerts"] = spec.webhook.max_alerts
    return {"name": receiver.id, "webhook_configs": [webhook]}
