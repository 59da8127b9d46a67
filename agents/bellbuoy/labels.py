"""Label names, values and matchers, as every part reads and prints them.

Labels are a plain `dict[str, str]`, the metric's name under `__name__`; an empty value is no label. Regular expressions
are RE2's language, matched by the core's engine and fully anchored: Python's `re` never sees a user's pattern.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bellbuoy import _core

NAME = "__name__"
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
OPERATORS = ("=", "!=", "=~", "!~")


class MatcherError(ValueError):
    """A matcher that cannot be read; the text says where and how to mend it."""


def is_legacy_label_name(text: str) -> bool:
    """Whether the name needs no quotes anywhere (UTF-8 names do)."""
    return bool(_LABEL_NAME.match(text))


def is_legacy_metric_name(text: str) -> bool:
    """Whether the metric's name needs no quotes anywhere."""
    return bool(_METRIC_NAME.match(text))


def quote(text: str) -> str:
    """A double-quoted string as PromQL and the text format read it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def format_labels(labels: Mapping[str, str]) -> str:
    """`name{a="b"}`, sorted; UTF-8 names quoted."""
    name = labels.get(NAME, "")
    pairs = [
        f"{key if is_legacy_label_name(key) else quote(key)}={quote(value)}"
        for key, value in sorted(labels.items())
        if key != NAME
    ]
    if name and not is_legacy_metric_name(name):
        return "{" + ", ".join([quote(name), *pairs]) + "}"
    return name + ("{" + ", ".join(pairs) + "}" if pairs or not name else "")


@dataclass(frozen=True)
class Matcher:
    """`name operator value`: what a selector, a route or a silence asks of a label. A label that is absent is empty."""

    name: str
    operator: str
    value: str

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise MatcherError(f'cannot use operator "{self.operator}": use one of {" ".join(OPERATORS)}')
        if self.operator in ("=~", "!~"):
            object.__setattr__(self, "_regex", _core.Regex(self.value))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy it."""
        return self.matches_value(labels.get(self.name, ""))

    def matches_value(self, value: str) -> bool:
        """Whether a value of the label satisfies it."""
        if self.operator == "=":
            return value == self.value
        if self.operator == "!=":
            return value != self.value
        return self._regex.matches(value) == (self.operator == "=~")  # type: ignore[attr-defined, no-any-return]

    def __str__(self) -> str:
        name = self.name if is_legacy_label_name(self.name) else quote(self.name)
        return f"{name}{self.operator}{quote(self.value)}"
