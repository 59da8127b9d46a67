"""Checks of rule files: what the server would refuse, each mistake with its place and cure, and what is only odd."""

from collections import Counter
from dataclasses import dataclass, field

from bellbuoy.configuration import ConfigError
from bellbuoy.labels import format_labels
from bellbuoy.rules import BrokenRule, load_groups

LINTS = ("all", "duplicate-rules", "none")


@dataclass
class Checked:
    """What was found in one file."""

    file: str
    rules: int = 0
    errors: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)


def check(text: str, *, name: str, lint: str = "duplicate-rules") -> Checked:
    """All mistakes of a rule file."""
    out = Checked(name)
    try:
        groups = load_groups({name: text}, interval_seconds=60.0)
    except ConfigError as e:
        out.errors.append(str(e))
        return out
    seen: Counter[tuple[str, str]] = Counter()
    for group in groups:
        out.rules += len(group.rules)
        for rule in group.rules:
            if isinstance(rule, BrokenRule):
                kind = "alert" if rule.alerting else "record"
                named = "" if rule.name == rule.place else f' ({kind} "{rule.name}")'
                out.errors.append(f"{name}: {rule.place}{named}: {rule.reason}")
            else:
                seen[rule.alert or rule.record, format_labels(rule.labels)] += 1
    if lint != "none":
        for (rule_name, labels), count in seen.items():
            if count > 1:
                out.oddities.append(
                    f'{name}: {count} rules have the name "{rule_name}" and the labels {labels}: their series may '
                    "overwrite each other; rename one, or give it a label"
                )
    return out
