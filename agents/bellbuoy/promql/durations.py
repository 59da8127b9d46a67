"""Durations that are computed: `[5m + step()]`, `offset -range() / 2`, known when a query runs."""

import math

from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.nodes import Duration, DurationExpr, NumberLiteral


def milliseconds(duration: Duration, *, step_ms: int, range_ms: int, positive: bool = False) -> int:
    """How long it is, in a query of this step and range."""
    value = _seconds(duration, step_ms / 1000, range_ms / 1000)
    if not abs(value) * 1e9 < 2**63:
        raise ExecutionError("duration out of range")
    rounded = round(value * 1000)
    if positive and rounded <= 0:
        raise ExecutionError("duration must be greater than 0")
    return rounded


def _seconds(duration: Duration | None, step: float, extent: float) -> float:
    if duration is None:
        return 0.0
    if isinstance(duration, NumberLiteral):
        return duration.value
    if duration.operator == "step":
        return step
    if duration.operator == "range":
        return extent
    return _arithmetic(duration, _seconds(duration.left, step, extent), _seconds(duration.right, step, extent))


def _arithmetic(duration: DurationExpr, left: float, right: float) -> float:
    match duration.operator:
        case "()":
            return left
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/" | "%" if right == 0:
            raise ExecutionError("division by zero" if duration.operator == "/" else "modulo by zero")
        case "/":
            return left / right
        case "%":
            return math.fmod(left, right)
        case "^":
            try:
                return math.pow(left, right)
            except (OverflowError, ValueError) as e:
                raise ExecutionError("duration out of range") from e
        case "min_of":
            return min(left, right)
        case "max_of":
            return max(left, right)
    raise ExecutionError(f"BUG: no duration operator {duration.operator}")
