"""Matchers as routes, silences and filters write them: `severity=~"a|b"`, with or without braces and quotes.

Alertmanager has two grammars: one with UTF-8 names and reserved characters, and the classic one. As there, what only
the classic one can read is read by it; what both read differently goes by the classic one.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from bellbuoy.labels import Matcher, MatcherError, format_labels

Matchers: TypeAlias = tuple[Matcher, ...]

_RESERVED = r"{}!=~,\\\"'`\s"
_TOKEN = re.compile(
    rf'\s*(?:(?P<mark>[{{}},])|(?P<operator>=~|!=|!~|=)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<plain>[^{_RESERVED}]+))', re.S
)
_CLASSIC = re.compile(r"^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*(.*?)\s*$", re.S)
_CURE = 'write name="value", with one of = != =~ !~'


def parse_matchers(text: str) -> Matchers:
    """Any number of matchers. Raises MatcherError."""
    try:
        classic = _parse_classic(text)
    except MatcherError:
        return _parse_utf8(text)
    try:
        modern = _parse_utf8(text)
    except MatcherError:
        return classic
    return modern if _as_tuples(modern) == _as_tuples(classic) else classic


def parse_matcher(text: str) -> Matcher:
    """Just one, without braces. Raises MatcherError."""
    if text.startswith("{") or text.endswith("}"):
        raise MatcherError(f"cannot read matcher {text}: unexpected brace; {_CURE}")
    matchers = parse_matchers(text)
    if len(matchers) != 1:
        raise MatcherError(f'cannot read matcher "{text}": it holds {len(matchers)}; {_CURE}')
    return matchers[0]


def make_matcher(name: str, operator: str, value: str) -> Matcher:
    """A matcher; a pattern that cannot be read is a MatcherError too."""
    if not name:
        raise MatcherError(f"cannot use a matcher without a label name: {_CURE}")
    try:
        return Matcher(name, operator, value)
    except MatcherError:
        raise
    except ValueError as e:
        raise MatcherError(f'cannot read regular expression "{value}" of {name}: {e}; it is RE2\'s language') from e


def matches_all(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether the labels satisfy each of them."""
    return all(matcher.matches(labels) for matcher in matchers)


def format_matchers(matchers: Sequence[Matcher]) -> str:
    """`{a="b",c=~"d"}`, as Alertmanager prints them: they are part of a group's key."""
    return "{" + ",".join(format_matcher(matcher) for matcher in matchers) + "}"


def format_matcher(matcher: Matcher) -> str:
    """`name="value"`; a name with reserved characters is quoted."""
    if re.search(f"[{_RESERVED}]", matcher.name):
        return f"{json.dumps(matcher.name, ensure_ascii=False)}{matcher.operator}{json.dumps(matcher.value)}"
    value = matcher.value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{matcher.name}{matcher.operator}"{value}"'


def ordered(matchers: Iterable[Matcher]) -> Matchers:
    """As a route keeps them: by name, value, operator."""
    return tuple(sorted(matchers, key=lambda m: (m.name, m.value, ("=", "!=", "=~", "!~").index(m.operator))))


def selector(labels: Mapping[str, str]) -> str:
    """The matchers that these labels, and no fewer, satisfy: what a silence link is filled with."""
    return format_labels(dict(labels))


def _as_tuples(matchers: Matchers) -> list[tuple[str, str, str]]:
    return [(m.name, m.operator, m.value) for m in matchers]


def _parse_utf8(text: str) -> Matchers:
    tokens = _tokens(text)
    braced = bool(tokens) and tokens[0] == ("mark", "{")
    if braced:
        if tokens[-1] != ("mark", "}"):
            raise MatcherError(f"cannot read matchers {text}: a brace is not closed; {_CURE}")
        tokens = tokens[1:-1]
    matchers, at = [], 0
    while at < len(tokens):
        part = tokens[at : at + 3]
        kinds = [kind for kind, _ in part]
        if len(part) < 3 or kinds[0] != "text" or kinds[1] != "operator" or kinds[2] != "text":
            raise MatcherError(f'cannot read matchers {text}: no matcher at "{_show(tokens[at:])}"; {_CURE}')
        matchers.append(make_matcher(part[0][1], part[1][1], part[2][1]))
        at += 3
        if at < len(tokens) and tokens[at] != ("mark", ","):
            raise MatcherError(f'cannot read matchers {text}: expected a comma before "{_show(tokens[at:])}"')
        at += 1
    return tuple(matchers)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise MatcherError(f'cannot read matchers {text}: unexpected "{text[at:]}"; {_CURE}')
        kind, value = found.lastgroup, found[found.lastgroup]
        if kind == "quoted":
            try:
                value = json.loads(value, strict=False)
            except ValueError as e:
                raise MatcherError(f"cannot read matchers {text}: {value} is no quoted text: {e}") from e
        tokens.append(("text" if kind in ("quoted", "plain") else kind, value))
        at = found.end()
    return tokens


def _show(tokens: list[tuple[str, str]]) -> str:
    return " ".join(value for _, value in tokens[:3])


def _parse_classic(text: str) -> Matchers:
    text = text.removeprefix("{").removesuffix("}")
    parts, current, quoted, escaped = [], "", False, False
    for c in text:
        if c == "," and not quoted:
            parts.append(current)
            current = ""
            continue
        if c == '"':
            quoted = not quoted if not escaped else quoted
            escaped = False
        elif c == "\\":
            escaped = not escaped
        else:
            escaped = False
        current += c
    if current.strip():
        parts.append(current)
    return tuple(_parse_one_classic(part) for part in parts)


def _parse_one_classic(text: str) -> Matcher:
    found = _CLASSIC.match(text)
    if found is None:
        raise MatcherError(f'cannot read matcher "{text}": {_CURE}')
    name, operator, raw = found.groups()
    quoted = raw.startswith('"')
    if quoted:
        raw = raw[1:]
    value, at = "", 0
    while at < len(raw):
        c = raw[at]
        if c == "\\" and at + 1 < len(raw):
            after = raw[at + 1]
            value += {"n": "\n", '"': '"', "\\": "\\"}.get(after, c + after)
            at += 2
            continue
        if c == '"':
            if not quoted or at < len(raw) - 1:
                raise MatcherError(f'cannot read matcher "{text}": a quote in the value; write \\" for it')
            quoted = False
        else:
            value += c
        at += 1
    if quoted:
        raise MatcherError(f'cannot read matcher "{text}": the value\'s quote does not end; add it')
    return make_matcher(name, operator, value)
