"""Warnings and infos: what a result does not say by itself, with the place in the query that it is about.

The texts are Prometheus's, so that its users and its clients know them. Of equal ones the last is kept, as there: it is
about the outermost part of the query that has it.
"""

import math
from dataclasses import dataclass

import numpy as np

from bellbuoy.exposition import go_number
from bellbuoy.promql.errors import line_and_column
from bellbuoy.promql.lexer import quote
from bellbuoy.promql.nodes import Expr

_MONOTONICITY = (
    "input to histogram_quantile needed to be fixed for monotonicity "
    "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


@dataclass(frozen=True)
class Falls:
    """Where classic buckets' counts fell: bounds of the lowest and highest bucket, how deep, how often, when (ms)."""

    lowest: float
    highest: float
    deepest: float
    count: int
    first_ms: int
    last_ms: int

    def with_more(self, other: "Falls") -> "Falls":
        """These and others."""
        return Falls(
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
            max(self.deepest, other.deepest),
            self.count + other.count,
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
        )

    def __str__(self) -> str:
        buckets = f"from buckets {go_number(self.lowest)} to {go_number(self.highest)}"
        deepest = "+Inf" if self.deepest == math.inf else f"{self.deepest:.2g}"
        when = f"from {_rfc3339(self.first_ms)} to {_rfc3339(self.last_ms)}"
        return f"{buckets}, with a max diff of {deepest}, over {self.count} samples {when}"


class Annotations:
    """What was noticed while one query ran."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._warnings: dict[str, str] = {}
        self._infos: dict[str, str] = {}
        self._falls: dict[str, Falls] = {}
        self._overlaps: dict[str, int] = {}

    @property
    def warnings(self) -> list[str]:
        """The result may be wrong or not what was meant."""
        return [f"PromQL warning: {text}{self._often(text)} {place}" for text, place in self._warnings.items()]

    @property
    def infos(self) -> list[str]:
        """Worth knowing."""
        return [f"PromQL info: {text}{self._details(text)} {place}" for text, place in self._infos.items()]

    def _place(self, expr: Expr) -> str:
        line, column = line_and_column(self._query, expr.span.start)
        return f"({line}:{column})"

    def warn(self, expr: Expr, text: str) -> None:
        """Add a warning about this part of the query."""
        self._warnings[text] = self._place(expr)

    def info(self, expr: Expr, text: str) -> None:
        """Add an info about this part of the query."""
        self._infos[text] = self._place(expr)

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

    def forced_monotonicity(self, expr: Expr, metric: str, falls: "Falls") -> None:
        """Classic buckets whose counts fell from one to the next."""
        text = _MONOTONICITY + _for_metric(metric)
        known = self._falls.get(text)
        self._falls[text] = falls if known is None else known.with_more(falls)
        self.info(expr, text)

    def _details(self, text: str) -> str:
        return f", {self._falls[text]}" if text in self._falls else ""

    def mixed_window(self, expr: Expr, metric: str) -> None:
        """Floats and histograms in one window of a function that takes either."""
        self.warn(expr, f"encountered a mix of histograms and floats for metric name {quote(metric)}")

    def mixed_group(self, expr: Expr) -> None:
        """Floats and histograms in one group of an aggregation that takes either."""
        self.warn(expr, "encountered a mix of histograms and floats for aggregation")

    def mixed_classic_native(self, expr: Expr, metric: str) -> None:
        """A histogram that is there twice, as buckets and as one sample."""
        self.warn(expr, "vector contains a mix of classic and native histograms" + _for_metric(metric))

    def mixed_buckets(self, expr: Expr, metric: str) -> None:
        """Exponential and custom buckets, which cannot be added."""
        text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name"
        self.warn(expr, f"{text} {quote(metric)}")

    def incompatible_buckets(self, expr: Expr, operator: str) -> None:
        """The same, of a binary operator."""
        self.warn(expr, f"incompatible bucket layout encountered for binary operator {operator}")

    def incompatible_types(self, expr: Expr, left: str, operator: str, right: str) -> None:
        """A binary operator that is not defined on these."""
        text = f'incompatible sample types encountered for binary operator "{operator}"'
        self.info(expr, f"{text}: {left} {operator} {right}")

    def not_counter(self, expr: Expr, metric: str) -> None:
        """A rate of a gauge histogram."""
        self.warn(expr, f"this native histogram metric is not a counter: {quote(metric)}")

    def not_gauge(self, expr: Expr, metric: str) -> None:
        """A delta of a counter histogram."""
        self.warn(expr, f"this native histogram metric is not a gauge: {quote(metric)}")

    def colliding_resets(self, expr: Expr, operation: str) -> None:
        """One histogram's counter was reset, another's was not."""
        self.warn(expr, f"conflicting counter resets during histogram {operation}")

    def reconciled_bounds(self, expr: Expr, operation: str) -> None:
        """Custom buckets of different bounds, of which those that all have were taken."""
        self.info(expr, f"mismatched custom buckets were reconciled during {operation}")

    def ignored_in_group(self, expr: Expr, aggregation: str) -> None:
        """An aggregation that takes floats only."""
        self.info(expr, f"ignored histogram in {aggregation} aggregation")

    def ignored_in_window(self, expr: Expr, metric: str) -> None:
        """A function of windows that takes floats only, and there are both."""
        text = "ignored histograms in a range containing both floats and histograms for metric name"
        self.info(expr, f"{text} {quote(metric)}")

    def nan_quantile(self, expr: Expr, metric: str) -> None:
        """A quantile among observations that are NaN."""
        text = "input to histogram_quantile has NaN observations, result is NaN"
        self.info(expr, text + _for_metric(metric))

    def skewed_quantile(self, expr: Expr, metric: str) -> None:
        """A quantile that takes NaN observations as the largest."""
        text = "input to histogram_quantile has NaN observations, result is skewed higher"
        self.info(expr, text + _for_metric(metric))

    def nan_fraction(self, expr: Expr, metric: str) -> None:
        """A fraction that leaves out NaN observations."""
        text = "input to histogram_fraction has NaN observations, which are excluded from all fractions"
        self.info(expr, text + _for_metric(metric))

    def overlapping_starts(self, expr: Expr, metric: str, count: int) -> None:
        """Samples that say to have begun before the one before them was taken; `count` windows have any."""
        text = f"sample has start time that overlaps with previous sample timestamp for metric {quote(metric)}"
        self._overlaps[text] = self._overlaps.get(text, 0) + count
        self.warn(expr, text)

    def _often(self, text: str) -> str:
        count = self._overlaps.get(text, 1)
        return f" ({count} occurrences)" if count > 1 else ""

    def possible_non_counter(self, expr: Expr, metric: str) -> None:
        """A rate of what is not named as counters are."""
        text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
        self.info(expr, f"{text} {quote(metric)}")

    def ineffective_sort(self, expr: Expr) -> None:
        """A sort in a range query."""
        self.warn(expr, "sort is ineffective for range queries since results are always ordered by labels")


def _rfc3339(milliseconds: int) -> str:
    seconds = int(milliseconds / 1000)  # towards zero
    return str(np.datetime64(seconds, "s")) + "Z"


def _for_metric(metric: str) -> str:
    return f" for metric name {quote(metric)}" if metric else ""
