"""Asks a server over one connection, and tells whether two answers are the same."""

import http.client
import json
import math
import time
import urllib.parse
from typing import Any

from bench.errors import BenchmarkError
from bench.query_cases import Case
from bench.servers import Server

_ANSWER_SECONDS = 300
_TOLERANCE = 1e-9

Window = tuple[int, int]


class Client:
    """One connection that is kept."""

    def __init__(self, server: Server) -> None:
        self._name = server.kind.name
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=_ANSWER_SECONDS)

    def ask(self, case: Case, window: Window) -> tuple[float, bytes]:
        """How long it took until the last byte was there, and the answer."""
        path = _path(case, window)
        began = time.perf_counter()
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchmarkError(f"cannot ask {self._name} for {case.name}: {error!r}") from error
        seconds = time.perf_counter() - began
        if answer.status != 200:
            raise BenchmarkError(f"cannot ask {self._name} for {case.name}: {answer.status}: {body[:300]!r}")
        return seconds, body

    def close(self) -> None:
        """The connection is not used any more."""
        self._connection.close()


def _path(case: Case, window: Window) -> str:
    start, end = (f"{milliseconds / 1000:.3f}" for milliseconds in window)
    if not case.hours:
        return "/api/v1/query?" + urllib.parse.urlencode({"query": case.query, "time": end})
    form = {"query": case.query, "start": start, "end": end, "step": case.step}
    return "/api/v1/query_range?" + urllib.parse.urlencode(form)


def compare(case: Case, ours: bytes, theirs: bytes) -> int:
    """How many points both have. Raises BenchmarkError if an answer is empty, or they differ."""
    our, their = _series(ours), _series(theirs)
    if not our or our.keys() != their.keys():
        missing = sorted(map(str, their.keys() ^ our.keys()))[:2]
        raise BenchmarkError(f"cannot compare {case.name}: {len(our)} and {len(their)} series; {missing}")
    points = 0
    for key, found in our.items():
        wanted = their[key]
        if len(found) != len(wanted):
            raise BenchmarkError(f"cannot compare {case.name}: {len(found)} and {len(wanted)} points of {dict(key)}")
        for (at, value), (then, other) in zip(found, wanted, strict=True):
            a, b = float(value), float(other)
            same = math.isclose(a, b, rel_tol=_TOLERANCE) or (math.isnan(a) and math.isnan(b))
            if at != then or not same:
                raise BenchmarkError(f"cannot compare {case.name}: {value} at {at}, {other} at {then} of {dict(key)}")
        points += len(found)
    return points


def _series(body: bytes) -> dict[frozenset[tuple[str, str]], list[list[Any]]]:
    result = json.loads(body)["data"]["result"]
    return {frozenset(one["metric"].items()): one["values"] if "values" in one else [one["value"]] for one in result}
