"""An alert as it is told to us, and the store of all that fire or whose end was not yet notified.

Alerts come in again and again: an overlapping one is merged with what is known. The store holds an alert until it has
ended *and* no group waits to tell of its end; then it forgets it. What groups do with alerts is the dispatcher's
business.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bellbuoy.labels import NAME

ALERT_NAME = "alertname"
_PRIME, _OFFSET, _MASK = 1099511628211, 14695981039346656037, (1 << 64) - 1


def fingerprint(labels: Mapping[str, str]) -> int:
    """FNV-1a over the sorted pairs, each text ended by 0xFF: Prometheus's identity of a label set."""
    total = _OFFSET
    for name, value in sorted(labels.items()):
        for byte in (*name.encode(), 255, *value.encode(), 255):
            total = ((total ^ byte) * _PRIME) & _MASK
    return total


def format_fingerprint(value: int) -> str:
    """Sixteen hexadecimal digits."""
    return f"{value:016x}"


def format_label_set(labels: Mapping[str, str]) -> str:
    """`{a="b", c="d"}` as Alertmanager prints a group's labels in its key."""
    return "{" + ", ".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in sorted(labels.items())) + "}"


@dataclass(frozen=True)
class Alert:
    """Labels are its identity. With `ends_at` in the future it fires until then, unless told again."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: int
    ends_at: int
    updated_at: int
    generator_url: str = ""
    # The end was not told, but set by us: resolve_timeout after the last word of it.
    timeout: bool = False

    @cached_property
    def fingerprint(self) -> int:
        """Its identity as a number."""
        return fingerprint(self.labels)

    @property
    def name(self) -> str:
        """The label `alertname`, or nothing."""
        return self.labels.get(ALERT_NAME, "")

    def resolved_at(self, moment: int) -> bool:
        """Whether it has ended by then."""
        return self.ends_at != 0 and self.ends_at <= moment

    def merged(self, other: "Alert", *, now: int) -> "Alert":
        """Both tellings of one alert as one: the earliest start, the later telling's texts, the end that counts."""
        old, new = (other, self) if other.updated_at < self.updated_at else (self, other)
        ends_at = new.ends_at
        if new.resolved_at(now):
            if old.resolved_at(now):
                ends_at = max(old.ends_at, new.ends_at)
        elif old.ends_at > new.ends_at and not old.timeout:
            ends_at = old.ends_at
        return replace(new, starts_at=min(old.starts_at, new.starts_at), ends_at=ends_at)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "startsAt": self.starts_at,
            "endsAt": self.ends_at,
            "updatedAt": self.updated_at,
            "generatorURL": self.generator_url,
            "timeout": self.timeout,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Alert":
        """What `to_json` wrote."""
        return Alert(
            labels=data["labels"],
            annotations=data["annotations"],
            starts_at=data["startsAt"],
            ends_at=data["endsAt"],
            updated_at=data["updatedAt"],
            generator_url=data["generatorURL"],
            timeout=data["timeout"],
        )


def check_alert(alert: Alert) -> str:
    """What is wrong with it, or nothing."""
    if alert.ends_at != 0 and alert.ends_at < alert.starts_at:
        return "start time must be before end time"
    if not alert.labels:
        return "at least one label pair required"
    for kind, pairs in (("label set", alert.labels), ("annotations", alert.annotations)):
        for name in pairs:
            if not name:
                return f'invalid {kind}: invalid name ""'
    if NAME in alert.labels and not alert.labels[NAME]:
        return f"invalid label set: empty {NAME}"
    return ""


def by_place(alert: Alert) -> tuple[Any, ...]:
    """Sorts alerts as a notification lists them: by job, instance, then number of labels and the labels themselves."""
    labels = alert.labels
    first = [(name not in labels, labels.get(name, "")) for name in ("job", "instance")]
    return (*first, len(labels), sorted(labels.items()))


@dataclass
class AlertStore:
    """All alerts that matter, by fingerprint. `changed` is called after each change; `generation` counts them."""

    changed: Callable[[], None] = lambda: None
    generation: int = 0
    _alerts: dict[int, Alert] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Alert]:
        return iter(list(self._alerts.values()))

    def __len__(self) -> int:
        return len(self._alerts)

    def get(self, key: int) -> Alert | None:
        """The alert of that fingerprint."""
        return self._alerts.get(key)

    def put(self, alert: Alert, *, now: int) -> Alert:
        """Remember it, merged with what overlaps it, and return what is now known."""
        old = self._alerts.get(alert.fingerprint)
        if old is not None:
            ends_inside = old.starts_at < alert.ends_at < old.ends_at
            starts_inside = old.starts_at < alert.starts_at < old.ends_at
            if ends_inside or starts_inside:
                alert = old.merged(alert, now=now)
        self._alerts[alert.fingerprint] = alert
        self._touch()
        return alert

    def forget_resolved(self, held: set[int], *, now: int) -> int:
        """Drop what has ended and is in no group any more. Returns how many."""
        gone = [key for key, alert in self._alerts.items() if key not in held and alert.resolved_at(now)]
        for key in gone:
            del self._alerts[key]
        if gone:
            self._touch()
        return len(gone)

    def load(self, alerts: Iterable[Alert]) -> None:
        """Take what was stored."""
        self._alerts = {alert.fingerprint: alert for alert in alerts}
        self.generation += 1

    def dump(self) -> list[dict[str, Any]]:
        """What to store."""
        return [alert.to_json() for alert in self._alerts.values()]

    def _touch(self) -> None:
        self.generation += 1
        self.changed()
