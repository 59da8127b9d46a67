"""Syntax trees to text: on one line as the API echoes queries, or indented for people.

`parse(format_expr(tree)) == tree` holds for every tree the parser makes, in both forms.
"""

from bellbuoy.durations import format_duration
from bellbuoy.exposition import go_decimal
from bellbuoy.labels import Matcher, is_legacy_label_name, is_legacy_metric_name
from bellbuoy.promql.lexer import KEYWORDS, WORD_OPERATORS, quote
from bellbuoy.promql.nodes import (
    Aggregate,
    Binary,
    Call,
    Duration,
    Expr,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorSelector,
    left_chain,
)

WIDTH = 100
"""A line that fits within is not broken."""


def format_expr(expr: Expr, *, pretty: bool = False) -> str:
    """The expression as text; pretty breaks what is wider than 100 characters over indented lines."""
    return _pretty(expr, 0) if pretty else _flat(expr)


def _flat(expr: Expr) -> str:
    match expr:
        case NumberLiteral():
            return _number(expr)
        case StringLiteral():
            return quote(expr.value)
        case VectorSelector():
            return _selector(expr) + _modifiers(expr)
        case MatrixSelector():
            return f"{_selector(expr.selector)}[{format_duration_expr(expr.range)}]{_modifiers(expr.selector)}"
        case Subquery():
            return _flat(expr.expr) + _brackets(expr)
        case Call():
            return f"{expr.function}({', '.join(map(_flat, expr.arguments))})"
        case Aggregate():
            return f"{_aggregate_head(expr)}({', '.join(map(_flat, expr.children()))})"
        case Unary():
            return expr.operator + _flat(expr.expr)
        case Paren():
            return f"({_flat(expr.expr)})"
        case Binary():
            chain = left_chain(expr)
            return _flat(chain[0].left) + "".join(f" {_operator(link)} {_flat(link.right)}" for link in chain)
    raise TypeError(f"BUG: cannot print {type(expr).__name__}")


def _pretty(expr: Expr, level: int) -> str:
    indent = "  " * level
    flat = _flat(expr)
    if len(indent) + len(flat) <= WIDTH:
        return indent + flat
    match expr:
        case Call():
            return f"{indent}{expr.function}(\n{_pretty_list(expr.arguments, level + 1)}\n{indent})"
        case Aggregate():
            return f"{indent}{_aggregate_head(expr)}(\n{_pretty_list(expr.children(), level + 1)}\n{indent})"
        case Paren():
            return f"{indent}(\n{_pretty(expr.expr, level + 1)}\n{indent})"
        case Unary():
            return indent + expr.operator + _pretty(expr.expr, level).lstrip()
        case Subquery():
            return _pretty(expr.expr, level) + _brackets(expr)
        case Binary():
            chain = left_chain(expr)
            rest = (f"\n{indent}{_operator(link)}\n{_pretty(link.right, level + 1)}" for link in chain)
            return _pretty(chain[0].left, level + 1) + "".join(rest)
    return indent + flat


def _pretty_list(items: tuple[Expr, ...], level: int) -> str:
    return ",\n".join(_pretty(item, level) for item in items)


def _number(expr: NumberLiteral) -> str:
    if expr.is_duration and round(expr.value * 1000) / 1000 == expr.value:
        return format_duration(expr.value)
    return go_decimal(expr.value)


def format_duration_expr(duration: Duration) -> str:
    """A duration as it stands between brackets or after offset."""
    if isinstance(duration, NumberLiteral):
        return _number(duration)
    operator, left, right = duration.operator, duration.left, duration.right
    if operator == "()" and left is not None:
        return f"({format_duration_expr(left)})"
    if operator in ("step", "range"):
        return f"{operator}()"
    if left is None and right is not None:
        return operator + format_duration_expr(right)
    if left is None or right is None:
        raise TypeError(f"BUG: duration operator {operator} lacks a side")
    if operator in ("min_of", "max_of"):
        return f"{operator}({format_duration_expr(left)}, {format_duration_expr(right)})"
    return f"{format_duration_expr(left)} {operator} {format_duration_expr(right)}"


def _name(name: str) -> str:
    return name if is_legacy_label_name(name) else quote(name)


def _matcher(matcher: Matcher) -> str:
    return f"{_name(matcher.name)}{matcher.operator}{quote(matcher.value)}"


def _selector(expr: VectorSelector) -> str:
    matchers = [_matcher(matcher) for matcher in expr.matchers]
    lower = expr.name.lower()
    reserved = lower in KEYWORDS or lower in WORD_OPERATORS or lower in ("inf", "nan")
    if expr.name and (reserved or not is_legacy_metric_name(expr.name)):
        return "{" + ",".join([quote(expr.name), *matchers]) + "}"
    return expr.name + ("{" + ",".join(matchers) + "}" if matchers or not expr.name else "")


def _modifiers(expr: VectorSelector | Subquery) -> str:
    text = ""
    if expr.at is not None:
        text += f" @ {expr.at}()" if isinstance(expr.at, str) else f" @ {expr.at:.3f}"
    if expr.offset is not None:
        offset = format_duration_expr(expr.offset)
        bare = isinstance(expr.offset, NumberLiteral) or expr.offset.operator in ("()", "step", "range")
        bare = bare or expr.offset.operator in ("min_of", "max_of") or expr.offset.left is None  # type: ignore[union-attr]
        text += f" offset {offset}" if bare else f" offset ({offset})"
    if isinstance(expr, VectorSelector):
        text += " anchored" if expr.anchored else " smoothed" if expr.smoothed else ""
    return text


def _brackets(expr: Subquery) -> str:
    step = format_duration_expr(expr.step) if expr.step is not None else ""
    return f"[{format_duration_expr(expr.range)}:{step}]{_modifiers(expr)}"


def _labels(labels: tuple[str, ...]) -> str:
    return "(" + ", ".join(_name(label) for label in labels) + ")"


def _aggregate_head(expr: Aggregate) -> str:
    if expr.without:
        return f"{expr.operator} without {_labels(expr.labels)} "
    return f"{expr.operator} by {_labels(expr.labels)} " if expr.labels else expr.operator


def _operator(expr: Binary) -> str:
    matching = expr.matching
    words = [expr.operator]
    if expr.returns_bool:
        words.append("bool")
    if matching.on is not None:
        words.append(f"{'on' if matching.on else 'ignoring'} {_labels(matching.labels)}")
    if matching.group:
        words.append(f"group_{matching.group} {_labels(matching.include)}")
    left, right = matching.fill_left, matching.fill_right
    if left is not None and left == right:
        words.append(f"fill ({_number(left)})")
    else:
        words += [f"fill_left ({_number(left)})"] if left is not None else []
        words += [f"fill_right ({_number(right)})"] if right is not None else []
    return " ".join(words)
