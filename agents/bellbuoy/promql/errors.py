"""What can go wrong with a query, by the kinds the HTTP API tells apart.

Each class has the `kind` that goes into `errorType`. The texts are Prometheus's own, since people search for them.
"""

from typing import ClassVar

TOO_MANY = "query processing would load too many samples into memory in query execution"


class QueryError(Exception):
    """A query that has no result; `kind` is the HTTP API's `errorType`."""

    kind: ClassVar[str] = "execution"


class ParseError(QueryError):
    """A text that is no PromQL. `start` and `end` are offsets into it, `line` and `column` count from one."""

    kind = "bad_data"

    def __init__(self, query: str, start: int, end: int, reason: str) -> None:
        self.start, self.end, self.reason = start, end, reason
        self.line, self.column = line_and_column(query, start)
        super().__init__(f"{self.line}:{self.column}: parse error: {reason}")


class InvalidQuery(QueryError):
    """A query that parses and cannot be asked this way: a string as a range query, a step of zero."""

    kind = "bad_data"


class ExecutionError(QueryError):
    """A query that fails on the data: many-to-many matching, equal label sets, too many samples."""


class TooManySamples(ExecutionError):
    """A selector would load more than it may at once."""


class QueryTimeout(QueryError):
    """A query that took longer than it may."""

    kind = "timeout"


class QueryCanceled(QueryError):
    """A query that nobody waits for any more."""

    kind = "canceled"


def line_and_column(query: str, offset: int) -> tuple[int, int]:
    """Where the offset is, both counted from one."""
    before = query[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
