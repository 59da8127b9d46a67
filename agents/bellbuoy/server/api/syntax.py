"""`parse_query`: a syntax tree as JSON, with the names that Prometheus gives its nodes; its UI and ours draw it."""

from typing import Any

from bellbuoy.exposition import go_decimal
from bellbuoy.labels import is_legacy_metric_name
from bellbuoy.promql import FUNCTIONS, Expr, VectorSelector
from bellbuoy.promql.nodes import (
    SET_OPERATORS,
    Aggregate,
    At,
    Binary,
    Call,
    Duration,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    left_chain,
)

_CARDS = {None: "one-to-one", "left": "many-to-one", "right": "one-to-many"}


def syntax(expr: Expr) -> dict[str, Any]:
    """The tree of this expression."""
    match expr:
        case NumberLiteral():
            return {"type": "numberLiteral", "val": go_decimal(expr.value)}
        case StringLiteral():
            text = expr.value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return {"type": "stringLiteral", "val": text}
        case VectorSelector():
            return {"type": "vectorSelector", **_selector(expr)}
        case MatrixSelector():
            return {"type": "matrixSelector", **_selector(expr.selector), **_duration("range", expr.range)}
        case Subquery():
            parts = _duration("range", expr.range) | _duration("step", expr.step) | _duration("offset", expr.offset)
            return {"type": "subquery", "expr": syntax(expr.expr), **parts, **_at(expr.at)}
        case Call():
            return _call(expr)
        case Aggregate():
            return {
                "type": "aggregation",
                "op": expr.operator,
                "expr": syntax(expr.expr),
                "param": None if expr.parameter is None else syntax(expr.parameter),
                "grouping": list(expr.labels),
                "without": expr.without,
            }
        case Unary():
            return {"type": "unaryExpr", "op": expr.operator, "expr": syntax(expr.expr)}
        case Paren():
            return {"type": "parenExpr", "expr": syntax(expr.expr)}
        case Binary():
            return _binary(expr)
    raise TypeError(f"BUG: {type(expr).__name__} has no form in JSON")


def _call(expr: Call) -> dict[str, Any]:
    function = FUNCTIONS[expr.function]
    signature = {
        "name": function.name,
        "argTypes": list(function.arguments),
        "variadic": function.variadic,
        "returnType": function.returns,
    }
    return {"type": "call", "func": signature, "args": [syntax(one) for one in expr.arguments]}


def _binary(expr: Binary) -> dict[str, Any]:
    # A long chain of operators is no deep recursion here; what reads the JSON has to see to itself.
    chain = left_chain(expr)
    left = syntax(chain[0].left)
    for link in chain:
        left = {
            "type": "binaryExpr",
            "op": link.operator,
            "lhs": left,
            "rhs": syntax(link.right),
            "matching": _matching(link),
            "bool": link.returns_bool,
        }
    return left


def _matching(expr: Binary) -> dict[str, Any] | None:
    if expr.left.type != "vector" or expr.right.type != "vector":
        return None
    matching = expr.matching
    left, right = matching.fill_left, matching.fill_right
    return {
        "card": "many-to-many" if expr.operator in SET_OPERATORS else _CARDS[matching.group],
        "labels": list(matching.labels),
        "on": bool(matching.on),
        "include": list(matching.include),
        "fillValues": {"lhs": None if left is None else left.value, "rhs": None if right is None else right.value},
    }


def _selector(expr: VectorSelector) -> dict[str, Any]:
    matchers = [{"name": one.name, "value": one.value, "type": one.operator} for one in expr.matchers]
    named = {"name": "__name__", "value": expr.name, "type": "="}
    # A name that cannot stand before the braces stands in them, and is a matcher there like the others.
    before = is_legacy_metric_name(expr.name)
    if expr.name:
        matchers.insert(len(matchers) if before else 0, named)
    return {
        "name": expr.name if before else "",
        **_duration("offset", expr.offset),
        "matchers": matchers,
        **_at(expr.at),
        "anchored": expr.anchored,
        "smoothed": expr.smoothed,
    }


def _at(at: At | None) -> dict[str, Any]:
    named = at if isinstance(at, str) else None
    return {"timestamp": None if at is None or isinstance(at, str) else round(at * 1000), "startOrEnd": named}


def _duration(name: str, duration: Duration | None) -> dict[str, Any]:
    """Milliseconds where it is a number, the expression where it is one."""
    if duration is None or isinstance(duration, NumberLiteral):
        return {name: 0 if duration is None else round(duration.value * 1000), f"{name}Expr": None}
    return {name: 0, f"{name}Expr": _duration_expr(duration)}


def _duration_expr(duration: Duration | None) -> dict[str, Any] | None:
    if duration is None:
        return None
    if isinstance(duration, NumberLiteral):
        return {"type": "numberLiteral", "val": go_decimal(duration.value), "duration": duration.is_duration}
    if duration.operator == "()":
        inner = _duration_expr(duration.left)
        return inner | {"wrapped": True} if inner is not None and inner["type"] == "durationExpr" else inner
    left, right = _duration_expr(duration.left), _duration_expr(duration.right)
    return {"type": "durationExpr", "op": duration.operator, "lhs": left, "rhs": right, "wrapped": False}
