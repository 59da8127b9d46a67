"""One rule of `relabel_configs` or `metric_relabel_configs`, checked when the configuration is read."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from bellbuoy._core import Relabeler
from bellbuoy.configuration import Strict

ACTIONS = (
    "replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase",
    "uppercase",
)  # fmt: skip


class RelabelConfig(Strict):
    """One rule, with Prometheus's defaults."""

    source_labels: list[str] = Field(default_factory=list)
    separator: str = ";"
    regex: str = "(.*)"
    modulus: int = 0
    target_label: str = ""
    replacement: str = "$1"
    action: str = "replace"

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.action.lower() not in ACTIONS:
            raise ValueError(f'unknown action "{self.action}"; use one of {", ".join(ACTIONS)}')
        Relabeler([self.rule()])
        return self

    def rule(self) -> dict[str, Any]:
        """The rule as the core takes it."""
        return {
            "source_labels": list(self.source_labels),
            "separator": self.separator,
            "regex": self.regex,
            "modulus": self.modulus,
            "target_label": self.target_label,
            "replacement": self.replacement,
            "action": self.action.lower(),
        }


def relabeler(rules: Sequence[RelabelConfig]) -> Relabeler:
    """The rules, compiled."""
    return Relabeler([rule.rule() for rule in rules])
