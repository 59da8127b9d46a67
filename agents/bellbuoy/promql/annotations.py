"""Warnings and infos: what a result does not say by itself, with the place in the query that it is about.

The texts are Prometheus's, so that its users and its clients know them. Equal ones are kept once, in the order they
came.
"""

from bellbuoy.exposition import go_number
from bellbuoy.promql.errors import line_and_column
from bellbuoy.promql.lexer import quote
from bellbuoy.promql.nodes import Expr

_MONOTONICITY = (
    "input to histogram_quantile needed to be fixed for monotonicity "
    "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


class Annotations:
    """What was noticed while one query ran."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._warnings: dict[str, None] = {}
        self._infos: dict[str, None] = {}

    @property
    def warnings(self) -> list[str]:
        """The result may be wrong or not what was meant."""
        return list(self._warnings)

    @property
    def infos(self) -> list[str]:
        """Worth knowing."""
        return list(self._infos)

    def _place(self, expr: Expr) -> str:
        line, column = line_and_column(self._query, expr.span.start)
        return f"({line}:{column})"

    def warn(self, expr: Expr, text: str) -> None:
        """Add a warning about this part of the query."""
        self._warnings[f"PromQL warning: {text} {self._place(expr)}"] = None

    def info(self, expr: Expr, text: str) -> None:
        """Add an info about this part of the query."""
        self._infos[f"PromQL info: {text} {self._place(expr)}"] = None

    def invalid_quantile(self, expr: Expr, value: float) -> None:
        """A quantile outside 0 to 1."""
        self.warn(expr, f"quantile value should be between 0 and 1, got {go_number(value)}")

    def invalid_ratio(self, expr: Expr, value: float, used: float) -> None:
        """A ratio outside -1 to 1."""
        got, to = go_number(value), go_number(used)
        self.warn(expr, f"ratio value should be between -1 and 1, got {got}, capping to {to}")

    def bad_bucket(self, expr: Expr, metric: str, label: str) -> None:
        """A classic bucket whose `le` is no number."""
        text = f'bucket label "le" is missing or has a malformed value of {quote(label)}'
        self.warn(expr, text + _for_metric(metric))

    def forced_monotonicity(self, expr: Expr, metric: str) -> None:
        """Classic buckets whose counts fell from one to the next."""
        self.info(expr, _MONOTONICITY + _for_metric(metric))

    def possible_non_counter(self, expr: Expr, metric: str) -> None:
        """A rate of what is not named as counters are."""
        text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
        self.info(expr, f"{text} {quote(metric)}")

    def ineffective_sort(self, expr: Expr) -> None:
        """A sort in a range query."""
        self.warn(expr, "sort is ineffective for range queries since results are always ordered by labels")


def _for_metric(metric: str) -> str:
    return f" for metric name {quote(metric)}" if metric else ""
