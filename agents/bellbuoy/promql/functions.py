"""The functions' signatures: what the type checker and the printer know of them. What they compute stands elsewhere.

`variadic` is how many arguments may be left out or added: 0 none, n up to n of the last type, -1 any number of them.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ValueType: TypeAlias = Literal["scalar", "vector", "matrix", "string"]

TYPE_NAMES: dict[str, str] = {
    "scalar": "scalar",
    "vector": "instant vector",
    "matrix": "range vector",
    "string": "string",
}


@dataclass(frozen=True)
class Function:
    """A function's name, its arguments' types, and what it returns."""

    name: str
    arguments: tuple[ValueType, ...]
    returns: ValueType = "vector"
    variadic: int = 0
    experimental: bool = False

    @property
    def least(self) -> int:
        """The fewest arguments it takes."""
        return len(self.arguments) - (1 if self.variadic else 0)


def _functions() -> dict[str, Function]:
    table: dict[str, Function] = {}

    def add(
        names: str, *arguments: ValueType, returns: ValueType = "vector", variadic: int = 0, new: bool = False
    ) -> None:
        for name in names.split():
            table[name] = Function(name, arguments, returns, variadic, new)

    math = (
        "abs acos acosh asin asinh atan atanh ceil cos cosh deg exp floor ln log10 log2 rad sgn sin sinh sqrt tan tanh"
    )
    add(f"{math} absent sort sort_desc timestamp", "vector")
    add("histogram_avg histogram_count histogram_stddev histogram_stdvar histogram_sum", "vector")
    add("day_of_month day_of_week day_of_year days_in_month hour minute month year", "vector", variadic=1)
    add("absent_over_time avg_over_time changes count_over_time delta deriv first_over_time idelta increase", "matrix")
    add("irate last_over_time max_over_time min_over_time present_over_time rate resets", "matrix")
    add("stddev_over_time stdvar_over_time sum_over_time", "matrix")
    add("quantile_over_time", "scalar", "matrix")
    add("predict_linear", "matrix", "scalar")
    add("clamp", "vector", "scalar", "scalar")
    add("clamp_max clamp_min", "vector", "scalar")
    add("round", "vector", "scalar", variadic=1)
    add("histogram_quantile", "scalar", "vector")
    add("histogram_fraction", "scalar", "scalar", "vector")
    add("label_replace", "vector", "string", "string", "string", "string")
    add("label_join", "vector", "string", "string", "string", variadic=-1)
    add("pi time", returns="scalar")
    add("scalar", "vector", returns="scalar")
    add("vector", "scalar")
    add("double_exponential_smoothing", "matrix", "scalar", "scalar", new=True)
    add("histogram_quantiles", "vector", "string", "scalar", "scalar", variadic=-1, new=True)
    add("info", "vector", "vector", variadic=1, new=True)
    add("integral", "matrix", "scalar", variadic=1, new=True)
    add("mad_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time", "matrix", new=True)
    add("ts_of_min_over_time", "matrix", new=True)
    add("max_of min_of", "scalar", "scalar", returns="scalar", new=True)
    add("start end step range", returns="scalar", new=True)
    add("sort_by_label sort_by_label_desc", "vector", "string", variadic=-1, new=True)
    add("start_timestamp", "vector", new=True)
    return table


FUNCTIONS = _functions()

AGGREGATIONS = frozenset(
    {"sum", "avg", "count", "min", "max", "group", "stddev", "stdvar"}
    | {"topk", "bottomk", "count_values", "quantile", "limitk", "limit_ratio"}
)
AGGREGATION_PARAMETERS: dict[str, ValueType] = {
    "topk": "scalar",
    "bottomk": "scalar",
    "quantile": "scalar",
    "limitk": "scalar",
    "limit_ratio": "scalar",
    "count_values": "string",
}
