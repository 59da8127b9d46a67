"""Silences: who said to keep quiet about what, from when to when. Kept for a while after their end, as a history.

A silence is replaced, not rewritten, when its past would change: then the old one expires and the new one has a new
id.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bellbuoy.alertmanager.matchers import Matchers, make_matcher, matches_all
from bellbuoy.alertmanager.times import Clock, seconds

# How many there may be, expired ones included: a loop that adds silences must not fill the disk.
SILENCES_LIMIT = 100_000


class SilenceError(ValueError):
    """A silence that cannot be; the text says why."""


class UnknownSilenceError(KeyError):
    """No silence has that id."""


@dataclass(frozen=True)
class Silence:
    """All matchers must match. Times in nanoseconds."""

    id: str
    matchers: Matchers
    starts_at: int
    ends_at: int
    updated_at: int
    created_by: str
    comment: str
    annotations: Mapping[str, str] = field(default_factory=dict)

    def state(self, now: int) -> str:
        """`pending`, `active` or `expired`."""
        if now < self.starts_at:
            return "pending"
        return "expired" if now > self.ends_at else "active"

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "id": self.id,
            "matchers": [[m.name, m.operator, m.value] for m in self.matchers],
            "startsAt": self.starts_at,
            "endsAt": self.ends_at,
            "updatedAt": self.updated_at,
            "createdBy": self.created_by,
            "comment": self.comment,
            "annotations": dict(self.annotations),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Silence":
        """What `to_json` wrote."""
        return Silence(
            id=data["id"],
            matchers=tuple(make_matcher(*one) for one in data["matchers"]),
            starts_at=data["startsAt"],
            ends_at=data["endsAt"],
            updated_at=data["updatedAt"],
            created_by=data["createdBy"],
            comment=data["comment"],
            annotations=data["annotations"],
        )


@dataclass
class Silences:
    """All silences. `changed` is called after each change."""

    clock: Clock
    retention_seconds: float
    changed: Callable[[], None] = lambda: None
    _silences: dict[str, Silence] = field(default_factory=dict)
    _index: "_Index | None" = None

    def all(self) -> list[Silence]:
        """Every one, expired ones too."""
        return list(self._silences.values())

    def get(self, key: str) -> Silence:
        """The one of that id. Raises UnknownSilenceError."""
        if key not in self._silences:
            raise UnknownSilenceError(key)
        return self._silences[key]

    def silenced_by(self, labels: Mapping[str, str], *, now: int) -> list[str]:
        """Ids of the active silences that match, sorted."""
        if self._index is None:
            self._index = _Index(self._silences.values(), now=now)
        return sorted(
            silence.id
            for silence in self._index.candidates(labels)
            if silence.state(now) == "active" and matches_all(silence.matchers, labels)
        )

    def set(self, silence: Silence) -> str:
        """Add it, or update the one of its id where that leaves the past alone. Returns the id it now has.

        Raises SilenceError and UnknownSilenceError.
        """
        now = self.clock.now()
        check_silence(silence, now=now)
        old = self._silences.get(silence.id)
        if silence.id and old is None:
            raise UnknownSilenceError(silence.id)
        if old is not None and _can_update(old, silence, now):
            return self._keep(replace(silence, updated_at=now))
        if len(self._silences) >= SILENCES_LIMIT:
            raise SilenceError(
                f"there are {len(self._silences)} silences already; expire some and wait for their removal"
            )
        if old is not None and old.state(now) != "expired":
            self.expire(old.id)
        starts_at = max(silence.starts_at, now)
        return self._keep(replace(silence, id=str(uuid.uuid4()), starts_at=starts_at, updated_at=now))

    def expire(self, key: str) -> None:
        """End it now. Raises UnknownSilenceError."""
        now = self.clock.now()
        silence = self.get(key)
        state = silence.state(now)
        if state != "expired":
            starts_at = now if state == "pending" else silence.starts_at
            self._keep(replace(silence, starts_at=starts_at, ends_at=now, updated_at=now))

    def forget_old(self) -> None:
        """Drop those that ended longer ago than they are kept."""
        oldest = self.clock.now() - seconds(self.retention_seconds)
        gone = [key for key, silence in self._silences.items() if silence.ends_at < oldest]
        for key in gone:
            del self._silences[key]
        if gone:
            self._index = None
            self.changed()

    def load(self, silences: Iterable[Silence]) -> None:
        """Take what was stored."""
        self._silences, self._index = {silence.id: silence for silence in silences}, None

    def dump(self) -> list[dict[str, Any]]:
        """What to store."""
        return [silence.to_json() for silence in self._silences.values()]

    def _keep(self, silence: Silence) -> str:
        self._silences[silence.id], self._index = silence, None
        self.changed()
        return silence.id


class _Index:
    """Silences that have not ended, by a label pair that they ask for: an alert is matched against few of them."""

    def __init__(self, silences: Iterable[Silence], *, now: int) -> None:
        self._by_pair: dict[tuple[str, str], list[Silence]] = {}
        self._others: list[Silence] = []
        for silence in silences:
            if silence.state(now) == "expired":
                continue
            pairs = [(m.name, m.value) for m in silence.matchers if m.operator == "=" and m.value]
            (self._by_pair.setdefault(pairs[0], []) if pairs else self._others).append(silence)

    def candidates(self, labels: Mapping[str, str]) -> Iterator[Silence]:
        """All that may match these labels."""
        for pair in labels.items():
            yield from self._by_pair.get(pair, ())
        yield from self._others


def check_silence(silence: Silence, *, now: int) -> None:
    """Raises SilenceError that says what is wrong."""
    if not silence.matchers:
        raise SilenceError("invalid silence: at least one matcher required")
    if all(matcher.matches_value("") for matcher in silence.matchers):
        raise SilenceError("invalid silence: at least one matcher must not match the empty string")
    if silence.starts_at >= silence.ends_at:
        raise SilenceError("Failed to create silence: start time must be before end time")
    if silence.ends_at < now:
        raise SilenceError("Failed to create silence: end time can't be in the past")


def _can_update(old: Silence, new: Silence, now: int) -> bool:
    if old.matchers != new.matchers:
        return False
    state = old.state(now)
    if state == "active":
        return old.starts_at // seconds(1) == new.starts_at // seconds(1) and new.ends_at >= now
    return state == "pending" and new.starts_at >= now
