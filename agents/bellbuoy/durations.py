"""Durations as Prometheus writes them: `15s`, `1h30m`, `2w`.

Configuration, resources, rules and PromQL all speak this form; inside the program a duration is a number of seconds.
"""

import re

UNIT_SECONDS = {"y": 365 * 86400.0, "w": 7 * 86400.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+)(ms|[ywdhms])")
PATTERN = r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$"
_WHOLE = re.compile(PATTERN)


class DurationError(ValueError):
    """A text that is no duration."""


def parse_duration(text: str) -> float:
    """Seconds of a text such as `1h30m`. Units come from large to small, each once; `0` needs none."""
    if not text or not _WHOLE.match(text):
        raise DurationError(f'cannot read duration "{text}": write numbers with units, large to small, such as 1h30m')
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest such text, rounded to milliseconds: 5400 is `1h30m`; weeks and years only when nothing is left."""
    rest = round(seconds * 1000)
    if rest == 0:
        return "0s"
    sign, rest = ("-", -rest) if rest < 0 else ("", rest)
    parts = []
    for unit, exact in (
        ("y", True),
        ("w", True),
        ("d", False),
        ("h", False),
        ("m", False),
        ("s", False),
        ("ms", False),
    ):
        size = round(UNIT_SECONDS[unit] * 1000)
        if rest >= size and (not exact or rest % size == 0):
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return sign + "".join(parts)
