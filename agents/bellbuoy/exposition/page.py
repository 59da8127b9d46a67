"""One answer to a scrape while it is filled: families of samples, printed as text 0.0.4 or OpenMetrics.

A sample becomes its line of text at once: a scrape has a thousand, both formats spell a sample alike, and objects for
each would cost more than reading the kernel. What differs, the comments and the names of counters in them, is added at
the end.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

GAUGE, COUNTER, UNTYPED = "gauge", "counter", "untyped"
Value = int | float


def escape(value: str) -> str:
    """A label's value as it stands between quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def labels(**pairs: str) -> str:
    """`{name="value",…}`: what stands between a metric's name and its value."""
    return "{" + ",".join([f'{name}="{escape(value)}"' for name, value in pairs.items()]) + "}"


_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def series(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`name{label="value",…}` for any UTF-8 names: one that is not of the old alphabet stands in quotes, and a metric's
    then stands inside the braces."""
    parts = [f'{key if _LABEL.match(key) else _quoted(key)}="{escape(value)}"' for key, value in pairs]
    if not _METRIC.match(name):
        return "{" + ",".join([_quoted(name), *parts]) + "}"
    return name + ("{" + ",".join(parts) + "}" if parts else "")


def _quoted(text: str) -> str:
    return f'"{escape(text)}"'


def number(value: Value) -> str:
    """A value as both formats write it; integers stay exact."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    return repr(value)


class Family:
    """One metric: its kind, its help, and the lines of its samples so far."""

    __slots__ = ("help", "kind", "lines", "name")

    def __init__(self, name: str, kind: str, help_text: str) -> None:
        self.name, self.kind, self.help = name, kind, help_text
        self.lines: list[str] = []

    def add(self, value: Value, label_text: str = "") -> None:
        """One sample; `label_text` is what `labels()` makes."""
        self.lines.append(f"{self.name}{label_text} {number(value)}")


class Page:
    """The families of one scrape, by name."""

    def __init__(self) -> None:
        self.families: dict[str, Family] = {}

    def family(self, name: str, kind: str, help_text: str) -> Family:
        """The family of this name; the first to ask decides its kind and help."""
        found = self.families.get(name)
        if found is None:
            found = self.families[name] = Family(name, kind, help_text)
        return found

    def gauge(self, name: str, help_text: str, value: Value, label_text: str = "") -> None:
        """A sample of a gauge."""
        self.family(name, GAUGE, help_text).add(value, label_text)

    def counter(self, name: str, help_text: str, value: Value, label_text: str = "") -> None:
        """A sample of a counter."""
        self.family(name, COUNTER, help_text).add(value, label_text)

    def untyped(self, name: str, help_text: str, value: Value, label_text: str = "") -> None:
        """A sample of a metric that says not what it is."""
        self.family(name, UNTYPED, help_text).add(value, label_text)

    def info(self, name: str, help_text: str, pairs: Mapping[str, str]) -> None:
        """A sample whose value is always 1: its labels are what it says."""
        self.family(name, GAUGE, help_text).add(1, labels(**pairs))

    def text(self) -> str:
        """The page in the text format 0.0.4."""
        return self._print(_text_header)

    def openmetrics(self) -> str:
        """The page in OpenMetrics 1.0, without its `# EOF`, since the part's own metrics follow.

        There a counter's family is named without `_total`; a counter that has no such ending is of unknown type.
        """
        return self._print(_openmetrics_header)

    def _print(self, header: Callable[[str, str, str], str]) -> str:
        out: list[str] = []
        for name in sorted(self.families):
            family = self.families[name]
            if family.lines:
                out.append(header(name, family.kind, family.help))
                out.extend(family.lines)
        return "\n".join(out) + "\n" if out else ""


# Headers are the same at each scrape; as many are kept as a page has families, and some more.
@lru_cache(2048)
def _text_header(name: str, kind: str, about: str) -> str:
    shown = name if _METRIC.match(name) else _quoted(name)
    return f"# HELP {shown} {_help(about)}\n# TYPE {shown} {kind}"


@lru_cache(2048)
def _openmetrics_header(name: str, kind: str, about: str) -> str:
    base = name
    if kind == COUNTER and name.endswith("_total"):
        base = name[: -len("_total")]
    elif kind in (COUNTER, UNTYPED):
        kind = "unknown"
    shown = base if _METRIC.match(base) else _quoted(base)
    text = _help(about).replace('"', '\\"')
    return f"# HELP {shown} {text}\n# TYPE {shown} {kind}"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
