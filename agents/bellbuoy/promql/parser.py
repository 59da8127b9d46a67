"""Tokens to a syntax tree: a Pratt parser, one method for each thing a query is made of.

Every node remembers the span it was read from, and errors have Prometheus's texts and places. The type checker runs
last, over the whole tree. Experimental functions, duration expressions and modifiers are always on.
"""

import math
import re
from dataclasses import replace

from bellbuoy.labels import Matcher
from bellbuoy.promql.checker import check
from bellbuoy.promql.errors import ParseError
from bellbuoy.promql.functions import AGGREGATION_PARAMETERS, FUNCTIONS
from bellbuoy.promql.lexer import WORD_OPERATORS, Token, UnquoteError, tokenize, unquote
from bellbuoy.promql.nodes import (
    Aggregate,
    Binary,
    Call,
    Duration,
    DurationExpr,
    Expr,
    Matching,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
)

MAX_DEPTH = 200
"""How deep expressions may nest: far more than any person writes, far less than Python's stack holds."""
MAX_LENGTH = 1 << 19
"""Characters of a query: half of what an HTTP request may have."""

BINDING = {
    **dict.fromkeys(("or",), 1),
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "</", ">/"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_UNARY = 5  # as multiplication: -a * b is (-a) * b, -a ^ b is -(a ^ b)
_NO_NAMES = frozenset({"on", "ignoring", "group_left", "group_right"})
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_DURATION_HINT = "number, duration, step(), or range()"
_MODIFIABLE = "modifier must be preceded by an instant vector selector or range vector selector or a subquery"


def parse(text: str) -> Expr:
    """The expression of the text. Raises ParseError with the place of the first mistake."""
    try:
        expr = _Parser(text).whole()
        check(text, expr)
    except RecursionError as e:
        raise ParseError(text, 0, len(text), "expression nested too deeply") from e
    return expr


def parse_number(raw: str) -> tuple[float, bool]:
    """The value of a number token, and whether it was written as a duration."""
    text = raw.lower().replace("_", "")
    if text == "inf":
        return math.inf, False
    if text == "nan":
        return math.nan, False
    if text.startswith("0x"):
        return (float(int(text, 16)) if len(text) < 200 else math.inf), False
    if text[-1] in "smhdwy":
        parts = _DURATION_PART.findall(text)
        # Python reads no integer of thousands of digits; such a duration is out of range anyway.
        numbers = (int(count) if len(count) < 19 else float(count) for count, _ in parts)
        return sum(number * _UNIT_MS[unit] for number, (_, unit) in zip(numbers, parts, strict=True)) / 1000, True
    return float(text), False


class _Parser:
    def __init__(self, query: str) -> None:
        self.query = query
        if len(query) > MAX_LENGTH:
            reason = f"query of {len(query)} characters, more than {MAX_LENGTH}; ask for less at once"
            raise ParseError(query, MAX_LENGTH, len(query), reason)
        self.tokens, self.unreadable = tokenize(query)
        self.index = 0
        self.depth = 0
        # How many there are around what is read.
        self.aggregations = 0

    # -- tokens

    @property
    def token(self) -> Token:
        token = self.tokens[self.index]
        if self.unreadable is not None and token.kind == "error":
            raise self.unreadable
        return token

    @property
    def following(self) -> Token:
        return self.tokens[min(self.index + 1, len(self.tokens) - 1)]

    @property
    def end(self) -> int:
        """Where the last token taken ends."""
        return self.tokens[self.index - 1].end

    def at(self, operator: str) -> bool:
        return self.token.kind == "operator" and self.token.text == operator

    def at_keyword(self, *words: str) -> bool:
        return self.token.kind == "keyword" and self.token.text in words

    def take(self) -> Token:
        token = self.token
        self.index += 1
        return token

    def skip(self, operator: str) -> bool:
        found = self.at(operator)
        self.index += found
        return found

    def expect(self, operator: str, context: str = "", wanted: str = "") -> Token:
        if not self.at(operator):
            raise self.unexpected(context, wanted)
        return self.take()

    def error(self, start: int, end: int, reason: str) -> ParseError:
        return ParseError(self.query, start, end, reason)

    def unexpected(self, context: str = "", wanted: str = "") -> ParseError:
        context = context or ("aggregation" if self.aggregations else "")
        where = f" in {context}" if context else ""
        hint = f", expected {wanted}" if wanted else ""
        return self.error(self.token.start, self.token.end, f"unexpected {_describe(self.token)}{where}{hint}")

    def text_of(self, token: Token) -> str:
        try:
            return unquote(token.raw)
        except UnquoteError as e:
            raise self.error(token.start, token.end, str(e)) from e

    # -- expressions

    def whole(self) -> Expr:
        if self.token.kind == "end":
            raise self.error(0, 0, "no expression found in input")
        expr = self.expression(0)
        if self.token.kind != "end":
            raise self.unexpected()
        return expr

    def expression(self, binding: int) -> Expr:
        """An expression whose operators bind tighter than `binding`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(self.token.start, self.token.end, f"expression nested deeper than {MAX_DEPTH} levels")
        left = self.postfix(self.prefix())
        while self.token.kind == "operator" and BINDING.get(self.token.text, 0) > binding:
            operator = self.take().text
            left = self.binary(left, operator)
        self.depth -= 1
        return left

    def binary(self, left: Expr, operator: str) -> Binary:
        returns_bool = self.at_keyword("bool")
        self.index += returns_bool
        matching = self.matching()
        binding = BINDING[operator]
        right = self.expression(binding - 1 if operator == "^" else binding)
        return Binary(operator, left, right, returns_bool, matching, span=Span(left.span.start, right.span.end))

    def matching(self) -> Matching:
        matching = Matching()
        if self.at_keyword("on", "ignoring"):
            on = self.take().text == "on"
            matching = Matching(on=on, labels=self.labels())
            if self.at_keyword("group_left", "group_right"):
                group = self.take().text.removeprefix("group_")
                matching = replace(matching, group=group, include=self.labels() if self.at("(") else ())
        while self.at_keyword("fill", "fill_left", "fill_right") and self.following.text == "(":
            which = self.take().text
            self.expect("(")
            value = self.signed_number("fill modifier", "number")
            self.expect(")", "fill modifier", '")"')
            if which != "fill_right":
                matching = replace(matching, fill_left=value)
            if which != "fill_left":
                matching = replace(matching, fill_right=value)
        return matching

    def signed_number(self, context: str, wanted: str) -> NumberLiteral:
        start = self.token.start
        sign = -1.0 if self.at("-") else 1.0
        if self.at("-") or self.at("+"):
            self.take()
        if self.token.kind != "number":
            raise self.unexpected(context, wanted)
        value, is_duration = parse_number(self.take().raw)
        return NumberLiteral(sign * value, is_duration, span=Span(start, self.end))

    def labels(self) -> tuple[str, ...]:
        """`(a, b, "c")` after by, on and their like."""
        self.expect("(", "grouping opts", '"("')
        labels: list[str] = []
        while not self.at(")"):
            token = self.token
            is_word = token.kind in ("name", "keyword", "aggregation") or token.text in WORD_OPERATORS
            if is_word or (token.kind == "number" and token.raw[0].isalpha()):
                labels.append(token.raw)
            elif token.kind == "string":
                labels.append(self.text_of(token))
            else:
                raise self.unexpected("grouping opts", "label")
            self.take()
            if not self.skip(",") and not self.at(")"):
                raise self.unexpected("grouping opts", '"," or ")"')
        self.take()
        return tuple(labels)

    def prefix(self) -> Expr:
        token = self.token
        if token.kind == "number":
            value, is_duration = parse_number(self.take().raw)
            return NumberLiteral(value, is_duration, span=Span(token.start, token.end))
        if token.kind == "string":
            return StringLiteral(self.text_of(self.take()), span=Span(token.start, token.end))
        if token.kind == "operator" and token.text in ("+", "-"):
            return self.unary()
        if self.skip("("):
            inner = self.expression(0)
            self.expect(")")
            return Paren(inner, span=Span(token.start, self.end))
        if self.at("{"):
            return self.selector("", token.start)
        if token.kind == "aggregation" and (self.following.text in ("(", "by", "without")):
            return self.aggregate()
        if token.kind == "name" and self.following.kind == "operator" and self.following.text == "(":
            return self.call()
        is_name = token.kind in ("name", "aggregation", "keyword") and token.text not in _NO_NAMES
        if is_name or token.text in WORD_OPERATORS:
            self.take()
            return self.selector(token.raw, token.start)
        raise self.unexpected()

    def unary(self) -> Expr:
        sign = self.take()
        inner = self.expression(_UNARY)
        span = Span(sign.start, inner.span.end)
        if isinstance(inner, NumberLiteral):
            return replace(inner, value=-inner.value if sign.text == "-" else inner.value, span=span)
        return Unary(sign.text, inner, span=span)

    def selector(self, name: str, start: int) -> VectorSelector:
        matchers: list[Matcher] = []
        if self.skip("{"):
            while not self.at("}"):
                found = self.matcher()
                if isinstance(found, str):
                    if name:
                        previous = self.tokens[self.index - 1]
                        reason = f'metric name must not be set twice: "{name}" or "{found}"'
                        raise self.error(previous.start, previous.end, reason)
                    name = found
                else:
                    matchers.append(found)
                if not self.skip(",") and not self.at("}"):
                    raise self.unexpected("label matching", '"," or "}"')
            self.take()
        return VectorSelector(name, tuple(matchers), span=Span(start, self.end))

    def matcher(self) -> Matcher | str:
        """A matcher, or a quoted metric name that stands alone."""
        token = self.token
        if token.kind == "string":
            label = self.text_of(token)
        elif token.kind == "name":
            label = token.raw
        else:
            raise self.unexpected("label matching", 'identifier or "}"')
        self.take()
        operator = self.token
        if operator.kind == "operator" and operator.text in ("=", "!=", "=~", "!~"):
            self.take()
            if self.token.kind != "string":
                raise self.unexpected("label matching", "string")
            value = self.text_of(self.take())
            try:
                return Matcher(label, operator.text, value)
            except ValueError as e:
                raise self.error(token.start, self.end, f"error parsing regexp: {e}") from e
        if token.kind == "string" and label and (self.at(",") or self.at("}")):
            return label
        raise self.unexpected("label matching", "label matching operator")

    def call(self) -> Call:
        token = self.take()
        name = token.raw
        if name.lower() in ("start", "end", "step", "range", "min_of", "max_of"):  # keywords in Prometheus: any case
            name = name.lower()
        if name not in FUNCTIONS:
            raise self.error(token.start, token.end, f'unknown function with name "{name}"')
        arguments = self.arguments()
        return Call(name, arguments, span=Span(token.start, self.end))

    def arguments(self) -> tuple[Expr, ...]:
        self.expect("(")
        arguments: list[Expr] = []
        while not self.at(")"):
            arguments.append(self.expression(0))
            comma = self.token
            if self.skip(","):
                if self.at(")"):
                    raise self.error(comma.start, comma.end, "trailing commas not allowed in function call args")
            elif not self.at(")"):
                raise self.unexpected()
        self.take()
        return tuple(arguments)

    def aggregate(self) -> Aggregate:
        token = self.take()
        grouping = self.grouping()
        if not self.at("("):
            raise self.unexpected("aggregation")
        self.aggregations += 1
        arguments = self.arguments()
        self.aggregations -= 1
        labels, without = grouping or self.grouping() or ((), False)
        span = Span(token.start, self.end)
        wanted = 2 if token.text in AGGREGATION_PARAMETERS else 1
        if not arguments:
            raise self.error(span.start, span.end, "no arguments for aggregate expression provided")
        if len(arguments) != wanted:
            reason = f"expected {wanted}, got {len(arguments)}"
            reason = f"wrong number of arguments for aggregate expression provided, {reason}"
            raise self.error(span.start, span.end, reason)
        parameter = arguments[0] if wanted == 2 else None
        return Aggregate(token.text, arguments[-1], parameter, labels, without, span=span)

    def grouping(self) -> tuple[tuple[str, ...], bool] | None:
        if not self.at_keyword("by", "without"):
            return None
        without = self.take().text == "without"
        return self.labels(), without

    # -- what follows an expression: [range], offset, @, anchored, smoothed

    def postfix(self, expr: Expr) -> Expr:
        while True:
            if self.at("["):
                expr = self.brackets(expr)
            elif self.at_keyword("offset"):
                self.take()
                duration = _as_duration(self.duration_atom(is_offset=True))
                target = self.modifiable(expr, "offset")
                if target.offset is not None:
                    raise self.error(expr.span.start, expr.span.end, "offset may not be set multiple times")
                expr = self.modified(expr, replace(target, offset=duration))
            elif self.at_keyword("anchored", "smoothed"):
                expr = self.extended(expr, self.take().text)
            elif self.skip("@"):
                at = self.at_time(expr)
                target = self.modifiable(expr, "@")
                if target.at is not None:
                    raise self.error(expr.span.start, expr.span.end, "@ <timestamp> may not be set multiple times")
                expr = self.modified(expr, replace(target, at=at))
            else:
                return expr

    def modifiable(self, expr: Expr, modifier: str) -> VectorSelector | Subquery:
        target = expr.selector if isinstance(expr, MatrixSelector) else expr
        if not isinstance(target, VectorSelector | Subquery):
            raise self.error(expr.span.start, expr.span.end, f"{modifier} {_MODIFIABLE}")
        return target

    def modified(self, expr: Expr, target: Expr) -> Expr:
        span = Span(expr.span.start, self.end)
        if isinstance(expr, MatrixSelector) and isinstance(target, VectorSelector):
            return replace(expr, selector=target, span=span)
        return replace(target, span=span)

    def extended(self, expr: Expr, word: str) -> Expr:
        target = expr.selector if isinstance(expr, MatrixSelector) else expr
        if isinstance(target, Subquery):
            raise self.error(expr.span.start, expr.span.end, f"{word} modifier is not supported for subqueries")
        if not isinstance(target, VectorSelector):
            raise self.error(expr.span.start, expr.span.end, f"{word} modifier not implemented")
        target = replace(target, anchored=True) if word == "anchored" else replace(target, smoothed=True)
        if target.anchored and target.smoothed:
            reason = "anchored and smoothed modifiers cannot be used together"
            raise self.error(expr.span.start, expr.span.end, reason)
        return self.modified(expr, target)

    def at_time(self, expr: Expr) -> float | str:
        word = self.token.raw.lower()
        if self.token.kind == "name" and word in ("start", "end") and self.following.text == "(":
            self.take()
            self.take()
            self.expect(")")
            return word
        value = self.signed_number("@", "timestamp").value
        if not math.isfinite(value) or abs(value) * 1000 >= 2**62:
            shown = "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "Inf")
            reason = f"timestamp out of bounds for @ modifier: {shown}"
            raise self.error(expr.span.start, expr.span.end, reason)
        return round(value * 1000) / 1000

    def brackets(self, expr: Expr) -> Expr:
        opening = self.take()
        extent = self.positive_duration("subquery or range selector")
        if self.skip(":"):
            step = None if self.at("]") else self.positive_duration("subquery selector")
            self.expect("]", "subquery selector", '"]"')
            return Subquery(expr, extent, step, span=Span(expr.span.start, self.end))
        self.expect("]", "subquery or range", '":" or "]"')
        if not isinstance(expr, VectorSelector):
            raise self.error(opening.start, self.end, "ranges only allowed for vector selectors")
        if expr.offset is not None:
            raise self.error(opening.start, self.end, "no offset modifiers allowed before range")
        if expr.at is not None:
            raise self.error(opening.start, self.end, "no @ modifiers allowed before range")
        return MatrixSelector(expr, extent, span=Span(expr.span.start, self.end))

    # -- durations

    def positive_duration(self, context: str) -> Duration:
        if self.at("]") or self.token.kind in ("string", "end"):
            raise self.unexpected(context, _DURATION_HINT)
        duration = _as_duration(self.duration(0))
        if isinstance(duration, NumberLiteral) and duration.value <= 0:
            raise self.error(duration.span.start, duration.span.end, "duration must be greater than 0")
        return duration

    def duration(self, binding: int) -> Duration:
        left = self.duration_atom(is_offset=False)
        while self.token.kind == "operator" and self.token.text in "+-*/%^" and BINDING[self.token.text] > binding:
            operator = self.take()
            right = self.duration(BINDING[operator.text] - (operator.text == "^"))
            if operator.text in "/%" and isinstance(right, NumberLiteral) and right.value == 0:
                reason = "division by zero" if operator.text == "/" else "modulo by zero"
                raise self.error(operator.start, operator.end, reason)
            left = DurationExpr(operator.text, left, right, span=Span(left.span.start, right.span.end))
        return left

    def duration_atom(self, *, is_offset: bool) -> Duration:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(self.token.start, self.token.end, f"expression nested deeper than {MAX_DEPTH} levels")
        try:
            return self._duration_atom(is_offset=is_offset)
        finally:
            self.depth -= 1

    def _duration_atom(self, *, is_offset: bool) -> Duration:
        token = self.token
        if token.kind == "number":
            value, is_duration = parse_number(self.take().raw)
            if not abs(value) * 1e9 < 2**63:
                raise self.error(token.start, token.end, "duration out of range")
            return NumberLiteral(value, is_duration, span=Span(token.start, token.end))
        if token.kind == "operator" and token.text in ("+", "-"):
            self.take()
            inner = self.duration_atom(is_offset=True) if is_offset else self.duration(_UNARY)
            span = Span(token.start, inner.span.end)
            if isinstance(inner, NumberLiteral):
                return replace(inner, value=-inner.value if token.text == "-" else inner.value, span=span)
            return DurationExpr(token.text, None, inner, span=span)
        if self.skip("("):
            inner = self.duration(0)
            self.expect(")")
            span = Span(token.start, self.end)
            return (
                replace(inner, span=span) if isinstance(inner, NumberLiteral) else DurationExpr("()", inner, span=span)
            )
        word = token.raw.lower()
        if token.kind == "name" and self.following.text == "(" and word in ("step", "range", "min_of", "max_of"):
            self.take()
            self.take()
            left = right = None
            if word in ("min_of", "max_of"):
                left = self.duration(0)
                self.expect(",")
                right = self.duration(0)
            self.expect(")")
            return DurationExpr(word, left, right, span=Span(token.start, self.end))
        raise self.unexpected("offset" if is_offset else "subquery or range selector", _DURATION_HINT)


def _as_duration(duration: Duration) -> Duration:
    """A plain number that stands for a whole duration, as one: `[300]` and `[5m]` mean and print the same."""
    return replace(duration, is_duration=True) if isinstance(duration, NumberLiteral) else duration


def _describe(token: Token) -> str:
    match token.kind:
        case "end":
            return "end of input"
        case "name":
            return f'identifier "{token.raw}"'
        case "keyword":
            return f"<{token.text}>"
        case "aggregation":
            return f"<aggr:{token.text}>"
        case "number":
            return f'number "{token.raw}"'
        case "string":
            escaped = token.raw.replace("\\", "\\\\").replace('"', '\\"')
            return f'string "{escaped}"'
    if token.text in BINDING or token.text in ("=~", "!~", "@"):
        return f"<op:{token.text}>"
    return f'"{token.raw}"'
