"""What the conformance cases run on: series in memory, or the storage itself.

`MemoryStorage` is the plain statement of what `select` means; times may be negative, and nothing is encoded.
`CoreStorage` puts the same cases through the real one, in a new folder after each `clear`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bellbuoy import _core
from bellbuoy._core import LabelSets
from bellbuoy.labels import Matcher


@dataclass(frozen=True)
class Found:
    """As `_core.Selection`."""

    labels: LabelSets
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    histograms: _core.Histograms | None = None
    start_timestamps: NDArray[np.int64] | None = None


Sample: TypeAlias = tuple[int, "float | _core.Histogram", int]
"""Time, value, and when the counter began; 0 where that is not known."""


class MemoryStorage:
    """Samples by label set. A later sample at a time that has one already is dropped, as on append."""

    def __init__(self) -> None:
        self._series: dict[tuple[tuple[str, str], ...], dict[int, tuple[float | _core.Histogram, int]]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._series.clear()

    def append(self, labels: dict[str, str], samples: Sequence[tuple[int, "float | _core.Histogram"] | Sample]) -> None:
        """Add samples to a series."""
        known = self._series.setdefault(tuple(sorted(labels.items())), {})
        for sample in samples:
            known.setdefault(sample[0], (sample[1], sample[2] if len(sample) == 3 else 0))

    def select(self, matchers: Sequence[tuple[str, str, str]], start: int, end: int, *, max_samples: int = 0) -> Found:
        """All samples with start <= t <= end of the series that match."""
        wanted = [Matcher(*matcher) for matcher in matchers]
        sets: list[dict[str, str]] = []
        offsets, times, starts = [0], [], []
        values: list[float] = []
        histograms: list[_core.Histogram] = []
        for key in sorted(self._series):
            labels = dict(key)
            if not all(matcher.matches(labels) for matcher in wanted):
                continue
            series = self._series[key]
            here = sorted(time for time in series if start <= time <= end)
            if not here:
                continue
            sets.append(labels)
            offsets.append(offsets[-1] + len(here))
            for time in here:
                value, began = series[time]
                if isinstance(value, _core.Histogram):
                    histograms.append(value)
                    value = float(_mark(len(histograms) - 1))
                times.append(time)
                values.append(value)
                starts.append(began)
        if max_samples and len(times) > max_samples:
            raise OverflowError(f"more than {max_samples} samples")
        return Found(
            LabelSets.from_dicts(sets),
            np.array(offsets, np.int64),
            np.array(times, np.int64),
            np.array(values, np.float64),
            _core.Histograms(histograms) if histograms else None,
            np.array(starts, np.int64),
        )


def _mark(number: int) -> np.float64:
    return np.int64(_core.HISTOGRAM_MARK << 32 | number).view(np.float64)


class CoreStorage:
    """The storage as the server has it, behind the runner's few methods."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self.clear()

    def clear(self) -> None:
        """Forget everything: a new folder."""
        self.close()
        self._starts: dict[tuple[tuple[str, str], ...], dict[int, int]] = {}
        self._folder = TemporaryDirectory(prefix="conformance-")
        self._storage = _core.Storage(self._folder.name, retention_seconds=200 * 365 * 86400)

    def close(self) -> None:
        """Release the folder."""
        if self._folder is not None:
            self._storage.close()
            self._folder.cleanup()
            self._folder = None

    def append(self, labels: dict[str, str], samples: Sequence[Sample]) -> None:
        """Add samples to a series."""
        floats = [(time, value) for time, value, _ in samples if not isinstance(value, _core.Histogram)]
        times = np.array([time for time, _ in floats], np.int64)
        values = np.array([value for _, value in floats], np.float64)
        self._storage.append(LabelSets.from_dicts([labels] * len(floats)), times, values)
        natives = [(time, value) for time, value, _ in samples if isinstance(value, _core.Histogram)]
        if natives:
            sets = LabelSets.from_dicts([labels] * len(natives))
            at = np.array([time for time, _ in natives], np.int64)
            self._storage.append_histograms(sets, at, [value for _, value in natives])
        known = self._starts.setdefault(tuple(sorted(labels.items())), {})
        for time, _, began in samples:
            if began:
                known.setdefault(time, began)

    def select(self, matchers: Sequence[tuple[str, str, str]], start: int, end: int, *, max_samples: int = 0) -> Found:
        """As the storage does, and starts beside it, which it does not have."""
        found = self._storage.select(matchers, start, end, max_samples=max_samples)
        starts: NDArray[np.int64] | None = None
        if any(self._starts.values()):
            starts = np.zeros(len(found.timestamps), np.int64)
            for row, labels in enumerate(found.labels.to_dicts()):
                known = self._starts.get(tuple(sorted(labels.items())), {})
                for place in range(int(found.offsets[row]), int(found.offsets[row + 1])):
                    starts[place] = known.get(int(found.timestamps[place]), 0)
        return Found(found.labels, found.offsets, found.timestamps, found.values, found.histograms, starts)
