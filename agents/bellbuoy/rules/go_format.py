"""Values as Go prints them, since rules were written for it: `%v` of numbers, lists and maps, and `printf`.

A verb that does not fit its value prints `%!d(float64=1.5)`, as in Go: a wrong annotation must not hide the alert.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bellbuoy.exposition import go_number
from bellbuoy.tsdb import Histogram

_VERB = re.compile(r"%([-+# 0]*)(\d+)?(?:\.(\d*))?(.)", re.DOTALL)
# Widths and precisions past this are cut: nobody reads them, and they cost memory.
WIDTH_LIMIT = 1000


class GoValue(ABC):
    """A value with fields of its own that is neither text nor number."""

    def field(self, name: str) -> Any:
        """A field. Raises ValueError for one that there is not."""
        fields = self._fields()
        if name not in fields:
            raise ValueError(f"can't evaluate field {name} in {self}; use one of {', '.join(fields)}")
        return fields[name]

    @abstractmethod
    def _fields(self) -> dict[str, Any]:
        """Its fields by name."""


@dataclass(frozen=True)
class GoTime(GoValue):
    """A time in UTC, in milliseconds since 1970; prints as Go's does."""

    milliseconds: int

    def _when(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.milliseconds)

    def __str__(self) -> str:
        when = self._when()
        fraction = f".{when.microsecond:06d}".rstrip("0") if when.microsecond else ""
        return when.strftime("%Y-%m-%d %H:%M:%S") + f"{fraction} +0000 UTC"

    def _fields(self) -> dict[str, Any]:
        when = self._when()
        return {
            "Year": when.year, "Month": when.strftime("%B"), "Day": when.day, "Weekday": when.strftime("%A"),
            "YearDay": when.timetuple().tm_yday, "Hour": when.hour, "Minute": when.minute, "Second": when.second,
            "Unix": self.milliseconds // 1000, "UnixMilli": self.milliseconds,
        }  # fmt: skip


@dataclass(frozen=True)
class GoDuration(GoValue):
    """A duration in nanoseconds; prints as Go's does: `1h2m3.5s`."""

    nanoseconds: int

    def __str__(self) -> str:
        sign, rest = ("-", -self.nanoseconds) if self.nanoseconds < 0 else ("", self.nanoseconds)
        for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
            if rest < size * 1000:
                return f"{sign}{_decimal(rest, size)}{unit}" if rest else "0s"
        minutes, seconds = divmod(rest, 60_000_000_000)
        hours, minutes = divmod(minutes, 60)
        text = f"{_decimal(seconds, 1_000_000_000)}s"
        return sign + (f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text)

    @property
    def seconds(self) -> float:
        """The same as a number."""
        return self.nanoseconds / 1e9

    def _fields(self) -> dict[str, Any]:
        seconds = self.seconds
        return {
            "Hours": seconds / 3600, "Minutes": seconds / 60, "Seconds": seconds,
            "Milliseconds": int(self.nanoseconds / 1e6), "String": str(self),
        }  # fmt: skip


def _decimal(number: int, size: int) -> str:
    """The number in units of so many, without needless zeros."""
    whole, part = divmod(number, size)
    digits = len(str(size)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0") if part else str(whole)


def format_histogram(histogram: Histogram) -> str:
    """A native histogram as Go prints it: count, sum and the buckets that are not empty."""
    parts = [f"count:{go_number(histogram.count)}", f"sum:{go_number(histogram.sum)}"]
    for lower, upper, from_, to, count in histogram.buckets():
        edges = f"{'[' if from_ else '('}{go_number(lower)},{go_number(upper)}{']' if to else ')'}"
        parts.append(f"{edges}:{go_number(count)}")
    return "{" + ", ".join(parts) + "}"


def format_value(value: Any) -> str:
    """Go's %v of what templates can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        return go_number(value)
    if isinstance(value, Histogram):
        return format_histogram(value)
    if isinstance(value, Mapping):
        if "Labels" in value and "Value" in value:
            return f"{{{format_value(value['Labels'])} {format_value(value['Value'])}}}"
        return "map[" + " ".join(f"{key}:{format_value(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(format_value(item) for item in value) + "]"
    return str(value)


def _type_name(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string"}
    return names.get(type(value), "<nil>" if value is None else "map" if isinstance(value, Mapping) else "slice")


def _one(verb: str, flags: str, precision: int | None, value: Any) -> str | None:
    """The value in this verb's form, unpadded; None when it does not fit."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb == "v":
        return format_value(value)
    if verb == "T":
        return _type_name(value)
    if verb == "t":
        return format_value(value) if isinstance(value, bool) else None
    if verb == "s":
        if number or isinstance(value, bool) or value is None:
            return None
        text = format_value(value)
        return text if precision is None else text[:precision]
    if verb == "q":
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else None
    if verb in "dxXob" and isinstance(value, int) and not isinstance(value, bool):
        return format(value, ("+" if "+" in flags else "") + verb)
    if verb in "xX" and isinstance(value, str):
        text = value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb == "c" and isinstance(value, int) and 0 <= value < 0x110000:
        return chr(value)
    if verb in "eEfFgG" and isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return go_number(value)
        if verb in "gG" and precision is None:
            text = go_number(value)
            return text.upper() if verb == "G" else text
        return format(value, f"{'+' if '+' in flags else ''}.{6 if precision is None else precision}{verb}")
    return None


def sprintf(form: str, *values: Any) -> str:
    """Go's fmt.Sprintf for the verbs that templates use."""
    used = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal used
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if used >= len(values):
            return f"%!{verb}(MISSING)"
        value = values[used]
        used += 1
        cut = None if precision is None else min(int(precision or 0), WIDTH_LIMIT)
        text = _one(verb, flags, cut, value)
        if text is None:
            return f"%!{verb}({_type_name(value)}={format_value(value)})" if value is not None else f"%!{verb}(<nil>)"
        size = min(int(width or 0), WIDTH_LIMIT)
        if "-" in flags:
            return text.ljust(size)
        zeros = "0" in flags and verb in "dfFeEgGxX" and text[-1] not in "fN"
        return text.zfill(size) if zeros else text.rjust(size)

    out = _VERB.sub(replace, form)
    if used < len(values):
        extra = ", ".join(f"{_type_name(value)}={format_value(value)}" for value in values[used:])
        out += f"%!(EXTRA {extra})"
    return out
