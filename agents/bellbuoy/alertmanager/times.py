"""Moments as whole nanoseconds since 1970, as Prometheus sends them, and the clock that all waiting goes by.

Floats would lose the last digits that a webhook's reader compares. Zero means "not set", Go's year 1.
"""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND = 10**9
GO_ZERO = "0001-01-01T00:00:00Z"
# A wall clock may jump, a machine may sleep: no wait is longer than this without a look at the clock.
LOOK_SECONDS = 60.0
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What time it is. Tests bring one that follows a loop whose time they make pass."""

    def now(self) -> int:
        """Nanoseconds since 1970."""


class SystemClock:
    """The machine's own."""

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()


async def sleep_until(clock: Clock, when: int) -> None:
    """Return when the clock shows that moment."""
    while (left := when - clock.now()) > 0:  # noqa: ASYNC110 - a moment, not an event
        await asyncio.sleep(min(left / SECOND, LOOK_SECONDS))


def seconds(value: float) -> int:
    """A duration in seconds as nanoseconds."""
    return round(value * SECOND)


def parse_time(text: str) -> int:
    """Nanoseconds of an RFC 3339 time. Raises ValueError that says how to write one."""
    found = _RFC3339.match(text)
    if found is None:
        raise ValueError(f'cannot read time "{text}": write it as 2026-01-02T15:04:05Z')
    day, clock, fraction, zone = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as e:
        raise ValueError(f'cannot read time "{text}": {e}; write it as 2026-01-02T15:04:05Z') from e
    if whole.year <= 1:
        return 0
    since = whole - _EPOCH
    return (since.days * 86400 + since.seconds) * SECOND + int(f"{fraction or '0':0<9}"[:9])


def format_time(value: int) -> str:
    """As Go prints a time in JSON: only the digits that matter."""
    if value == 0:
        return GO_ZERO
    fraction = f"{value % SECOND:09d}".rstrip("0")
    return _whole(value) + (f".{fraction}" if fraction else "") + "Z"


def format_millis(value: int) -> str:
    """As the API prints a time: three digits behind the second, always."""
    if value == 0:
        return "0001-01-01T00:00:00.000Z"
    return f"{_whole(value)}.{value % SECOND // 10**6:03d}Z"


def to_datetime(value: int) -> datetime:
    """The moment in UTC, to the second."""
    return _EPOCH + timedelta(seconds=value // SECOND)


def _whole(value: int) -> str:
    return to_datetime(value).strftime("%Y-%m-%dT%H:%M:%S")
