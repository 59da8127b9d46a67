"""A range query in pieces of its time, when its selectors would load more samples at once than need be in memory.

Each step is computed by itself, so steps may be evaluated some at a time. What is loaded at once is bounded, however
long the range is; `max_samples` then bounds what a single piece may load.
"""

from collections.abc import Callable

import numpy as np

from bellbuoy._core import LabelSets
from bellbuoy.promql.errors import ExecutionError, TooManySamples
from bellbuoy.promql.values import Floats, Ints, Scalar, Vector, empty, finish, joined

SAMPLES_AT_ONCE = 8_000_000
"""About 128 MB. More are loaded at once only where a single step needs them."""
_PARTS = 32

Evaluate = Callable[[Ints, int], object]
"""The value over these times; a select of more samples than the number raises TooManySamples, 0 leaves it the limit."""


def in_pieces(evaluate: Evaluate, times: Ints) -> Vector | Scalar:
    """The value over all times, which is a vector or scalar; vectors that were put together are finished."""
    try:
        return _checked(evaluate(times, SAMPLES_AT_ONCE if len(times) > 1 else 0))
    except TooManySamples:
        if len(times) < 2:
            raise
    parts = [in_pieces(evaluate, part) for part in np.array_split(times, min(_PARTS, len(times)))]
    scalars = [part.values for part in parts if isinstance(part, Scalar)]
    if scalars:
        return Scalar(np.concatenate(scalars))
    vectors = [finish(part) for part in parts if isinstance(part, Vector)]
    return _joined(vectors, len(times))


def _checked(value: object) -> Vector | Scalar:
    if not isinstance(value, Vector | Scalar):
        raise ExecutionError("BUG: a range query gave neither scalar nor vector")
    return value


def _joined(vectors: list[Vector], steps: int) -> Vector:
    """One after the other in time; no vector has equal labels twice."""
    labels = LabelSets.concat([vector.labels for vector in vectors])
    if len(labels) == 0:
        return empty(steps)
    series, firsts = labels.group()
    histograms, parts = joined([(vector.values, vector.histograms) for vector in vectors])
    values: Floats = np.zeros((len(firsts), steps))
    present = np.zeros((len(firsts), steps), np.bool_)
    row = step = 0
    for vector, part in zip(vectors, parts, strict=True):
        rows, columns = series[row : row + len(vector.labels)], slice(step, step + vector.steps)
        values[rows, columns], present[rows, columns] = part, vector.present
        row, step = row + len(vector.labels), step + vector.steps
    return Vector(labels.take(firsts), values, present, np.zeros(len(firsts), np.bool_), histograms)
