"""Which queries run now, and which kinds of queries have cost the most since the start.

Queries are of a kind when they differ in nothing but the texts in them (label values, mostly) and spaces: a dashboard
asks one kind of query for a hundred instances. So many kinds are held; the one that cost least makes room.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bellbuoy.logs import timestamp
from bellbuoy.promql import QueryError
from bellbuoy.promql.lexer import tokenize
from bellbuoy.server.query_cost import Cost
from bellbuoy.server.query_log import QueryLog

MOST_KINDS = 500
# Of a query that is shown; it may have a megabyte.
MOST_TEXT = 2000
ORDERS = {"cpu": "cpuSeconds", "time": "seconds", "samples": "samples", "count": "count"}


def kind_of(query: str) -> str:
    """The query with a mark in place of each text, and single spaces."""
    tokens, _ = tokenize(query[: 8 * MOST_TEXT])
    words = ['"…"' if one.kind == "string" else one.raw for one in tokens if one.raw]
    text = " ".join(words)
    for tight in ("(", "[", "{", ")", "]", "}", ",", ":"):
        text = text.replace(f" {tight}", tight)
    for tight in ("(", "[", "{"):
        text = text.replace(f"{tight} ", tight)
    return text[:MOST_TEXT]


@dataclass
class Asked:
    """One query that was asked for."""

    path: str
    query: str
    start_ms: int
    end_ms: int
    step_ms: int = 0
    method: str = "GET"
    client: str = ""
    cost: Cost = field(default_factory=Cost)
    since: float = field(default_factory=time.time)
    stats: dict[str, Any] | None = None
    """The answer's `stats`, if they were asked for."""

    @classmethod
    def of(cls, request: web.Request, query: str, *, start_ms: int, end_ms: int, step_ms: int = 0) -> "Asked":
        """The query of this request."""
        return cls(request.path, query, start_ms, end_ms, step_ms, request.method, request.remote or "")

    def parameters(self) -> dict[str, Any]:
        """As Prometheus logs them."""
        return {
            "query": self.query[:MOST_TEXT],
            "start": timestamp(_shown(self.start_ms)),
            "end": timestamp(_shown(self.end_ms)),
            "step": self.step_ms // 1000,
        }

    def timings(self) -> dict[str, float]:
        """As Prometheus names them; sorting is part of evaluation here."""
        cost = self.cost
        return {
            "evalTotalTime": cost.prepare_seconds + cost.evaluate_seconds,
            "resultSortTime": 0.0,
            "queryPreparationTime": cost.prepare_seconds,
            "innerEvalTime": cost.evaluate_seconds,
            "execQueueTime": cost.queue_seconds,
            "execTotalTime": cost.queue_seconds + cost.prepare_seconds + cost.evaluate_seconds,
        }


# Go's API takes times that no calendar has; they are shown as its ends.
def _shown(time_ms: int) -> float:
    return min(max(time_ms / 1000, -62_135_596_800.0), 253_402_300_799.0)


@dataclass
class Kind:
    """What the queries of one kind cost together."""

    kind: str
    example: str = ""
    count: int = 0
    errors: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    samples: int = 0
    worst_seconds: float = 0.0
    peak_bytes: int = 0
    last: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind, "example": self.example, "count": self.count, "errors": self.errors,
            "seconds": self.seconds, "cpuSeconds": self.cpu_seconds, "samples": self.samples,
            "worstSeconds": self.worst_seconds, "peakBytes": self.peak_bytes, "last": timestamp(self.last),
        }  # fmt: skip


class QueryLedger:
    """Used by the loop only."""

    def __init__(self, query_log: QueryLog) -> None:
        self.log = query_log
        self._active: dict[int, Asked] = {}
        self._kinds: dict[str, Kind] = {}
        self._ids = itertools.count(1)

    @contextmanager
    def running(self, asked: Asked) -> Iterator[Asked]:
        """While the query is waited for; then it is counted, and logged."""
        number, start, error = next(self._ids), time.monotonic(), ""
        self._active[number] = asked
        try:
            yield asked
        except QueryError as e:
            error = str(e)
            raise
        except BaseException as e:
            error = type(e).__name__
            raise
        finally:
            del self._active[number]
            asked.cost.total_seconds = time.monotonic() - start
            self._count(asked, error)
            self._log(asked, error)

    def _count(self, asked: Asked, error: str) -> None:
        name, cost = kind_of(asked.query), asked.cost
        kind = self._kinds.get(name)
        if kind is None:
            if len(self._kinds) >= MOST_KINDS:
                del self._kinds[min(self._kinds.values(), key=lambda one: one.cpu_seconds).kind]
            kind = self._kinds[name] = Kind(name)
        kind.example, kind.last = asked.query[:MOST_TEXT], time.time()
        kind.count += 1
        kind.errors += bool(error)
        kind.seconds += cost.total_seconds
        kind.cpu_seconds += cost.cpu_seconds
        kind.samples += cost.samples
        kind.worst_seconds = max(kind.worst_seconds, cost.total_seconds)
        kind.peak_bytes = max(kind.peak_bytes, cost.peak_bytes)

    def _log(self, asked: Asked, error: str) -> None:
        cost = asked.cost
        stats = asked.stats or {
            "timings": asked.timings(),
            "samples": {"samplesRead": cost.samples, "seriesTouched": cost.series, "peakSamples": cost.samples},
        }
        line = {
            "time": timestamp(time.time()),
            "level": "INFO",
            "msg": "promql query logged",
            "params": asked.parameters(),
            **({"error": error} if error else {}),
            "stats": stats,
            "httpRequest": {"clientIP": asked.client, "method": asked.method, "path": asked.path},
            "cost": cost.to_dict(),
        }
        self.log.write(line)

    def active(self) -> list[dict[str, Any]]:
        """What runs or waits, the oldest first."""
        return [
            {
                "id": number, "path": one.path, "params": one.parameters(), "clientIP": one.client,
                "since": timestamp(one.since), "seconds": max(0.0, time.time() - one.since),
                "samples": one.cost.samples, "series": one.cost.series, "peakBytes": one.cost.peak_bytes,
            }
            for number, one in self._active.items()
        ]  # fmt: skip

    def top(self, *, order: str, limit: int) -> list[dict[str, Any]]:
        """The kinds that cost most by this measure of ORDERS."""
        rows = [one.to_dict() for one in self._kinds.values()]
        return sorted(rows, key=lambda row: -row[ORDERS[order]])[:limit]
