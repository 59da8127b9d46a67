"""The functions that templates may call: Prometheus's, and those of Go's text/template that make sense here.

`functions()` gives the table for one expansion; `query` asks the engine at the time of the evaluation. Regular
expressions are RE2's, run by the core.
"""

import math
import re
from collections.abc import Callable, Sequence
from html import escape
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, quote_plus

from bellbuoy._core import Regex
from bellbuoy.durations import parse_duration
from bellbuoy.rules.go_format import GoDuration, GoTime, format_value, sprintf

Samples = list[dict[str, Any]]
# Replacing works on texts up to this; longer ones stay as they are cut by the template's own limit anyway.
REPLACE_LIMIT = 1000


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)
_NANOSECONDS_LIMIT = 2**63


def _number(value: Any) -> float:
    if isinstance(value, GoDuration):
        return value.seconds
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError(f'strconv.ParseFloat: parsing "{value}": invalid syntax')
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"can't convert {format_value(value)} to a number")  # noqa: TRY004
    return float(value)


def _trimmed(value: float) -> str:
    """Go's %.4g."""
    if math.isnan(value) or math.isinf(value):
        return format_value(value)
    return f"{value:.4g}"


def humanize(value: Any) -> str:
    """`1234567` as `1.235M`."""
    number = _number(value)
    if number == 0 or math.isnan(number) or math.isinf(number):
        return _trimmed(number)
    prefix = ""
    if abs(number) >= 1:
        for one in ("k", "M", "G", "T", "P", "E", "Z", "Y"):
            if abs(number) < 1000:
                break
            prefix, number = one, number / 1000
        return _trimmed(number) + prefix
    for one in ("m", "u", "n", "p", "f", "a", "z", "y"):
        if abs(number) >= 1:
            break
        prefix, number = one, number * 1000
    return _trimmed(number) + prefix


def humanize1024(value: Any) -> str:
    """`1048576` as `1Mi`."""
    number = _number(value)
    if abs(number) <= 1 or math.isnan(number) or math.isinf(number):
        return _trimmed(number)
    prefix = ""
    for one in ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"):
        if abs(number) < 1024:
            break
        prefix, number = one, number / 1024
    return _trimmed(number) + prefix


def humanize_duration(value: Any) -> str:
    """Seconds as `1d 2h 3m 4s`."""
    number = _number(value)
    if math.isnan(number) or math.isinf(number):
        return _trimmed(number)
    if number == 0:
        return "0s"
    if abs(number) >= 1:
        sign, rest = ("-", -number) if number < 0 else ("", number)
        seconds = int(rest) % 60
        minutes, hours, days = int(rest) // 60 % 60, int(rest) // 3600 % 24, int(rest) // 86400
        if days:
            return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
        if hours:
            return f"{sign}{hours}h {minutes}m {seconds}s"
        if minutes:
            return f"{sign}{minutes}m {seconds}s"
        return f"{sign}{_trimmed(rest)}s"
    prefix = ""
    for one in ("m", "u", "n", "p", "f", "a", "z", "y"):
        if abs(number) >= 1:
            break
        prefix, number = one, number * 1000
    return f"{_trimmed(number)}{prefix}s"


def humanize_percentage(value: Any) -> str:
    """`0.1234` as `12.34%`."""
    return f"{_trimmed(_number(value) * 100)}%"


def to_time(value: Any) -> GoTime:
    """A time from seconds since 1970."""
    number = _number(value)
    if math.isnan(number) or math.isinf(number):
        raise ValueError("value is NaN or Inf")
    nanoseconds = number * 1e9
    if abs(nanoseconds) > _NANOSECONDS_LIMIT:
        raise ValueError(
            f"{format_value(number)} cannot be represented as a nanoseconds timestamp since it overflows int64"
        )
    return GoTime(int(int(nanoseconds) / 1_000_000))


def to_duration(value: Any) -> GoDuration:
    """A duration from seconds."""
    nanoseconds = _number(value) * 1e9
    if not abs(nanoseconds) < _NANOSECONDS_LIMIT:
        raise ValueError(f"{format_value(value)} seconds are no duration; they overflow int64")
    return GoDuration(int(nanoseconds))


def humanize_timestamp(value: Any) -> str:
    """Seconds since 1970 as `2015-09-17 00:36:14.5 +0000 UTC`."""
    number = _number(value)
    if math.isnan(number) or math.isinf(number):
        return _trimmed(number)
    return str(to_time(number))


def duration_seconds(text: str) -> float:
    """`1h30m` as seconds; it may be negative."""
    return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text)


def title(text: str) -> str:
    """The first letter of each word large, the rest as it is."""
    return re.sub(r"(?<![\w'’])\d*[^\W\d_]", lambda match: match.group().upper(), text)


def re_replace_all(pattern: str, replacement: str, text: str) -> str:
    """Every match replaced, `$1` filled in. The core matches whole texts, so each match is found by its rests."""
    if len(text) > REPLACE_LIMIT:
        raise ValueError(f"the text has more than {REPLACE_LIMIT} characters")
    out, at, last = "", 0, -1
    while at <= len(text):
        start = f"(?s:.{{{at}}})"
        before = Regex(f"{start}(?P<bellbuoy_before>(?s:.*?))(?:{pattern})(?s:.*)")
        skipped = before.expand(text, "${bellbuoy_before}")
        if skipped is None:
            break
        whole = Regex(f"{start}(?s:.*?)(?:{pattern})(?P<bellbuoy_after>(?s:.*))")
        after = whole.expand(text, "${bellbuoy_after}") or ""
        end = len(text) - len(after)
        # An empty match right behind another one is none, as in Go.
        empty = end == at + len(skipped)
        out += skipped + ("" if empty and end == last else whole.expand(text, replacement) or "")
        last = end
        if empty:  # go on behind the next character
            out += text[end : end + 1]
            end += 1
        at = end
    return out + text[at:]


def re_match(pattern: str, text: str) -> bool:
    """Whether the pattern matches anywhere."""
    return Regex(f"(?s:.*)(?:{pattern})(?s:.*)").matches(text)


def _host_and_port(address: str) -> tuple[str, str] | None:
    """`host:port` or `[host]:port` taken apart; None when it is neither."""
    if address.startswith("["):
        host, closed, port = address[1:].partition("]")
        fits = closed and port.startswith(":") and not re.search(r"[\[\]:]", port[1:]) and "[" not in host
        return (host, port[1:]) if fits else None
    host, colon, port = address.rpartition(":")
    return (host, port) if colon and not re.search(r"[:\[\]]", host) and not re.search(r"[\[\]]", port) else None


def strip_port(address: str) -> str:
    """`host:9100` as `host`."""
    found = _host_and_port(address)
    return address if found is None else found[0]


def strip_domain(address: str) -> str:
    """`host.example.com:9100` as `host:9100`; addresses of numbers stay."""
    host, port = _host_and_port(address) or (address, "")
    try:
        ip_address(host)
    except ValueError:
        pass  # it is a name
    else:
        return address
    short = host.partition(".")[0]
    if not port:
        return short
    return f"[{short}]:{port}" if ":" in short else f"{short}:{port}"


# What may not stand as it is in a text of JavaScript.
_SCRIPT = {code: f"\\u{code:04X}" for code in (*range(32), *map(ord, "<>&="))}
_SCRIPT |= {ord("\\"): "\\\\", ord("'"): "\\'", ord('"'): '\\"'}


def _first(samples: Sequence[Any]) -> Any:
    if not samples:
        raise ValueError("first() called on vector with no elements")
    return samples[0]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


def _slice(value: Any, *bounds: int) -> Any:
    size = len(value.encode()) if isinstance(value, str) else len(value)
    low, high = (*bounds, *(0, size)[len(bounds) :])[:2]
    if len(bounds) > 2 or not 0 <= low <= high <= size:
        raise ValueError(f"index out of range: {', '.join(map(str, bounds))}")
    return value.encode()[low:high].decode(errors="replace") if isinstance(value, str) else value[low:high]


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def function(a: Any, b: Any) -> bool:
        if isinstance(a, str) != isinstance(b, str):
            raise ValueError("incompatible types for comparison")
        return compare(a, b)

    return function


def _print(*values: Any) -> str:
    out = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += format_value(value)
    return out


def functions(
    *, query: Callable[[str], Samples], external_url: str = "", now: float = 0.0
) -> dict[str, Callable[..., Any]]:
    """The table for one expansion; `now` is the evaluation's time."""
    _, slash, path = external_url.partition("://")[2].partition("/")
    path_prefix = slash + path.rstrip("/")

    def link(expression: str, tab: int) -> str:
        return f"/graph?g0.expr={quote_plus(expression)}&g0.tab={tab}"

    return {
        "query": query,
        "first": _first,
        "label": lambda name, sample: sample["Labels"].get(name, ""),
        "value": lambda sample: sample["Value"],
        "strvalue": lambda sample: sample["Labels"].get("__value__", ""),
        "sortByLabel": lambda name, samples: sorted(samples, key=lambda sample: sample["Labels"].get(name, "")),
        "args": lambda *values: {f"arg{at}": value for at, value in enumerate(values)},
        "humanize": humanize,
        "humanize1024": humanize1024,
        "humanizeDuration": humanize_duration,
        "humanizePercentage": humanize_percentage,
        "humanizeTimestamp": humanize_timestamp,
        "toTime": to_time,
        "toDuration": to_duration,
        "now": lambda: float(now),
        "parseDuration": duration_seconds,
        "title": title,
        "toUpper": lambda text: text.upper(),
        "toLower": lambda text: text.lower(),
        "stripPort": strip_port,
        "stripDomain": strip_domain,
        "match": re_match,
        "reReplaceAll": re_replace_all,
        "graphLink": lambda expression: link(expression, 0),
        "tableLink": lambda expression: link(expression, 1),
        "externalURL": lambda: external_url,
        "pathPrefix": lambda: path_prefix,
        "safeHtml": lambda text: text,
        "urlQueryEscape": quote_plus,
        "urlquery": lambda *values: quote_plus(_print(*values)),
        "urlpath": lambda text: quote(text),
        "html": lambda *values: escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
        "js": lambda *values: _print(*values).translate(_SCRIPT),
        "printf": sprintf,
        "print": _print,
        "println": lambda *values: " ".join(format_value(value) for value in values) + "\n",
        "len": lambda value: len(value.encode()) if isinstance(value, str) else len(value),
        "index": _index,
        "slice": _slice,
        "not": lambda value: not value,
        "eq": _equal,
        "ne": lambda a, b: a != b,
        "lt": _ordered(lambda a, b: a < b),
        "le": _ordered(lambda a, b: a <= b),
        # As in Go they are the opposite of le and lt, so that NaN is above everything.
        "gt": _ordered(lambda a, b: not a <= b),
        "ge": _ordered(lambda a, b: not a < b),
    }


def _no_query(_: str) -> Samples:
    return []


# The names, for checking a template before there is anything to ask.
KNOWN = functions(query=_no_query)
