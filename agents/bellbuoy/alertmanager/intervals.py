"""Time intervals, when a route is muted or active: times of day, weekdays, days of month, months, years, in a place."""

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, field_validator, model_validator

from bellbuoy.configuration import Strict

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = [month.lower() for month in calendar.month_name][1:]
_CLOCK = re.compile(r"(([01]\d|2[0-3]):[0-5]\d|24:00)\Z")

Range: TypeAlias = tuple[int, int]


def _numbers(value: str, names: dict[str, int], *, what: str) -> Range:
    parts = [part.strip() for part in value.lower().split(":")]
    if len(parts) > 2:
        raise ValueError(f'cannot read {what} "{value}": write one, or two with a colon between')
    out = []
    for part in parts:
        try:
            out.append(names[part] if part in names else int(part))
        except ValueError as e:
            raise ValueError(f'cannot read {what} "{value}": "{part}" is none') from e
    return out[0], out[-1]


def _in_order(value: str, numbers: Range, low: int, high: int, *, what: str) -> Range:
    if not low <= numbers[0] <= numbers[1] <= high:
        raise ValueError(f'cannot use {what} "{value}": it must rise, from {low} to {high}')
    return numbers


def _weekday(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if any(part.strip().isdecimal() for part in value.split(":")):
        raise ValueError(f'cannot read weekday "{value}": write its name')
    numbers = _numbers(value, {name: n for n, name in enumerate(_WEEKDAYS)}, what="weekday")
    return _in_order(value, numbers, 0, 6, what="weekday")


def _month(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    numbers = _numbers(value, {name: n for n, name in enumerate(_MONTHS, 1)}, what="month")
    return _in_order(value, numbers, 1, 12, what="month")


def _year(value: Any) -> Any:
    return _in_order(value, _numbers(value, {}, what="year"), 0, 9999, what="year") if isinstance(value, str) else value


def _day(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    begin, end = _numbers(value, {}, what="day of month")
    least = [number + 28 if number < 0 else number for number in (begin, end)]
    wrong = any(number == 0 or abs(number) > 31 for number in (begin, end)) or (begin < 0 < end) or least[0] > least[1]
    if wrong:
        raise ValueError(f'cannot use day of month "{value}": from 1 to 31, or from the month\'s end -31 to -1, rising')
    return begin, end


def _minutes(text: str) -> int:
    if not _CLOCK.match(text):
        raise ValueError(f'cannot read time of day "{text}": write it as 09:30, up to 24:00')
    return int(text[:2]) * 60 + int(text[3:])


class TimeRange(Strict):
    """From the first minute on, up to the second and without it."""

    start_time: str
    end_time: str

    @model_validator(mode="after")
    def _check(self) -> "TimeRange":
        if _minutes(self.start_time) >= _minutes(self.end_time):
            raise ValueError(f"start_time {self.start_time} must be before end_time {self.end_time}; use two ranges")
        return self

    def contains(self, minute: int) -> bool:
        """Whether the minute of the day lies inside."""
        return _minutes(self.start_time) <= minute < _minutes(self.end_time)


class Interval(Strict):
    """All that is given must hold; of each list, one entry."""

    times: list[TimeRange] | None = None
    weekdays: list[Annotated[Range, BeforeValidator(_weekday)]] | None = None
    days_of_month: list[Annotated[Range, BeforeValidator(_day)]] | None = None
    months: list[Annotated[Range, BeforeValidator(_month)]] | None = None
    years: list[Annotated[Range, BeforeValidator(_year)]] | None = None
    location: str = ""

    @field_validator("location")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and value != "Local":
            try:
                ZoneInfo(value)
            except (KeyError, ValueError, OSError) as e:
                raise ValueError(f'unknown location "{value}"; use a name such as Europe/Berlin') from e
        return value

    def contains(self, moment: datetime) -> bool:
        """Whether that moment, in this interval's location, lies inside."""
        if self.location == "Local":
            moment = moment.astimezone()
        else:
            moment = moment.astimezone(ZoneInfo(self.location) if self.location else UTC)
        minute = moment.hour * 60 + moment.minute
        return (
            (self.times is None or any(times.contains(minute) for times in self.times))
            and (self.weekdays is None or _within(self.weekdays, (moment.weekday() + 1) % 7))
            and (self.days_of_month is None or _within_month(self.days_of_month, moment))
            and (self.months is None or _within(self.months, moment.month))
            and (self.years is None or _within(self.years, moment.year))
        )


class TimeInterval(Strict):
    """A name for a list of intervals; one of them must hold."""

    name: str
    time_intervals: list[Interval]

    def contains(self, moment: datetime) -> bool:
        """Whether one of them holds then."""
        return any(interval.contains(moment) for interval in self.time_intervals)


def _within(ranges: list[Range], value: int) -> bool:
    return any(begin <= value <= end for begin, end in ranges)


def _within_month(ranges: list[Range], moment: datetime) -> bool:
    next_month = (moment.replace(day=28) + timedelta(days=4)).replace(day=1)
    days = (next_month - timedelta(days=1)).day
    for begin, end in ranges:
        first = begin + days + 1 if begin < 0 else begin
        last = end + days + 1 if end < 0 else end
        if first <= days and max(first, 1) <= moment.day <= min(last, days):
            return True
    return False
