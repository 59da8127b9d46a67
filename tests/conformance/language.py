"""Prometheus's test language: a file to a list of commands.

Blocks are separated by blank lines, and a comment counts as one. The commands are `clear`, `load`, `eval instant` and
`eval range`; what an eval expects stands below it.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from bellbuoy.durations import DurationError, parse_duration
from bellbuoy.promql import QueryError, parse
from bellbuoy.promql.nodes import VectorSelector
from tests.conformance.native import Native
from tests.conformance.native import number as parse_number

STALE_BITS = 0x7FF0000000000002


class Mark(Enum):
    """What stands in a sequence and is no float."""

    STALE = "stale"


Value: TypeAlias = float | Mark | Native | None
Labels: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class Clear:
    """Forget what was loaded."""


@dataclass(frozen=True)
class Load:
    """Series with a sample each interval, from time zero.

    Starts say when a sample's counter began, in milliseconds after the sample, for the series that have any.
    """

    line: int
    interval_ms: int
    series: list[tuple[Labels, list[Value], list[int | None]]]
    with_native_buckets: bool


@dataclass(frozen=True)
class Expectation:
    """`expect fail`, `expect warn msg: …` and their like."""

    kind: str
    text: str | None = None
    pattern: str | None = None

    def matches(self, message: str) -> bool:
        """Whether the message is the one."""
        if self.pattern is not None:
            return re.search(self.pattern, message) is not None
        return self.text is None or self.text == message


@dataclass
class Eval:
    """A query and what it must give. An instant one has `start == end` and no step."""

    line: int
    query: str
    start_ms: int
    end_ms: int
    step_ms: int = 0
    expectations: list[Expectation] = field(default_factory=list)
    series: list[tuple[Labels, list[Value]]] = field(default_factory=list)
    scalar: float | None = None
    text: str | None = None
    range_vector: tuple[int, int, int] | None = None

    @property
    def is_range(self) -> bool:
        """Whether it is a range query."""
        return self.step_ms > 0

    def expects(self, kind: str) -> list[Expectation]:
        """The expectations of one kind."""
        return [expectation for expectation in self.expectations if expectation.kind == kind]


@dataclass(frozen=True)
class Broken:
    """A block that is not written in the test language; `is_eval` says whether it is a case."""

    line: int
    reason: str
    is_eval: bool


Command: TypeAlias = Clear | Load | Eval | Broken


class LanguageError(ValueError):
    """A file that is not written in the test language."""


_INSTANT = re.compile(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$")
_RANGE = re.compile(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
_EXPECT = re.compile(r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$")
_EXPECT_RANGE = re.compile(r"^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$")
_ITEM = re.compile(r"\{\{.*?\}\}(?:[+-]\{\{.*?\}\})?(?:x\d+)?|\S+")
_NATIVE = re.compile(r"\{\{(.*?)\}\}(?:([+-])\{\{(.*?)\}\})?(?:x(\d+))?")
_START = re.compile(r"([+-]?\d[0-9a-wyz]*)(?:([+-])(\d[0-9a-wyz]*))?(?:x(\d+))?")
_NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[iI]nf|[nN]a[nN])"
_SEQUENCE = re.compile(rf"({_NUMBER})(?:([+-])({_NUMBER}))?(?:x(\d+))?")


def read(path: Path) -> list[Command]:
    """The commands of a file."""
    return [_command(number, block) for number, block in _blocks(path.read_bytes().decode("utf-8", "surrogateescape"))]


def _command(number: int, block: list[str]) -> Command:
    word = block[0].split()[0].lower()
    try:
        if word == "clear":
            return Clear()
        if word.startswith("load"):
            return _load(number, block)
        if word.startswith("eval"):
            return _eval(number, block)
    except (ValueError, QueryError) as e:
        return Broken(number, f"cannot read it: {e}", word.startswith("eval"))
    return Broken(number, f"there is no command {word}", is_eval=False)


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    block: list[str] = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        line = line.strip()
        if line and not line.startswith("#"):
            first = number if not block else first
            block.append(line)
            if line.lower() == "clear":
                yield first, block
                block = []
        elif block:
            yield first, block
            block = []


def milliseconds(text: str) -> int:
    """A duration, or a number of seconds."""
    text = text.strip()
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    try:
        return sign * round(parse_duration(text) * 1000)
    except DurationError:
        return sign * round(float(text) * 1000)


def _load(number: int, block: list[str]) -> Load:
    word, interval = block[0].split()
    series = []
    starts: list[int | None] = []
    for line in block[1:]:
        if _is_starts(line):
            starts = list(_starts_of(line.partition("@st")[2]))
            continue
        labels, values = _series(line)
        if starts and len(starts) != len(values):
            raise LanguageError(f"line {number}: {len(starts)} starts for {len(values)} samples: {line}")
        series.append((labels, values, starts))
        starts = []
    return Load(number, milliseconds(interval), series, word.lower() == "load_with_nhcb")


def _is_starts(line: str) -> bool:
    return re.split(r"[ \t]", line, maxsplit=1)[0].endswith("@st")


def _starts_of(text: str) -> Iterator[int | None]:
    for item in text.split():
        if item.startswith("_"):
            yield from [None] * (int(item[2:]) if item[1:] else 1)
            continue
        match = _START.fullmatch(item)
        if match is None:
            raise LanguageError(f"no start: {item}")
        first, sign, step, count = match.groups()
        start = milliseconds(first.removeprefix("+"))
        change = 0 if step is None else milliseconds(step) * (-1 if sign == "-" else 1)
        yield from (start + change * place for place in range(int(count or 0) + 1))


def _series(line: str) -> tuple[Labels, list[Value]]:
    end = _end_of_labels(line)
    return labels_of(line[:end].strip()), list(values_of(line[end:]))


def _end_of_labels(line: str) -> int:
    quote = ""
    depth = 0
    position = 0
    while position < len(line):
        character = line[position]
        if quote:
            if character == "\\" and quote != "`":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'`":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position + 1
        elif character.isspace() and depth == 0:
            rest = line[position:].lstrip()
            if not rest.startswith("{") or rest.startswith("{{"):
                return position
        position += 1
    return len(line)


def labels_of(text: str) -> Labels:
    """The labels of `name{a="b"}`."""
    if re.fullmatch(r"\{\s*\}", text):
        return {}
    selector = parse(text)
    if not isinstance(selector, VectorSelector):
        raise LanguageError(f"no series: {text}")
    labels = {matcher.name: matcher.value for matcher in selector.matchers if matcher.value}
    return labels | ({"__name__": selector.name} if selector.name else {})


def values_of(text: str) -> Iterator[Value]:
    """The values of a sequence such as `1 2+3x4 _ stale`."""
    for item in _ITEM.findall(text):
        if item.startswith("{{"):
            yield from _natives_of(item)
        elif item.startswith("_"):
            yield from [None] * (int(item[2:]) if item[1:] else 1)
        elif item == "stale":
            yield Mark.STALE
        else:
            match = _SEQUENCE.fullmatch(item)
            if match is None:
                raise LanguageError(f"no values: {item}")
            first, sign, step, count_text = match.groups()
            value = parse_number(first)
            yield value
            change = 0.0 if step is None else parse_number(step) * (-1 if sign == "-" else 1)
            for _ in range(int(count_text or 0)):
                value += change
                yield value


def _natives_of(item: str) -> Iterator[Native]:
    match = _NATIVE.fullmatch(item)
    if match is None:
        raise LanguageError(f"no histogram: {item}")
    first, sign, step, count = match.groups()
    value = Native.read(first)
    change = None if step is None else Native.read(step)
    yield value if change is None else replace(value, has_hint=change.has_hint)
    for _ in range(int(count or 0)):
        if change is not None:
            value = value.plus(change, -1 if sign == "-" else 1)
        yield value


def _eval(number: int, block: list[str]) -> Eval:
    head = block[0]
    instant, ranged = _INSTANT.match(head), _RANGE.match(head)
    if ranged:
        kind, start, end, step, query = ranged.groups()
        case = Eval(number, query, milliseconds(start), milliseconds(end), milliseconds(step))
    elif instant:
        kind, at, query = instant.groups()
        case = Eval(number, query, milliseconds(at or "0"), milliseconds(at or "0"))
    else:
        raise LanguageError(f"line {number}: cannot read {head}")
    if kind:
        case.expectations.append(Expectation(kind))
    for line in block[1:]:
        if _body(case, line):
            break
    return case


def _body(case: Eval, line: str) -> bool:
    """Take one line of an eval's body; whether it was the last."""
    if match := _EXPECT_RANGE.match(line):
        case.range_vector = (milliseconds(match[1]), milliseconds(match[2]), milliseconds(match[3]))
    elif line.startswith("expect string"):
        case.text = _unquote(line.removeprefix("expect string").strip())
    elif line.startswith("expect "):
        match = _EXPECT.match(line)
        if match is None:
            raise LanguageError(f"line {case.line}: cannot read {line}")
        kind, form, text = match.groups()
        text = None if text is None else text.strip()
        is_pattern = form == "regex"
        case.expectations.append(Expectation(kind, None if is_pattern else text, text if is_pattern else None))
    elif line.startswith("expected_fail_message"):
        case.expectations.append(Expectation("fail", line.removeprefix("expected_fail_message").strip()))
    elif line.startswith("expected_fail_regexp"):
        case.expectations.append(Expectation("fail", None, line.removeprefix("expected_fail_regexp").strip()))
    elif re.fullmatch(_NUMBER, line):
        case.scalar = parse_number(line)
        return True
    else:
        case.series.append(_series(line))
    return False


def _unquote(text: str) -> str:
    return text[1:-1] if text.startswith("`") else str(ast.literal_eval(text))
