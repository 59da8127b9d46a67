"""Series in memory, selected as the storage selects: what the conformance cases run on.

It is the plain statement of what `select` means; times may be negative, and nothing is encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bellbuoy._core import LabelSets
from bellbuoy.labels import Matcher
from numpy.typing import NDArray


@dataclass(frozen=True)
class Found:
    """As `_core.Selection`."""

    labels: LabelSets
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]


class MemoryStorage:
    """Samples by label set. A later sample at a time that has one already is dropped, as on append."""

    def __init__(self) -> None:
        self._series: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._series.clear()

    def append(self, labels: dict[str, str], samples: Sequence[tuple[int, float]]) -> None:
        """Add samples to a series."""
        known = self._series.setdefault(tuple(sorted(labels.items())), {})
        for time, value in samples:
            known.setdefault(time, value)

    def select(self, matchers: Sequence[tuple[str, str, str]], start: int, end: int, *, max_samples: int = 0) -> Found:
        """All samples with start <= t <= end of the series that match."""
        wanted = [Matcher(*matcher) for matcher in matchers]
        sets: list[dict[str, str]] = []
        offsets, times, values = [0], [], []
        for key in sorted(self._series):
            labels = dict(key)
            if not all(matcher.matches(labels) for matcher in wanted):
                continue
            samples = sorted((time, value) for time, value in self._series[key].items() if start <= time <= end)
            if samples:
                sets.append(labels)
                offsets.append(offsets[-1] + len(samples))
                times += [time for time, _ in samples]
                values += [value for _, value in samples]
        if max_samples and len(times) > max_samples:
            raise OverflowError(f"more than {max_samples} samples")
        return Found(
            LabelSets.from_dicts(sets),
            np.array(offsets, np.int64),
            np.array(times, np.int64),
            np.array(values, np.float64),
        )
