"""The notification log: what each receiver was last told of each group. It decides whether to tell again, and why.

Kept over restarts, so that nothing is told twice and an end is not missed. It also counts, for each receiver, what
went out and what did not: the operator writes that into the resource's status.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bellbuoy.alertmanager.times import seconds

FIRST = "first notification"
NEW_ALERTS = "new alerts added"
NEW_RESOLVED = "some alerts resolved"
ALL_RESOLVED = "all alerts resolved"
REPEAT = "repeat interval elapsed"


@dataclass(frozen=True)
class Entry:
    """The fingerprints that a receiver was last told of, when, and when to forget it."""

    moment: int
    firing: frozenset[int]
    resolved: frozenset[int]
    expires_at: int


@dataclass
class ReceiverTally:
    """How a receiver does."""

    last_notification: int = 0
    notifications: int = 0
    failures: int = 0
    last_error: str = ""


@dataclass
class NotificationLog:
    """Entries by group key and integration (`receiver/slack/0`). `changed` is called after each change."""

    changed: Callable[[], None] = lambda: None
    receivers: dict[str, ReceiverTally] = field(default_factory=dict)
    _entries: dict[tuple[str, str], Entry] = field(default_factory=dict)

    def reason(
        self,
        group_key: str,
        integration: str,
        *,
        firing: Iterable[int],
        resolved: Iterable[int],
        send_resolved: bool,
        repeat_seconds: float,
        now: int,
    ) -> str:
        """Why this integration must be told of the group now; empty when it need not be."""
        firing, resolved = frozenset(firing), frozenset(resolved)
        entry = self._entries.get((group_key, integration))
        if entry is None:
            return FIRST if firing else ""
        if not firing <= entry.firing:
            return NEW_ALERTS if entry.firing else FIRST
        if not firing:
            return ALL_RESOLVED if entry.firing else ""
        if send_resolved and not resolved <= entry.resolved:
            return NEW_RESOLVED
        return REPEAT if entry.moment < now - seconds(repeat_seconds) else ""

    def told(
        self,
        group_key: str,
        integration: str,
        *,
        firing: Iterable[int],
        resolved: Iterable[int],
        repeat_seconds: float,
        now: int,
    ) -> None:
        """Remember what was sent."""
        self._entries[group_key, integration] = Entry(
            now, frozenset(firing), frozenset(resolved), now + seconds(2 * repeat_seconds)
        )
        self.changed()

    def ended(self, group_key: str, gone: Iterable[int]) -> None:
        """Forget alerts that left their group unheard, silenced as they ended: firing again, they are news again."""
        gone = frozenset(gone)
        for key, entry in self._entries.items():
            if key[0] == group_key and not entry.firing.isdisjoint(gone):
                self._entries[key] = replace(entry, firing=entry.firing - gone)
                self.changed()

    def succeeded(self, receiver: str, *, now: int) -> None:
        """Count a notification that went out."""
        tally = self.receivers.setdefault(receiver, ReceiverTally())
        tally.last_notification, tally.last_error = now, ""
        tally.notifications += 1
        self.changed()

    def failed(self, receiver: str, error: str) -> None:
        """Count a notification that did not."""
        tally = self.receivers.setdefault(receiver, ReceiverTally())
        tally.failures += 1
        tally.last_error = error
        self.changed()

    def forget_old(self, *, now: int) -> None:
        """Drop entries past their time: twice the repeat interval after the last word."""
        gone = [key for key, entry in self._entries.items() if entry.expires_at < now]
        for key in gone:
            del self._entries[key]
        if gone:
            self.changed()

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what was stored."""
        entries = {}
        for one in data["entries"]:
            told = (frozenset(one["firing"]), frozenset(one["resolved"]))
            entries[one["group"], one["integration"]] = Entry(one["moment"], *told, one["expiresAt"])
        receivers = {name: ReceiverTally(**tally) for name, tally in data["receivers"].items()}
        self._entries, self.receivers = entries, receivers

    def dump(self) -> dict[str, Any]:
        """What to store."""
        return {
            "entries": [
                {
                    "group": group,
                    "integration": integration,
                    "moment": entry.moment,
                    "firing": sorted(entry.firing),
                    "resolved": sorted(entry.resolved),
                    "expiresAt": entry.expires_at,
                }
                for (group, integration), entry in self._entries.items()
            ],
            "receivers": {name: asdict(tally) for name, tally in self.receivers.items()},
        }
