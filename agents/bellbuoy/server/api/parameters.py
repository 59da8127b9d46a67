"""Parameters of a request, from the URL and a form body alike, in the forms that Prometheus takes."""

import math
import re
from collections.abc import Sequence
from datetime import datetime

from aiohttp import web
from multidict import MultiDict

from bellbuoy import promql
from bellbuoy.durations import DurationError, parse_duration
from bellbuoy.server.api.answers import ApiError, bad_parameter

# What Go's API takes for the first and the last time there is.
MIN_TIME_MS, MAX_TIME_MS = -(1 << 62), (1 << 62)
_MIN_TEXT, _MAX_TEXT = "-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")
_LIMIT_MS = 9.2e18
# A label that stands in for one that is not empty, so that filters of other labels can be read.
_ANY = "any"
TRUNCATED = "results truncated due to limit"
_NON_EMPTY = "must contain at least one non-empty matcher"
Selectors = list[Sequence[tuple[str, str, str]]]


class Parameters:
    """One request's parameters."""

    def __init__(self, values: MultiDict[str]) -> None:
        self._values = values

    @classmethod
    async def of(cls, request: web.Request) -> "Parameters":
        """Those of this request; a form's come first, as in Go."""
        values: MultiDict[str] = MultiDict()
        if request.method == "POST" and request.content_type in (
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ):
            for name, value in (await request.post()).items():
                if isinstance(value, str):
                    values.add(name, value)
        values.extend(request.query)
        return cls(values)

    def text(self, name: str) -> str:
        """The first value, or nothing."""
        return self._values.get(name, "")

    def all(self, name: str) -> list[str]:
        """All values."""
        return self._values.getall(name, [])

    def time_ms(self, name: str, default: int | None = None) -> int:
        """A time in milliseconds; without a default it must be there."""
        text = self.text(name)
        if not text and default is not None:
            return default
        try:
            return parse_time(text)
        except ValueError as e:
            raise bad_parameter(name, e if default is None else f"Invalid time value for '{name}': {e}") from e

    def seconds(self, name: str) -> float | None:
        """A duration, as a number of seconds or as `15s`; None when it is not there."""
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_seconds(text)
        except ValueError as e:
            raise bad_parameter(name, e) from e

    def count(self, name: str) -> int:
        """A limit; 0 is none."""
        text = self.text(name)
        if not text:
            return 0
        if not text.lstrip("+-").isdecimal():
            raise bad_parameter(name, f'strconv.Atoi: parsing "{text}": invalid syntax')
        if int(text) < 0:
            raise bad_parameter(name, "limit must be non-negative")
        return int(text)

    def selectors(self, name: str = "match[]", *, named: bool = False) -> Selectors:
        """All selectors of this name; an error names the parameter where Prometheus does."""
        out: Selectors = []
        for text in self.all(name):
            try:
                out.append(parse_selector(text))
            except (promql.QueryError, ValueError) as e:
                reason = f"{name} {_NON_EMPTY}" if _NON_EMPTY in str(e) else str(e)
                raise (bad_parameter(name, reason) if named else ApiError("bad_data", reason)) from e
        return out

    def filters(self) -> list[tuple[str, str, str]]:
        """What every series of the answer must match: all of `extra_filters[]`."""
        out: list[tuple[str, str, str]] = []
        for text in self.all("extra_filters[]"):
            try:
                out.extend(parse_filter(text))
            except (promql.QueryError, ValueError) as e:
                raise bad_parameter("extra_filters[]", e) from e
        return out

    def flag(self, name: str) -> bool:
        """Whether it is said, in the forms that Go takes."""
        text = self.text(name)
        if text.lower() in ("1", "t", "true"):
            return True
        if text.lower() in ("", "0", "f", "false"):
            return False
        raise bad_parameter(name, f'strconv.ParseBool: parsing "{text}": invalid syntax')

    def time_range(self) -> tuple[int, int]:
        """`start` and `end`; all time unless told."""
        start, end = self.time_ms("start", MIN_TIME_MS), self.time_ms("end", MAX_TIME_MS)
        if end < start:
            raise bad_parameter("end", "end timestamp must not be before start time")
        return start, end


def parse_time(text: str) -> int:
    """Milliseconds of seconds since 1970 or of an RFC 3339 text."""
    if text == _MIN_TEXT:
        return MIN_TIME_MS
    if text == _MAX_TEXT:
        return MAX_TIME_MS
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        if abs(number * 1000) > _LIMIT_MS:
            return MAX_TIME_MS if number > 0 else MIN_TIME_MS
        return round(number * 1000)
    if _RFC3339.match(text):
        try:
            return round(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        except (ValueError, OverflowError):
            pass  # a shape with a month of 13: said below, as for all others
    raise ValueError(f'cannot parse "{text}" to a valid timestamp')


def parse_seconds(text: str) -> float:
    """Seconds of a number or of `1m30s`."""
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        if abs(number * 1000) > _LIMIT_MS:
            raise ValueError(f'cannot parse "{text}" to a valid duration. It overflows int64')
        return number
    try:
        return parse_duration(text)
    except DurationError:
        raise ValueError(f'cannot parse "{text}" to a valid duration') from None


def parse_selector(text: str) -> Sequence[tuple[str, str, str]]:
    """The matchers of `name{…}`. Raises QueryError or ValueError."""
    tree = promql.parse(text)
    if not isinstance(tree, promql.VectorSelector) or tree.offset is not None or tree.at is not None:
        raise ValueError(f'{text} is no series selector; write name{{label="value"}}')
    return tree.all_matchers


def parse_filter(text: str) -> Sequence[tuple[str, str, str]]:
    """The matchers of a filter: unlike a selector it may let series through that have none of its labels, as
    `{tenant!="a"}` does. Raises QueryError or ValueError.
    """
    try:
        return parse_selector(text)
    except promql.QueryError as e:
        if _NON_EMPTY not in str(e):
            raise
    # With one more matcher it is a selector; that one stands last.
    inside = text.strip().removesuffix("}").rstrip(" ,")
    matchers = parse_selector(f'{inside}{", " if inside != "{" else ""}{_ANY}!=""}}')[:-1]
    if not matchers:
        raise ValueError(f"{text} has no matcher; name a label and its value")
    return matchers
