"""A rule's series in the storage: numbers as one row, native histograms beside it, stale markers for what is gone.

Each rule is a group of the storage of its own (a `Writer`), which marks the numbers' series that a row no longer has.
Histograms go the general path; which series they made the last time is remembered here.
"""

import numpy as np
from numpy.typing import NDArray

from bellbuoy.promql import is_histogram, numbers_of
from bellbuoy.tsdb import STALE_BITS, Histograms, LabelSets, Storage

_STALE = np.array([STALE_BITS], np.uint64).view(np.float64)[0]


class RuleWriter:
    """What one rule writes with. The same name is the same rule after a reload or a restart."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.name = name
        self._storage, self._writer = storage, storage.writer(name)
        self._histograms: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def append(
        self, at_ms: int, labels: LabelSets, values: NDArray[np.float64], histograms: Histograms | None = None
    ) -> None:
        """Store one evaluation's whole result. Raises StorageError."""
        marks = is_histogram(values) if histograms else np.zeros(len(values), np.bool_)
        if histograms and marks.any():
            rows = np.flatnonzero(marks)
            marked, held = labels.take(rows), values[rows]
            rows = np.flatnonzero(~marks)
            labels, values = labels.take(rows), np.ascontiguousarray(values[rows])
            self._append_histograms(at_ms, marked, held, histograms, numbers=labels)
        elif self._histograms:
            self._end_histograms(at_ms, keep=set(), numbers=labels)
        self._writer.append(at_ms, labels, values)

    def _append_histograms(
        self,
        at_ms: int,
        labels: LabelSets,
        marks: NDArray[np.float64],
        histograms: Histograms,
        *,
        numbers: LabelSets,
    ) -> None:
        which = numbers_of(marks).tolist()
        times = np.full(len(which), at_ms, np.int64)
        # Before the row: of equal times the first sample wins, and the row may end a series that was of numbers.
        self._storage.append_histograms(labels, times, [histograms[number] for number in which])
        now = {tuple(sorted(pairs.items())): pairs for pairs in labels.to_dicts()}
        self._end_histograms(at_ms, keep=set(now), numbers=numbers)
        self._histograms = now

    def _end_histograms(self, at_ms: int, *, keep: set[tuple[tuple[str, str], ...]], numbers: LabelSets) -> None:
        """Of what was a histogram and is a number now nothing is said: its next sample comes with the row."""
        keep = keep | {tuple(sorted(pairs.items())) for pairs in numbers.to_dicts()} if self._histograms else keep
        gone = [pairs for key, pairs in self._histograms.items() if key not in keep]
        self._histograms = {key: pairs for key, pairs in self._histograms.items() if key in keep}
        if gone:
            times, values = np.full(len(gone), at_ms, np.int64), np.full(len(gone), _STALE)
            self._storage.append(LabelSets.from_dicts(gone), times, values)

    def take_over(self, old: "RuleWriter") -> None:
        """Go on where the same rule's writer was before a reload."""
        self._histograms = old._histograms

    def end(self, at_ms: int) -> None:
        """Stale markers for all that was written last."""
        self.append(at_ms, LabelSets.from_dicts([]), np.empty(0))
