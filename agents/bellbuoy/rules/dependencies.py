"""Which rules of a group may be evaluated at the same time: those that do not read what another one writes.

A rule depends on an earlier one when one of its selectors may match that one's series: the recorded name, or, of an
alert, ALERTS and ALERTS_FOR_STATE. What a selector without a name matches cannot be told, and such a group is evaluated
in turn.
"""

from collections.abc import Sequence

from bellbuoy.labels import NAME, Matcher
from bellbuoy.promql import Expr, VectorSelector, selectors
from bellbuoy.rules.config import RuleConfig

ALERT_METRICS = ("ALERTS", "ALERTS_FOR_STATE")


def batches(rules: Sequence[tuple[RuleConfig, Expr]]) -> list[list[int]]:
    """The rules' indexes in the order of their evaluation; those of one batch do not need each other.

    First all that need no other, then one by one what both needs and is needed, last what nobody needs.
    """
    needs = _needs(rules)
    if needs is None:
        return [[i] for i in range(len(rules))]
    needed = {other for others in needs for other in others}
    free = [i for i, others in enumerate(needs) if not others]
    between = [i for i, others in enumerate(needs) if others and i in needed]
    last = [i for i, others in enumerate(needs) if others and i not in needed]
    return [batch for batch in (free, *([i] for i in between), last) if batch]


def _needs(rules: Sequence[tuple[RuleConfig, Expr]]) -> list[set[int]] | None:
    """For each rule those before it that it reads; None when that cannot be told."""
    names: dict[str, list[int]] = {}
    out: list[set[int]] = []
    for i, (rule, expr) in enumerate(rules):
        found: set[int] = set()
        for selector in selectors(expr):
            before = _written(selector, names, rules)
            if before is None:
                return None
            found |= before
        out.append(found)
        names.setdefault(rule.record or rule.alert, []).append(i)
    return out


def _written(
    selector: VectorSelector, names: dict[str, list[int]], rules: Sequence[tuple[RuleConfig, Expr]]
) -> set[int] | None:
    if selector.name:
        name = Matcher(NAME, "=", selector.name)
    else:
        named = [matcher for matcher in selector.matchers if matcher.name == NAME]
        if not named:
            return None
        name = named[0]
    out: set[int] = set()
    # Nearly all name one metric: then there is nothing to go through.
    matching = [name.value] if name.operator == "=" else [one for one in names if name.matches_value(one)]
    for one in matching:
        out.update(names.get(one, ()))
    if any(name.matches_value(metric) for metric in ALERT_METRICS):
        which = next((matcher for matcher in selector.matchers if matcher.name == "alertname"), None)
        for one, numbers in names.items():
            if which is None or which.matches_value(one):
                out.update(i for i in numbers if rules[i][0].alert)
    return out
