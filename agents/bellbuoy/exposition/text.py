"""The parser of the text format 0.0.4, as strict as the reference's where a mistake would be stored.

Text in, families out, in the order of the text; a sample keeps its name, labels and value as they were written. It
knows which samples belong to a histogram or a summary. OpenMetrics' `# EOF` and `# UNIT` are comments to it.
"""

import re
from dataclasses import dataclass, field

TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
# What a sample's name may add to its family's, by the family's type.
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_SPACE = re.compile(r"[ \t]*")
_NUMBER = re.compile(
    r"[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity|nan)\Z", re.IGNORECASE | re.ASCII
)
_TIMESTAMP = re.compile(r"[+-]?\d+\Z", re.ASCII)
# Nearly every line is of this plain shape: old names, no escapes, no blanks among the labels, no timestamp. It is read
# by one match, in less than half the time; all others, and all mistakes, are read step by step.
_PLAIN_PAIRS = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\\n]*)"')
_PLAIN = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"
    r'(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"(?:,|(?=\})))*)\})?'
    r"[ \t]+([+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\Z"
)
_ESCAPE = re.compile(r"\\(.)")


class ParseError(ValueError):
    """A text that is not the format; says the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: the metric's name, its labels sorted by name, its value, and its timestamp if it has one."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp_ms: int | None = None


@dataclass(slots=True)
class ParsedFamily:
    """The samples of one metric, with its type (`untyped` unless said) and its help, if any."""

    name: str
    type: str = "untyped"
    help: str | None = None
    samples: list[Sample] = field(default_factory=list)


def parse(text: str) -> dict[str, ParsedFamily]:
    """The families of a text, by name. Raises ParseError."""
    return _Parser().parse(text)


class _Parser:
    def __init__(self) -> None:
        self.families: dict[str, ParsedFamily] = {}
        self.typed: set[str] = set()
        self.line_number = 0

    def parse(self, text: str) -> dict[str, ParsedFamily]:
        if text and not text.endswith("\n"):
            last = text.count("\n") + 1
            raise ParseError(
                f"cannot read metrics: line {last}: the text ends without a line feed; end each line with one"
            )
        seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        for self.line_number, line in enumerate(text.split("\n"), start=1):
            stripped = line.strip(" \t\r")
            if not stripped:
                continue
            if stripped.startswith("#"):
                self._comment(stripped)
                continue
            sample = self._sample(stripped)
            key = (sample.name, sample.labels)
            if key in seen:
                raise self._error(f"series {sample.name} is there twice with the same labels")
            seen.add(key)
            self._family_of(sample.name).samples.append(sample)
        return {name: family for name, family in self.families.items() if family.samples}

    def _error(self, reason: str) -> ParseError:
        return ParseError(f"cannot read metrics: line {self.line_number}: {reason}")

    def _family(self, name: str) -> ParsedFamily:
        return self.families.setdefault(name, ParsedFamily(name))

    def _family_of(self, name: str) -> ParsedFamily:
        if name not in self.families:
            for kind, suffixes in SUFFIXES.items():
                for suffix in suffixes:
                    owner = self.families.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
                    if owner is not None and owner.type == kind:
                        return owner
        return self._family(name)

    def _comment(self, line: str) -> None:
        words = line[1:].lstrip(" \t").split(None, 2)
        if len(words) < 2 or words[0] not in ("HELP", "TYPE"):
            return
        keyword, name = words[0], words[1]
        rest = words[2] if len(words) > 2 else ""
        if name.startswith('"'):
            match = _QUOTED.match(line, line.index('"'))
            if match is None:
                raise self._error(f"the quotes of the name in {keyword} do not end")
            name, rest = self._unescape(match[1]), line[match.end() :].strip()
        family = self._family(name)
        if keyword == "HELP":
            if family.help is not None:
                raise self._error(f"a second HELP line for metric {name}")
            family.help = _ESCAPE.sub(lambda m: {"n": "\n", "\\": "\\"}.get(m[1], m[0]), rest)
            return
        if name in self.typed:
            raise self._error(f"a second TYPE line for metric {name}")
        if family.samples:
            raise self._error(f"the TYPE line of metric {name} comes after its samples; put it before them")
        if rest not in TYPES:
            raise self._error(f"unknown type {rest!r} of metric {name}; use one of {', '.join(TYPES)}")
        self.typed.add(name)
        family.type = rest

    def _unescape(self, text: str) -> str:
        def one(match: re.Match[str]) -> str:
            known = {"n": "\n", "\\": "\\", '"': '"'}
            if match[1] not in known:
                raise self._error(f'unknown escape {match[0]}; use \\\\, \\n or \\"')
            return known[match[1]]

        return _ESCAPE.sub(one, text) if "\\" in text else text

    def _sample(self, line: str) -> Sample:
        plain = _PLAIN.match(line)
        if plain is None:
            return self._any_sample(line)
        name, body, value = plain.groups()
        found = _PLAIN_PAIRS.findall(body) if body else []
        if len(found) > 1:
            found.sort()
            if len(dict(found)) != len(found):
                return self._any_sample(line)
        return Sample(name, tuple(found), float(value))

    def _any_sample(self, line: str) -> Sample:
        match = _NAME.match(line)
        name, at = (match[0], match.end()) if match else ("", 0)
        at = self._skip(line, at)
        pairs: dict[str, str] = {}
        if at < len(line) and line[at] == "{":
            name, at = self._labels(line, at + 1, name, pairs)
        if not name:
            raise self._error(f"no metric name in {line[:80]!r}")
        words = line[at:].split()
        if not 1 <= len(words) <= 2:
            raise self._error(
                f"expected a value and perhaps a timestamp after {name}, found {line[at:].strip()[:80]!r}"
            )
        if not _NUMBER.match(words[0]):
            raise self._error(f"expected a number as value of {name}, found {words[0][:80]!r}")
        timestamp = None
        if len(words) == 2:
            if not _TIMESTAMP.match(words[1]):
                raise self._error(f"expected milliseconds as timestamp of {name}, found {words[1][:80]!r}")
            timestamp = int(words[1])
        return Sample(name, tuple(sorted(pairs.items())), float(words[0]), timestamp)

    @staticmethod
    def _skip(line: str, at: int) -> int:
        match = _SPACE.match(line, at)
        return match.end() if match else at

    def _labels(self, line: str, at: int, name: str, pairs: dict[str, str]) -> tuple[str, int]:
        """What stands between braces, from `at`; a quoted text without a value is the metric's name."""
        while True:
            at = self._skip(line, at)
            if line[at : at + 1] == "}":
                return name, at + 1
            quoted = _QUOTED.match(line, at)
            match = quoted or _LABEL.match(line, at)
            if match is None:
                raise self._error(f"expected a label name at column {at + 1}")
            label = self._unescape(quoted[1]) if quoted else match[0]
            at = self._skip(line, match.end())
            if line[at : at + 1] == "=":
                value = _QUOTED.match(line, self._skip(line, at + 1))
                if value is None:
                    raise self._error(f'expected a quoted value of label "{label}"')
                if label in pairs:
                    raise self._error(f'label "{label}" is there twice')
                pairs[label] = self._unescape(value[1])
                at = self._skip(line, value.end())
            elif quoted and not name:
                name = label
            else:
                raise self._error(f'expected = after label "{label}"')
            if line[at : at + 1] == ",":
                at += 1
            elif line[at : at + 1] != "}":
                raise self._error(f'expected , or }} after label "{label}"')
