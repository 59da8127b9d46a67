"""Expressions of rules: whether they can be parsed, and bound to a namespace where their resource is.

Of a rule that a stack takes from a foreign namespace every selector gets `namespace="…"`, ahead of its own matchers, so
that it reads that namespace's series only, whatever it asks for. Rules of the stack's own namespace stay as they are.
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from bellbuoy.labels import Matcher
from bellbuoy.promql.errors import QueryError
from bellbuoy.promql.nodes import VectorSelector
from bellbuoy.promql.parser import parse
from bellbuoy.promql.printer import format_expr


def bound_expression(expr: str, namespace: str) -> str:
    """The expression, with every selector bound to the namespace unless that is empty. Raises ValueError."""
    try:
        tree = parse(expr)
    except QueryError as e:
        raise ValueError(str(e)) from e
    return format_expr(_bound(tree, Matcher("namespace", "=", namespace))) if namespace else expr


def _bound(node: Any, matcher: Matcher) -> Any:
    """The tree anew, selectors with one more matcher: as all must hold, it only narrows them."""
    if isinstance(node, tuple):
        return tuple(_bound(one, matcher) for one in node)
    if isinstance(node, VectorSelector):
        return replace(node, matchers=(matcher, *node.matchers))
    if not is_dataclass(node) or isinstance(node, type | Matcher):
        return node
    changed = {field.name: _bound(getattr(node, field.name), matcher) for field in fields(node) if field.init}
    return replace(node, **changed)
