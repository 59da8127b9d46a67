"""Inhibition: an alert is not told while another that explains it fires. Read from the store, at each question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bellbuoy.alertmanager.alerts import Alert, AlertStore
from bellbuoy.alertmanager.config import InhibitConfig
from bellbuoy.alertmanager.matchers import Matchers, matches_all


@dataclass
class _Rule:
    sources: Matchers
    targets: Matchers
    equal: tuple[str, ...]
    # Source alerts by the values of `equal`, as of one generation of the store.
    index: dict[tuple[str, ...], list[Alert]] = field(default_factory=dict)

    def values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(labels.get(name, "") for name in self.equal)


class Inhibitor:
    """Answers which alerts inhibit one. Sources are indexed once for each change of the store."""

    def __init__(self, configs: Sequence[InhibitConfig], alerts: AlertStore) -> None:
        self._rules = [_Rule(config.sources(), config.targets(), tuple(sorted(config.equal))) for config in configs]
        self._alerts = alerts
        self._generation = -1

    def inhibited_by(self, labels: Mapping[str, str], *, now: int) -> list[int]:
        """The fingerprint of an alert that inhibits these labels, in a list; empty when none does.

        An alert that a rule knows as source and as target is not inhibited by others that are both: they would silence
        each other.
        """
        self._refresh()
        for rule in self._rules:
            if not matches_all(rule.targets, labels):
                continue
            both = matches_all(rule.sources, labels)
            for source in rule.index.get(rule.values(labels), ()):
                if source.resolved_at(now) or (both and matches_all(rule.targets, source.labels)):
                    continue
                return [source.fingerprint]
        return []

    def _refresh(self) -> None:
        if self._generation == self._alerts.generation:
            return
        self._generation = self._alerts.generation
        for rule in self._rules:
            rule.index = {}
            for alert in self._alerts:
                if matches_all(rule.sources, alert.labels):
                    rule.index.setdefault(rule.values(alert.labels), []).append(alert)
