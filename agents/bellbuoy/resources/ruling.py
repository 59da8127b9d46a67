"""A stack's rules as one rule file: a group for each AlertRule and RecordingRule, named `namespace.name`.

A group of its own for each resource keeps a rule that cannot be evaluated from stopping its neighbours, and lets its
state be found again by name. An expression that cannot be parsed never gets here: the caller checks each with `check`
and leaves it out, with the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bellbuoy.resources.model import AlertRule, RecordingRule, Resource
from bellbuoy.resources.selection import Refusal, Selection

# From an expression, and the namespace it is bound to (empty: none), to the expression to evaluate. Raises ValueError.
Check = Callable[[str, str], str]


@dataclass(frozen=True)
class RuleFile:
    """The rule file, and the rules that are not in it, by `(kind, id)`."""

    content: Mapping[str, Any]
    refusals: Mapping[tuple[str, str], Refusal]


def as_written(expr: str, _namespace: str) -> str:
    """The check that takes every expression as it is."""
    return expr


def rule_file(selection: Selection, *, check: Check = as_written) -> RuleFile:
    """The rule file of a stack."""
    groups: list[dict[str, Any]] = []
    refusals: dict[tuple[str, str], Refusal] = {}
    rules: list[Resource[Any]] = [*selection.recording_rules, *selection.alert_rules]
    taken: dict[str, Resource[Any]] = {}
    for rule in rules:
        # A server refuses a file with two groups of one name, and with it every rule.
        if (other := taken.setdefault(rule.id, rule)) is not rule:
            refusals[rule.kind, rule.id] = Refusal("NameTaken", f"{other} has the same name: rename one of them")
            continue
        bound = "" if selection.is_own(rule) else rule.namespace
        try:
            expr = check(rule.spec.expr, bound)
        except ValueError as e:
            refusals[rule.kind, rule.id] = Refusal("InvalidExpression", f"expr cannot be used: {e}")
            continue
        body = _alert(rule, expr, bound) if rule.kind == "AlertRule" else _recording(rule, expr, bound)
        group: dict[str, Any] = {"name": rule.id}
        if rule.spec.interval:
            group["interval"] = rule.spec.interval
        groups.append({**group, "rules": [body]})
    return RuleFile({"groups": groups}, refusals)


def alert_name(rule: AlertRule) -> str:
    """The label `alertname` of a rule's alerts."""
    return rule.spec.alert or rule.name


def _alert(rule: AlertRule, expr: str, bound: str) -> dict[str, Any]:
    spec = rule.spec
    body: dict[str, Any] = {"alert": alert_name(rule), "expr": expr}
    if spec.for_:
        body["for"] = spec.for_
    if spec.keep_firing_for:
        body["keep_firing_for"] = spec.keep_firing_for
    body["labels"] = {"severity": spec.severity, **spec.labels, **({"namespace": bound} if bound else {})}
    if spec.annotations:
        body["annotations"] = dict(sorted(spec.annotations.items()))
    return body


def _recording(rule: RecordingRule, expr: str, bound: str) -> dict[str, Any]:
    body: dict[str, Any] = {"record": rule.spec.record, "expr": expr}
    labels = {**rule.spec.labels, **({"namespace": bound} if bound else {})}
    if labels:
        body["labels"] = labels
    return body
