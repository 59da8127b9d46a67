"""The syntax tree: frozen values, equal when they mean the same, each with the place it was read from.

A `span` takes no part in equality, so `parse(format_expr(tree)) == tree`. Offsets and ranges are durations: a number of
seconds or an expression over such, since `step()` and `range()` are known only when a query runs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from bellbuoy.labels import Matcher
from bellbuoy.promql.functions import FUNCTIONS, ValueType

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
SET_OPERATORS = frozenset({"and", "or", "unless"})
TRIMS = frozenset({"</", ">/"})
SAME_METRIC = COMPARISONS | TRIMS
"""What leaves a value that is still of its metric, so that the name stays."""


@dataclass(frozen=True)
class Span:
    """Offsets into the query: from `start` up to, without, `end`."""

    start: int = 0
    end: int = 0


@dataclass(frozen=True, kw_only=True)
class Expr:
    """What every node has."""

    span: Span = field(default=Span(), compare=False, repr=False)

    @property
    def type(self) -> ValueType:
        """What evaluating it gives."""
        return "vector"

    def children(self) -> tuple["Expr", ...]:
        """The expressions directly below it, durations not among them."""
        return ()


@dataclass(frozen=True, eq=False)
class NumberLiteral(Expr):
    """A number; `is_duration` says it was written as `5m` and prints so. NaN equals NaN here."""

    value: float
    is_duration: bool = False

    @property
    def type(self) -> ValueType:
        return "scalar"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NumberLiteral) or self.is_duration != other.is_duration:
            return False
        return self.value == other.value or (math.isnan(self.value) and math.isnan(other.value))

    def __hash__(self) -> int:
        return hash((0.0 if math.isnan(self.value) else self.value, self.is_duration))


@dataclass(frozen=True)
class DurationExpr(Expr):
    """Arithmetic over durations: `+ - * / % ^`, unary (no `left`), `()`, `step`, `range`, `min_of`, `max_of`."""

    operator: str
    left: "Duration | None" = None
    right: "Duration | None" = None

    @property
    def type(self) -> ValueType:
        return "scalar"


Duration: TypeAlias = NumberLiteral | DurationExpr
At: TypeAlias = float | str
"""Seconds since 1970, or `start` or `end` for the query's own."""


@dataclass(frozen=True)
class StringLiteral(Expr):
    """A text. Bytes that are no UTF-8 are held as lone surrogates."""

    value: str

    @property
    def type(self) -> ValueType:
        return "string"


@dataclass(frozen=True)
class VectorSelector(Expr):
    """`name{matchers} offset … @ …`. The name is not among the matchers."""

    name: str
    matchers: tuple[Matcher, ...] = ()
    offset: Duration | None = None
    at: At | None = None
    anchored: bool = False
    smoothed: bool = False

    @property
    def all_matchers(self) -> tuple[tuple[str, str, str], ...]:
        """The matchers with the name's, as the storage takes them."""
        named = (("__name__", "=", self.name),) if self.name else ()
        return named + tuple((matcher.name, matcher.operator, matcher.value) for matcher in self.matchers)


@dataclass(frozen=True)
class MatrixSelector(Expr):
    """`selector[range]`; offset and @ are the selector's."""

    selector: VectorSelector
    range: Duration

    @property
    def type(self) -> ValueType:
        return "matrix"

    def children(self) -> tuple[Expr, ...]:
        return (self.selector,)


@dataclass(frozen=True)
class Subquery(Expr):
    """`expr[range:step] offset … @ …`."""

    expr: Expr
    range: Duration
    step: Duration | None = None
    offset: Duration | None = None
    at: At | None = None

    @property
    def type(self) -> ValueType:
        return "matrix"

    def children(self) -> tuple[Expr, ...]:
        return (self.expr,)


@dataclass(frozen=True)
class Call(Expr):
    """A function and its arguments."""

    function: str
    arguments: tuple[Expr, ...]

    @property
    def type(self) -> ValueType:
        return FUNCTIONS[self.function].returns

    def children(self) -> tuple[Expr, ...]:
        return self.arguments


@dataclass(frozen=True)
class Aggregate(Expr):
    """`sum by (labels) (expr)`, with a parameter for topk and its like."""

    operator: str
    expr: Expr
    parameter: Expr | None = None
    labels: tuple[str, ...] = ()
    without: bool = False

    def children(self) -> tuple[Expr, ...]:
        return (self.expr,) if self.parameter is None else (self.parameter, self.expr)


@dataclass(frozen=True)
class Unary(Expr):
    """`-expr` or `+expr`."""

    operator: str
    expr: Expr

    @property
    def type(self) -> ValueType:
        return self.expr.type

    def children(self) -> tuple[Expr, ...]:
        return (self.expr,)


@dataclass(frozen=True)
class Paren(Expr):
    """`(expr)`."""

    expr: Expr

    @property
    def type(self) -> ValueType:
        return self.expr.type

    def children(self) -> tuple[Expr, ...]:
        return (self.expr,)


@dataclass(frozen=True)
class Matching:
    """How a binary operator pairs series: `on` or `ignoring` labels, `group` left or right, values for missing sides.

    `on` is None when neither is written, which pairs by all labels.
    """

    on: bool | None = None
    labels: tuple[str, ...] = ()
    group: str | None = None
    include: tuple[str, ...] = ()
    fill_left: NumberLiteral | None = None
    fill_right: NumberLiteral | None = None


@dataclass(frozen=True)
class Binary(Expr):
    """`left operator right`."""

    operator: str
    left: Expr
    right: Expr
    returns_bool: bool = False
    matching: Matching = Matching()
    _type: ValueType = field(init=False, compare=False, repr=False, default="vector")

    def __post_init__(self) -> None:
        # Kept, since asking both sides each time would go down the whole tree.
        if self.left.type == self.right.type == "scalar":
            object.__setattr__(self, "_type", "scalar")

    @property
    def type(self) -> ValueType:
        return self._type

    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.right)


def left_chain(expr: Binary) -> list[Binary]:
    """The operators of `a + b + c …`, innermost first: each is the left side of the next."""
    chain = [expr]
    while isinstance(chain[-1].left, Binary):
        chain.append(chain[-1].left)
    return chain[::-1]


def unwrap(expr: Expr) -> Expr:
    """The expression without the parentheses around it."""
    while isinstance(expr, Paren):
        expr = expr.expr
    return expr


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all below it, parents first."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children()))


def selectors(expr: Expr) -> list[VectorSelector]:
    """Every selector in the expression, in the order they stand there."""
    return [node for node in walk(expr) if isinstance(node, VectorSelector)]


_WITHOUT_BUCKETS = frozenset({"absent", "histogram_avg", "histogram_count", "histogram_sum"})
_WITH_BUCKETS = frozenset(
    {"changes", "histogram_fraction", "histogram_quantile", "histogram_quantiles"}
    | {"histogram_stddev", "histogram_stdvar"}
)


def bare_selectors(expr: Expr) -> frozenset[int]:
    """The selectors, by their `id`, of whose native histograms nothing above them looks at the buckets.

    Count, sum and average need none, unless something else on the way does. A subquery does: it may leave out samples,
    and then only buckets tell of counters' resets.
    """
    found: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(expr, False)]
    while stack:
        node, bare = stack.pop()
        if _needs_buckets(node):
            continue
        if isinstance(node, VectorSelector) and bare:
            found.add(id(node))
        bare = bare or (isinstance(node, Call) and node.function in _WITHOUT_BUCKETS)
        stack.extend((child, bare) for child in node.children())
    return frozenset(found)


def _needs_buckets(node: Expr) -> bool:
    match node:
        case Call():
            return node.function in _WITH_BUCKETS
        case Aggregate():
            return node.operator == "count_values"
        case Binary():
            return node.operator in ("==", "!=") or node.operator in TRIMS
    return isinstance(node, Subquery)
