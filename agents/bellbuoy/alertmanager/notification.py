"""What one notification says: a group's alerts at one moment, what they share, and why it is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bellbuoy.alertmanager.alerts import Alert, format_fingerprint
from bellbuoy.alertmanager.times import format_time


@dataclass(frozen=True)
class Notification:
    """Alerts are in order; one whose `ends_at` is zero fires, the others have ended."""

    receiver: str
    group_key: str
    group_labels: Mapping[str, str]
    route_labels: Mapping[str, str]
    alerts: Sequence[Alert]
    external_url: str
    reason: str
    moment: int

    @cached_property
    def firing(self) -> list[Alert]:
        """Those that fire."""
        return [alert for alert in self.alerts if not alert.resolved_at(self.moment)]

    @cached_property
    def resolved(self) -> list[Alert]:
        """Those that have ended."""
        return [alert for alert in self.alerts if alert.resolved_at(self.moment)]

    @property
    def status(self) -> str:
        """`firing` while one of them does, else `resolved`."""
        return "firing" if self.firing else "resolved"

    @cached_property
    def common_labels(self) -> Mapping[str, str]:
        """Labels that all alerts have alike."""
        return _common([alert.labels for alert in self.alerts])

    @cached_property
    def common_annotations(self) -> Mapping[str, str]:
        """Annotations that all alerts have alike."""
        return _common([alert.annotations for alert in self.alerts])

    def alert_to_json(self, alert: Alert) -> dict[str, Any]:
        """An alert as Alertmanager's webhook shows it."""
        return {
            "status": "resolved" if alert.resolved_at(self.moment) else "firing",
            "labels": dict(sorted(alert.labels.items())),
            "annotations": dict(sorted(alert.annotations.items())),
            "startsAt": format_time(alert.starts_at),
            "endsAt": format_time(alert.ends_at),
            "generatorURL": alert.generator_url,
            "fingerprint": format_fingerprint(alert.fingerprint),
        }


def _common(pairs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    if not pairs:
        return {}
    rest = pairs[1:]
    return {name: value for name, value in pairs[0].items() if all(other.get(name) == value for other in rest)}
