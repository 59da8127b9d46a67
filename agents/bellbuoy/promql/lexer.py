"""Text to tokens. One regular expression finds the next token; what depends on the braces around it is decided here.

Errors have Prometheus's texts. Keywords are no reserved words: the parser takes them as names where a name may stand.
"""

import re
from typing import NamedTuple

from bellbuoy.promql.errors import ParseError
from bellbuoy.promql.functions import AGGREGATIONS

KEYWORDS = frozenset(
    {"offset", "smoothed", "anchored", "by", "without", "on", "ignoring", "group_left", "group_right"}
    | {"fill", "fill_left", "fill_right", "bool"}
)
WORD_OPERATORS = frozenset({"and", "or", "unless", "atan2"})

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s|\#[^\n]*)+)
  | (?P<number>0[xX][0-9a-fA-F_]+(?![\w.])
      | (?:\d+(?:ms|[smhdwy]))+(?![\w.])
      | (?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<bad_number>\d[\w.]*)
  | (?P<name>(?:[^\W\d]|:)[\w:.]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
  | (?P<operator></|>/|==|!=|=~|!~|<=|>=|[-+*/%^<>=(){}\[\],:@])
    """,
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {")": "(", "}": "{", "]": "["}
_CLOSING = {")": "parenthesis", "}": "brace", "]": "bracket"}
_UNCLOSED = {
    "(": "unclosed left parenthesis",
    "{": "unexpected end of input inside braces",
    "[": "unexpected end of input in duration expression",
}


class Token(NamedTuple):
    """`kind` is number, name, keyword, aggregation, string, operator or end; words with a meaning are lower-cased."""

    kind: str
    text: str
    start: int
    end: int
    raw: str


MAX_TOKENS = 20_000
"""More takes seconds to parse; the longest queries that people or their tools write have some hundred."""


def tokenize(query: str) -> tuple[list[Token], ParseError | None]:
    """The tokens, the last of kind `end`, or of kind `error` where the text cannot be read on, and why.

    The error is the parser's to raise when it comes there: what is wrong before it is said first.
    """
    tokens: list[Token] = []
    try:
        _tokenize(query, tokens)
    except ParseError as e:
        tokens.append(Token("error", "", e.start, e.end, query[e.start : e.end]))
        return tokens, e
    return tokens, None


def _tokenize(query: str, tokens: list[Token]) -> None:
    open_brackets: list[str] = []
    position, length = 0, len(query)
    while position < length:
        match = _TOKEN.match(query, position)
        if match is None:
            raise _unreadable(query, position, open_brackets)
        kind, raw, start, position = str(match.lastgroup), match.group(), position, match.end()
        if kind == "space":
            continue
        if kind == "bad_number":
            raise ParseError(query, start, position, f'bad number or duration syntax: "{raw}"')
        inside = open_brackets[-1] if open_brackets else ""
        if kind == "name" and ":" in raw:
            if inside == "{":
                raise ParseError(query, start + raw.index(":"), position, "unexpected character inside braces: ':'")
            if inside == "[" and raw[0] == ":":  # the colon of a subquery, with a step that begins as a word
                kind, raw, position = "operator", ":", start + 1
        if kind == "operator":
            _bracket(query, raw, start, open_brackets)
        if len(tokens) >= MAX_TOKENS:
            raise ParseError(query, start, position, f"more than {MAX_TOKENS} words and signs; ask for less at once")
        tokens.append(_word(kind, raw, start, position, inside))
    if open_brackets:
        raise ParseError(query, length, length, _UNCLOSED[open_brackets[-1]])
    tokens.append(Token("end", "", length, length, ""))


def _bracket(query: str, raw: str, start: int, open_brackets: list[str]) -> None:
    if raw in "([{":
        open_brackets.append(raw)
    elif raw in _PAIRS:
        if not open_brackets or open_brackets[-1] != _PAIRS[raw]:
            # Prometheus has taken a parenthesis by then.
            at = start + (raw == ")")
            raise ParseError(query, at, start + 1, f"unexpected right {_CLOSING[raw]} '{raw}'")
        open_brackets.pop()
    elif raw in ("=~", "!~") and "{" not in open_brackets:
        raise ParseError(query, start, start + 2, f"unexpected character after '{raw[0]}': '~'")


def _word(kind: str, raw: str, start: int, end: int, inside: str) -> Token:
    if kind == "name" and inside != "{":
        lower = raw.lower()
        if lower in ("inf", "nan"):
            return Token("number", lower, start, end, raw)
        for name, words in (("aggregation", AGGREGATIONS), ("keyword", KEYWORDS), ("operator", WORD_OPERATORS)):
            if lower in words:
                return Token(name, lower, start, end, raw)
    return Token(kind, raw, start, end, raw)


def _unreadable(query: str, position: int, open_brackets: list[str]) -> ParseError:
    character, end = query[position], len(query)
    if character in "\"'`":
        return ParseError(query, position, end, f"unterminated {'raw' if character == '`' else 'quoted'} string")
    if character == "!" and position + 1 < end:
        return ParseError(query, position, position + 1, f"unexpected character after '!': {query[position + 1]!r}")
    where = " inside braces" if "{" in open_brackets else ""
    return ParseError(query, position, position + 1, f"unexpected character{where}: {character!r}")


_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


class UnquoteError(ValueError):
    """An escape that is none."""


def unquote(raw: str) -> str:
    """The text a quoted string stands for. `\\xff` gives a byte: bytes that are no UTF-8 become lone surrogates."""
    if raw[0] == "`":
        return raw[1:-1]
    if "\\" not in raw:
        return raw[1:-1]

    def replace(match: re.Match[str]) -> str:
        escape = match.group(1)
        if escape in _SIMPLE:
            return _SIMPLE[escape]
        if escape == raw[0]:
            return escape
        if escape[0] in "uU" and len(escape) > 1:
            code = int(escape[1:], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise UnquoteError("escape sequence is an invalid Unicode code point")
            return chr(code)
        if escape[0] == "x" and len(escape) == 3:
            return _byte(int(escape[1:], 16))
        if len(escape) == 3:
            code = int(escape, 8)
            if code > 255:
                raise UnquoteError(f"octal escape value {code} > 255")
            return _byte(code)
        raise UnquoteError(f"unknown escape sequence {escape!r}")

    text = _ESCAPE.sub(replace, raw[1:-1])
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _byte(code: int) -> str:
    return chr(code) if code < 0x80 else chr(0xDC00 + code)


def quote(text: str) -> str:
    """A double-quoted string that `unquote` turns back into the text."""
    out = ['"']
    for character in text:
        if character in '"\\':
            out.append("\\" + character)
        elif character == "\n":
            out.append("\\n")
        elif character == "\t":
            out.append("\\t")
        elif 0xDC80 <= ord(character) <= 0xDCFF:
            out.append(f"\\x{ord(character) - 0xDC00:02x}")
        elif ord(character) < 0x20 or ord(character) == 0x7F:
            out.append(f"\\x{ord(character):02x}")
        else:
            out.append(character)
    return "".join(out) + '"'
