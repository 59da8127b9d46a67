"""`rules` and `alerts`: what is evaluated, how it goes, and what is active."""

from typing import Any

from aiohttp import web

from bellbuoy.labels import Matcher
from bellbuoy.rules import INACTIVE, Alert, AlertingRule, BrokenRule, RuleGroup, RuleState, format_alert_value
from bellbuoy.server.api.answers import bad_parameter, success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.api.times import rfc3339
from bellbuoy.server.parts import Parts


def alert_json(alert: Alert) -> dict[str, Any]:
    """An active alert."""
    out: dict[str, Any] = {
        "labels": dict(sorted(alert.labels.items())),
        "annotations": dict(sorted(alert.annotations.items())),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at),
        "value": format_alert_value(alert.value),
    }
    if alert.keep_firing_since:
        out["keepFiringSince"] = rfc3339(alert.keep_firing_since)
    return out


def _active(rule: AlertingRule) -> list[dict[str, Any]]:
    return [alert_json(alert) for alert in rule.active.values() if alert.state != INACTIVE]


def rule_json(state: RuleState, *, alerts: bool) -> dict[str, Any]:
    """A rule with its health. A broken one has all fields too, so that clients need not know of it."""
    rule = state.rule
    common: dict[str, Any] = {"name": state.name, "query": state.expr, "health": state.health}
    if state.last_error:
        common["lastError"] = state.last_error
    common["evaluationTime"] = state.evaluation_seconds
    common["lastEvaluation"] = rfc3339(state.last_evaluation)
    if isinstance(rule, AlertingRule) or (isinstance(rule, BrokenRule) and rule.alerting):
        config = rule.config if isinstance(rule, AlertingRule) else None
        out = {
            "state": rule.state if isinstance(rule, AlertingRule) else INACTIVE,
            **common,
            "duration": config.for_ if config else 0,
            "keepFiringFor": config.keep_firing_for if config else 0,
            "labels": dict(sorted(config.labels.items())) if config else {},
            "annotations": dict(sorted(config.annotations.items())) if config else {},
            "type": "alerting",
        }
        if alerts:
            out["alerts"] = _active(rule) if isinstance(rule, AlertingRule) else []
        return out
    labels = {} if isinstance(rule, BrokenRule) else rule.config.labels
    out = {**common, **({"labels": dict(sorted(labels.items()))} if labels else {}), "type": "recording"}
    if state.last_evaluation:
        # Ours: Prometheus does not say it.
        out["series"] = state.samples if state.health == "ok" else 0
    return out


def group_json(group: RuleGroup, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """A group with these of its rules."""
    return {
        "name": group.loaded.name,
        "file": group.loaded.file,
        "rules": rules,
        "interval": group.loaded.interval_seconds,
        "limit": group.loaded.limit,
        "evaluationTime": group.evaluation_seconds,
        "lastEvaluation": rfc3339(group.last_evaluation),
    }


async def rules(parts: Parts, request: web.Request) -> web.Response:
    """All groups, or those that the filters leave."""
    parameters = await Parameters.of(request)
    kind = parameters.text("type").lower()
    if kind not in ("", "alert", "record"):
        raise bad_parameter("type", f'not supported value "{parameters.text("type")}"')
    exclude = parameters.text("exclude_alerts").lower()
    if exclude not in ("", "true", "false", "1", "0", "t", "f"):
        raise bad_parameter("exclude_alerts", f'"{exclude}" is neither true nor false')
    names, groups, files = (set(parameters.all(f"{name}[]")) for name in ("rule_name", "rule_group", "file"))
    selectors = [[Matcher(*one) for one in selector] for selector in parameters.selectors()]
    limit, token = parameters.count("group_limit"), parameters.text("group_next_token")
    out: list[dict[str, Any]] = []
    more = ""
    for group in parts.rules.groups():
        if (groups and group.loaded.name not in groups) or (files and group.loaded.file not in files):
            continue
        if token and group.loaded.key < token:
            continue
        if limit and len(out) == limit:
            more = group.loaded.key
            break
        found = []
        for state in group.rules:
            row = rule_json(state, alerts=exclude not in ("true", "1", "t"))
            if kind and row["type"] != ("alerting" if kind == "alert" else "recording"):
                continue
            if names and state.name not in names:
                continue
            labels = row.get("labels", {})
            if selectors and not any(all(matcher.matches(labels) for matcher in one) for one in selectors):
                continue
            found.append(row)
        if found or not (names or kind or selectors):
            out.append(group_json(group, found))
    return success({"groups": out, **({"groupNextToken": more} if more else {})})


async def alerts(parts: Parts, _: web.Request) -> web.Response:
    """All active alerts."""
    found = [
        row
        for group in parts.rules.groups()
        for state in group.rules
        if isinstance(state.rule, AlertingRule)
        for row in _active(state.rule)
    ]
    return success({"alerts": found})
