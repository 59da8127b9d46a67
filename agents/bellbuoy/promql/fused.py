"""Functions of windows in one pass: the core's, where it has them, in place of the numpy that says what they mean.

`kernel()` gives a function of blocks of windows that the evaluator may also call whole. A function that the core does
not have, windows that reach beyond their ends, and counters whose start is known go by blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bellbuoy import _core
from bellbuoy.promql.values import Floats, Ints, Mask
from bellbuoy.promql.windows import Block, Samples, Windows

RATES = frozenset({"changes", "delta", "idelta", "increase", "irate", "rate", "resets"})
_MOVED = frozenset(f"{name}_over_time" for name in ("count", "first", "last", "present", "ts_of_first", "ts_of_last"))
_VALUES = frozenset(f"{name}_over_time" for name in ("avg", "max", "min", "stddev", "stdvar", "sum"))
FUNCTIONS = RATES | _MOVED | _VALUES
# Between two calls it is looked whether the query is canceled.
_CELLS = 1 << 19

Blockwise = Callable[[Block], tuple[Floats, Mask]]


@dataclass(frozen=True)
class Fused:
    """A function that the core has, too."""

    function: str
    blockwise: Blockwise

    def __call__(self, block: Block) -> tuple[Floats, Mask]:
        return self.blockwise(block)

    def takes(self, windows: Windows) -> bool:
        """Whether the core can do all of these windows."""
        extended = windows.before_ms or windows.after_ms
        marked = windows.samples.histograms is not None and self.function not in _MOVED
        started = windows.samples.starts is not None and self.function in RATES
        return not (extended or marked or started)

    def whole(self, windows: Windows, check: Callable[[], None]) -> tuple[Floats, Mask]:
        """The results of all windows; `check` may raise meanwhile."""
        return _whole(self.function, windows.samples, windows.ends, windows.range_ms, check)


def kernel(function: str, blockwise: Blockwise) -> Blockwise:
    """The kernel, or one that is the core's where that has it."""
    return Fused(function, blockwise) if function in FUNCTIONS else blockwise


def latest(samples: Samples, ends: Ints, lookback_ms: int, check: Callable[[], None]) -> tuple[Floats, Mask]:
    """For each series and step the newest value, and whether there is one that is fresh and no stale marker."""
    return _whole("", samples, ends, lookback_ms, check)


def _whole(
    function: str, samples: Samples, ends: Ints, range_ms: int, check: Callable[[], None]
) -> tuple[Floats, Mask]:
    count, steps = len(samples.labels), len(ends)
    values, present = np.zeros((count, steps)), np.zeros((count, steps), np.bool_)
    flat = samples.offsets, samples.timestamps, samples.values
    size = max(1, _CELLS // max(1, steps))
    for first in range(0, count, size):
        check()
        rows = slice(first, first + size)
        _core.window_function(function, *flat, ends, range_ms, first, values[rows], present[rows])
    return values, present
