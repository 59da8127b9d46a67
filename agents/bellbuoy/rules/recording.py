"""A recording rule: an expression whose result is stored under a name of its own."""

from dataclasses import dataclass

from bellbuoy.labels import NAME
from bellbuoy.rules.config import RuleConfig
from bellbuoy.tsdb import LabelSets


class RuleError(Exception):
    """An evaluation that cannot be stored; the text says why and what to change in the rule."""


@dataclass(frozen=True)
class RecordingRule:
    """The rule; it has no state of its own."""

    config: RuleConfig

    def series(self, labels: LabelSets, *, limit: int) -> LabelSets:
        """The result's label sets as they are stored. Raises RuleError when two of them become one, or at the limit."""
        count = len(labels)
        out = labels.set(NAME, [self.config.record] * count)
        for name, value in self.config.labels.items():
            out = out.set(name, [value] * count)
        if len(out.group()[1]) != count:
            raise RuleError(
                "vector contains metrics with the same labelset after applying rule labels; "
                "aggregate, or set fewer labels"
            )
        if limit and count > limit:
            raise RuleError(f"exceeded limit of {limit} with {count} series")
        return out
