"""The type checker: what the grammar allows and the language does not, with Prometheus's texts and places."""

from collections.abc import Callable
from typing import NoReturn

from bellbuoy.promql.errors import ParseError
from bellbuoy.promql.functions import AGGREGATION_PARAMETERS, FUNCTIONS, TYPE_NAMES
from bellbuoy.promql.nodes import (
    COMPARISONS,
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Expr,
    Span,
    Subquery,
    Unary,
    VectorSelector,
    left_chain,
)

Fail = Callable[[Span, str], NoReturn]


def check(query: str, expr: Expr) -> None:
    """Raises ParseError where the expression, read from the query, is not well typed."""

    def fail(span: Span, reason: str) -> NoReturn:
        # What stands between two operands begins at the operator.
        blank = len(query[span.start : span.end]) - len(query[span.start : span.end].lstrip())
        raise ParseError(query, span.start + blank, span.end, reason)

    _check(expr, fail)


def _check(expr: Expr, fail: Fail, *, bare_selector: bool = False) -> None:
    match expr:
        case Aggregate():
            _aggregate(expr, fail)
        case Binary():
            _binary(expr, fail)
        case Call():
            _call(expr, fail)
        case Unary():
            _check(expr.expr, fail)
            if expr.type not in ("scalar", "vector"):
                kind = TYPE_NAMES[expr.type]
                text = "unary expression only allowed on expressions of type scalar or instant vector"
                fail(expr.span, f'{text}, got "{kind}"')
        case Subquery():
            _check(expr.expr, fail)
            if expr.expr.type != "vector":
                fail(expr.span, f"subquery is only allowed on instant vector, got {expr.expr.type} instead")
        case VectorSelector():
            _selector(expr, fail, bare=bare_selector)
        case _:
            for child in expr.children():
                _check(child, fail)


def _want(expr: Expr, wanted: str, context: str, fail: Fail) -> None:
    if expr.type != wanted:
        fail(expr.span, f"expected type {TYPE_NAMES[wanted]} in {context}, got {TYPE_NAMES[expr.type]}")


def _aggregate(expr: Aggregate, fail: Fail) -> None:
    _check(expr.expr, fail)
    _want(expr.expr, "vector", "aggregation expression", fail)
    if expr.parameter is not None:
        _check(expr.parameter, fail)
        _want(expr.parameter, AGGREGATION_PARAMETERS[expr.operator], "aggregation parameter", fail)


def _binary(expr: Binary, fail: Fail) -> None:
    chain = left_chain(expr)
    _check(chain[0].left, fail)
    for link in chain:
        _check(link.right, fail)
        _operator(link, fail)


def _operator(expr: Binary, fail: Fail) -> None:
    left, right, matching, operator = expr.left.type, expr.right.type, expr.matching, expr.operator
    between = Span(expr.left.span.end, expr.right.span.start)
    if expr.returns_bool and operator not in COMPARISONS:
        fail(between, "bool modifier can only be used on comparison operators")
    if operator in COMPARISONS and not expr.returns_bool and left == right == "scalar":
        fail(between, "comparisons between scalars must use BOOL modifier")
    for label in matching.labels:
        if matching.on and label in matching.include:
            fail(between, f'label "{label}" must not occur in ON and GROUP clause at once')
    for side in (expr.left, expr.right):
        if side.type not in ("scalar", "vector"):
            fail(side.span, "binary expression must contain only scalar and instant vector types")
    fills = matching.fill_left is not None or matching.fill_right is not None
    if left == right == "vector":
        if operator in SET_OPERATORS and matching.group:
            fail(expr.span, f'no grouping allowed for "{operator}" operation')
        if operator in SET_OPERATORS and fills:
            fail(expr.span, "filling in missing series not allowed for set operators")
        return
    if matching.labels:
        fail(expr.span, "vector matching only allowed between instant vectors")
    if fills:
        fail(expr.span, "filling in missing series only allowed between instant vectors")
    if operator in SET_OPERATORS:
        fail(expr.span, f'set operator "{operator}" not allowed in binary scalar expression')


def _call(expr: Call, fail: Fail) -> None:
    function, given = FUNCTIONS[expr.function], len(expr.arguments)
    types, called = function.arguments, f'argument(s) in call to "{expr.function}", got {given}'
    if function.variadic == 0 and given != len(types):
        fail(expr.span, f"expected {len(types)} {called}")
    if given < function.least:
        fail(expr.span, f"expected at least {function.least} {called}")
    if function.variadic > 0 and given > function.least + function.variadic:
        fail(expr.span, f"expected at most {function.least + function.variadic} {called}")
    is_info = expr.function == "info"
    if is_info and given > 1:
        data = expr.arguments[1]
        if not isinstance(data, VectorSelector):
            fail(data.span, "expected label selectors only")
        if data.name:
            fail(data.span, "expected label selectors only, got vector selector instead")
    for position, argument in enumerate(expr.arguments):
        _check(argument, fail, bare_selector=is_info and position == 1)
        wanted = types[min(position, len(types) - 1)]
        _want(argument, wanted, f'call to function "{expr.function}"', fail)


def _selector(expr: VectorSelector, fail: Fail, *, bare: bool) -> None:
    if expr.name:
        for matcher in expr.matchers:
            if matcher.name == "__name__":
                fail(expr.span, f'metric name must not be set twice: "{expr.name}" or "{matcher.value}"')
    elif not bare and all(matcher.matches_value("") for matcher in expr.matchers):
        fail(expr.span, "vector selector must contain at least one non-empty matcher")
