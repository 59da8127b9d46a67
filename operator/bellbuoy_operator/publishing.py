"""What the operator serves of each stack: its parts, their hashes, and a hash of all that a client can wait to change.

A `Publication` is the latest of one stack; whoever waits is woken when its hash is another. Content is sorted and
hashes are of content alone, so that all replicas of the operator say the same.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

Key = tuple[str, str]

PROMETHEUS = "prometheus.yml"
RULES = "rules.yml"
ALERTMANAGER = "alertmanager.yml"
TARGETS = "targets/"


def content_hash(content: bytes) -> str:
    """The hash of one part: enough of SHA-256 that no two contents share it."""
    return sha256(content).hexdigest()[:32]


@dataclass(frozen=True)
class Publication:
    """All parts of one stack at one time, by name."""

    parts: Mapping[str, bytes]
    hashes: Mapping[str, str]
    hash: str

    @classmethod
    def of(cls, parts: Mapping[str, bytes]) -> "Publication":
        """The publication of these parts."""
        hashes = {name: content_hash(parts[name]) for name in sorted(parts)}
        whole = content_hash("\n".join(f"{name} {value}" for name, value in hashes.items()).encode())
        return cls(parts=parts, hashes=hashes, hash=whole)


@dataclass
class Publications:
    """The latest publication of every stack."""

    _by_stack: dict[Key, Publication] = field(default_factory=dict)
    _news: dict[Key, asyncio.Event] = field(default_factory=dict)

    def get(self, key: Key) -> Publication | None:
        """The stack's latest; None when there is no such stack."""
        return self._by_stack.get(key)

    def publish(self, key: Key, parts: Mapping[str, bytes]) -> bool:
        """Make these the stack's parts; returns whether they are news."""
        publication = Publication.of(parts)
        before = self._by_stack.get(key)
        if before is not None and before.hash == publication.hash:
            return False
        self._by_stack[key] = publication
        self._wake(key)
        return True

    def withdraw(self, key: Key) -> None:
        """The stack is gone."""
        if self._by_stack.pop(key, None) is not None:
            self._wake(key)

    def wake_all(self) -> None:
        """Answer all who wait, with what there is: we are about to end."""
        for key in list(self._news):
            self._wake(key)

    async def wait_for_change(self, key: Key, *, after: str, seconds: float) -> Publication | None:
        """The stack's latest, once its hash is not `after`, or the time is over."""
        publication = self._by_stack.get(key)
        if publication is not None and publication.hash == after:
            try:
                async with asyncio.timeout(seconds):
                    await self._news.setdefault(key, asyncio.Event()).wait()
            except TimeoutError:
                # Nothing happened in that time, which is an answer as well.
                return self._by_stack.get(key)
        return self._by_stack.get(key)

    def _wake(self, key: Key) -> None:
        event = self._news.pop(key, None)
        if event is not None:
            event.set()
