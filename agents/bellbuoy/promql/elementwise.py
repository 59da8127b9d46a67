"""Functions of single values: arithmetic, mathematics and parts of dates. Arrays in, arrays of one shape out."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.values import Floats, Mask

MATH: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": lambda values: values * (180 / np.pi),
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": lambda values: values * (np.pi / 180),
    "sgn": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}


def binary(operator: str, left: Floats, right: Floats) -> Floats:
    """Arithmetic as Prometheus's; a comparison gives 1 or 0."""
    with np.errstate(all="ignore"):
        match operator:
            case "+":
                result = left + right
            case "-":
                result = left - right
            case "*":
                result = left * right
            case "/":
                result = left / right
            case "%":
                result = np.fmod(left, right)
            case "^":
                result = np.power(left, right)
            case "atan2":
                result = np.arctan2(left, right)
            case _:
                result = _compare(operator, left, right).astype(np.float64)
    return np.asarray(result)


def _compare(operator: str, left: Floats, right: Floats) -> Mask:
    match operator:
        case "==":
            return np.equal(left, right)
        case "!=":
            return np.not_equal(left, right)
        case "<":
            return np.less(left, right)
        case "<=":
            return np.less_equal(left, right)
        case ">":
            return np.greater(left, right)
        case ">=":
            return np.greater_equal(left, right)
    raise ExecutionError(f"BUG: no operator {operator}")


def larger(left: Floats, right: Floats) -> Floats:
    """The larger of two; of NaN and another NaN, but of NaN and infinity infinity, as in Prometheus."""
    return np.where((left == np.inf) | (right == np.inf), np.inf, np.maximum(left, right))


def smaller(left: Floats, right: Floats) -> Floats:
    """The smaller of two; of NaN and another NaN, but of NaN and minus infinity that."""
    return np.where((left == -np.inf) | (right == -np.inf), -np.inf, np.minimum(left, right))


def round_to(values: Floats, nearest: Floats) -> Floats:
    """The nearest multiple, ties up. Prometheus multiplies by the inverse, which shows in the last digits."""
    with np.errstate(all="ignore"):
        inverse = 1.0 / nearest
        return np.asarray(np.floor(values * inverse + 0.5) / inverse)


def _days(values: Floats) -> NDArray[np.datetime64]:
    return _moments(values).astype("datetime64[D]")


def _moments(values: Floats) -> NDArray[np.datetime64]:
    finite = np.where(np.isfinite(values) & (np.abs(values) < 2**53), values, 0.0)
    return np.trunc(finite).astype(np.int64).astype("datetime64[s]")


def _since(moments: NDArray[np.datetime64], unit: str, part: str) -> NDArray[np.int64]:
    """How many of `part` since the moment's own `unit` began."""
    whole = moments.astype(f"datetime64[{unit}]").astype(f"datetime64[{part}]")
    return np.asarray((moments.astype(f"datetime64[{part}]") - whole).astype(np.int64))


def _days_in_month(values: Floats) -> NDArray[np.int64]:
    months = _moments(values).astype("datetime64[M]")
    following = (months + np.timedelta64(1, "M")).astype("datetime64[D]")
    return np.asarray((following - months.astype("datetime64[D]")).astype(np.int64))


_DATES: dict[str, Callable[[Floats], NDArray[np.int64]]] = {
    "day_of_month": lambda values: _since(_days(values), "M", "D") + 1,
    "day_of_week": lambda values: (_days(values).astype(np.int64) + 4) % 7,
    "day_of_year": lambda values: _since(_days(values), "Y", "D") + 1,
    "days_in_month": _days_in_month,
    "hour": lambda values: _since(_moments(values), "D", "h"),
    "minute": lambda values: _since(_moments(values), "h", "m"),
    "month": lambda values: _since(_moments(values), "Y", "M") + 1,
    "year": lambda values: _moments(values).astype("datetime64[Y]").astype(np.int64) + 1970,
}
DATE_FUNCTIONS = frozenset(_DATES)


def date_part(function: str, values: Floats) -> Floats:
    """The part of the UTC dates that the values are as seconds since 1970; NaN of what is no date."""
    valid = np.isfinite(values) & (np.abs(values) < 2**53)
    return np.where(valid, _DATES[function](values).astype(np.float64), np.nan)
