"""What an operator of this server should know right now: a reload that failed, a start or an end under way.

The list and the stream are Prometheus's, whose UI shows them behind a bell; ours may, too. So many listen at a time;
one that does not keep up loses the oldest of what waits for it.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bellbuoy.logs import timestamp

RELOAD_FAILED = "Configuration reload has failed."
STARTING = "Bellbuoy is starting and reading its write-ahead log (WAL)."
STOPPING = "Bellbuoy is shutting down and gracefully stopping all operations."
WAITING_EACH = 10


@dataclass(frozen=True)
class Notification:
    """One text, and since when it holds; not active any more when it is told for the last time."""

    text: str
    date: float = field(default_factory=time.time)
    active: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"text": self.text, "date": timestamp(self.date), "active": self.active}


class Notifications:
    """Those that hold now, and who listens. Used by the loop only."""

    def __init__(self, *, most_listeners: int) -> None:
        self._most = most_listeners
        self._held: dict[str, Notification] = {}
        self._listeners: set[asyncio.Queue[Notification | None]] = set()

    def add(self, text: str) -> None:
        """From now on this holds."""
        self._tell(self._held.setdefault(text, Notification(text)))

    def remove(self, text: str) -> None:
        """It does not hold any more, if it did."""
        if (one := self._held.pop(text, None)) is not None:
            self._tell(Notification(text, one.date, active=False))

    def all(self) -> list[Notification]:
        """What holds."""
        return list(self._held.values())

    def _tell(self, one: Notification | None) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(one)

    def end(self) -> None:
        """Nothing will come any more: who listens shall leave."""
        self._tell(None)

    @contextmanager
    def listening(self) -> Iterator["asyncio.Queue[Notification | None] | None"]:
        """What holds, and all that changes from then on; None at the end. No queue when too many listen already."""
        if len(self._listeners) >= self._most:
            yield None
            return
        queue: asyncio.Queue[Notification | None] = asyncio.Queue(WAITING_EACH)
        for one in self.all()[-WAITING_EACH:]:
            queue.put_nowait(one)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
