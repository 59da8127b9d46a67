"""What the conformance cases run on: series in memory, or the storage itself.

`MemoryStorage` is the plain statement of what `select` means; times may be negative, and nothing is encoded.
`CoreStorage` puts the same cases through the real one, in a new folder after each `clear`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

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


class CoreStorage:
    """The storage as the server has it, behind the runner's few methods."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self.clear()

    def clear(self) -> None:
        """Forget everything: a new folder."""
        self.close()
        self._folder = TemporaryDirectory(prefix="conformance-")
        self._storage = _core.Storage(self._folder.name, retention_seconds=200 * 365 * 86400)

    def close(self) -> None:
        """Release the folder."""
        if self._folder is not None:
            self._storage.close()
            self._folder.cleanup()
            self._folder = None

    def append(self, labels: dict[str, str], samples: Sequence[tuple[int, float]]) -> None:
        """Add samples to a series."""
        times = np.array([time for time, _ in samples], np.int64)
        values = np.array([value for _, value in samples], np.float64)
        self._storage.append(LabelSets.from_dicts([labels] * len(samples)), times, values)

    def select(
        self, matchers: Sequence[tuple[str, str, str]], start: int, end: int, *, max_samples: int = 0
    ) -> "_core.Selection":
        """As the storage does."""
        return self._storage.select(matchers, start, end, max_samples=max_samples)
