"""PromQL: text to syntax tree, and over a storage to results, as Prometheus 3.16 answers.

`parse`, `format_expr` and `selectors` work on text and trees. `Engine` evaluates over anything that selects as the
storage does (`Queryable`): `instant` at one time, `range` over steps. Both give a `QueryResult`; what goes wrong is a
`QueryError`, whose `kind` is the HTTP API's `errorType`.
"""

from bellbuoy.promql.calls import Value
from bellbuoy.promql.engine import Engine, EngineOptions
from bellbuoy.promql.errors import (
    ExecutionError,
    InvalidQuery,
    ParseError,
    QueryCanceled,
    QueryError,
    QueryTimeout,
)
from bellbuoy.promql.evaluator import Queryable
from bellbuoy.promql.functions import FUNCTIONS
from bellbuoy.promql.nodes import Expr, MatrixSelector, Subquery, VectorSelector, selectors, walk
from bellbuoy.promql.parser import parse
from bellbuoy.promql.printer import format_expr
from bellbuoy.promql.recorder import Recorder
from bellbuoy.promql.result import QueryResult
from bellbuoy.promql.values import Vector, is_histogram, numbers_of
from bellbuoy.promql.windows import Windows

__all__ = [
    "FUNCTIONS",
    "Engine",
    "EngineOptions",
    "ExecutionError",
    "Expr",
    "InvalidQuery",
    "MatrixSelector",
    "ParseError",
    "QueryCanceled",
    "QueryError",
    "QueryResult",
    "QueryTimeout",
    "Queryable",
    "Recorder",
    "Subquery",
    "Value",
    "Vector",
    "VectorSelector",
    "Windows",
    "format_expr",
    "is_histogram",
    "numbers_of",
    "parse",
    "selectors",
    "walk",
]
