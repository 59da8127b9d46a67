"""A data folder that is read to be exported: whole metrics, piece by piece, never more than fits in memory.

The folder is opened as a server opens it, so it is never read while one writes to it. Nothing of it is retired here,
however old it is: how long data is kept is the server's to say.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bellbuoy.archive.errors import ExportError
from bellbuoy.labels import NAME
from bellbuoy.tsdb import HISTOGRAM_MARK, Histogram, Histograms, LabelSets, Storage, StorageError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Matchers = Sequence[tuple[str, str, str]]

# What is held at once: 16 bytes a sample, and some times as much while it is being encoded.
PIECE_SAMPLES = 4_000_000
# Some three thousand years.
KEEP_SECONDS = 1e11


@dataclass(frozen=True)
class Samples:
    """Series, sorted, and their samples: those of series i are `offsets[i]:offsets[i + 1]`, ascending in time.

    A value may be the mark of a histogram, as in a Selection: its lower half is the number of the histogram.
    """

    labels: LabelSets
    offsets: Ints
    timestamps: Ints
    values: Floats
    histograms: Histograms

    @staticmethod
    def join(parts: "Sequence[Samples]") -> "Samples":
        """The series of all, one part's behind the other's."""
        if len(parts) == 1:
            return parts[0]
        offsets, values, samples, histograms = [np.zeros(1, np.int64)], [], 0, 0
        for part in parts:
            offsets.append(part.offsets[1:] + samples)
            samples += len(part.timestamps)
            # The numbers of histograms are those of the whole list.
            shifted = part.values
            if histograms and len(part.histograms):
                shifted = (shifted.view(np.int64) + is_histogram(shifted) * histograms).view(np.float64)
            values.append(shifted)
            histograms += len(part.histograms)
        return Samples(
            LabelSets.concat([part.labels for part in parts]),
            np.concatenate(offsets),
            np.concatenate([part.timestamps for part in parts]),
            np.concatenate(values),
            Histograms.concat([part.histograms for part in parts]),
        )

    def take(self, rows: Ints) -> "Samples":
        """These series, in this order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        at = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Samples(self.labels.take(rows), offsets, self.timestamps[at], self.values[at], self.histograms)

    def at(self, chosen: NDArray[np.bool_]) -> "Samples":
        """Without the samples that are not chosen; all series stay."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)])
        return Samples(self.labels, before[self.offsets], self.timestamps[chosen], self.values[chosen], self.histograms)


def is_histogram(values: Floats) -> NDArray[np.bool_]:
    """Which values stand for histograms."""
    return np.asarray(values.view(np.int64) >> 32 == HISTOGRAM_MARK)


def histograms_of(samples: Samples, at: Ints) -> list[Histogram]:
    """The histograms that the values at these places stand for."""
    numbers = samples.values.view(np.int64)[at] & 0xFFFFFFFF
    return [samples.histograms[number] for number in numbers.tolist()]


@contextmanager
def open_storage(path: Path) -> Iterator[Storage]:
    """The folder's storage, which keeps all it has; closed at the end. Raises StorageError."""
    storage = Storage(str(path), retention_seconds=KEEP_SECONDS)
    try:
        yield storage
    finally:
        storage.close()


class Source:
    """What of a storage is exported: the series that match any of the selectors, between two times, both included."""

    def __init__(
        self, storage: Storage, selectors: Sequence[Matchers], *, start: int | None = None, end: int | None = None
    ) -> None:
        self._storage = storage
        self._selectors = [list(one) for one in selectors] or [[]]
        held = storage.time_range() or (0, -1)
        self.start = held[0] if start is None else max(start, held[0])
        self.end = held[1] if end is None else min(end, held[1])

    @staticmethod
    @contextmanager
    def of_folder(
        path: Path,
        selectors: Sequence[Matchers] = (),
        *,
        start: int | None = None,
        end: int | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> "Iterator[Source]":
        """Of a data folder that nobody uses. Raises ExportError; `warn` is told what was damaged."""
        if not (path / "catalog").is_file():
            raise ExportError(
                f"cannot export {path}: it is no data folder; name the one of --storage.path of the server"
            )
        try:
            with open_storage(path) as storage:
                for loss in storage.losses():
                    warn(loss)
                yield Source(storage, selectors, start=start, end=end)
        except StorageError as e:
            raise ExportError(str(e)) from e

    def windows(self, milliseconds: int) -> Iterator[tuple[int, int]]:
        """The first and last times of the windows of this length, counted from 1970, that may hold samples."""
        at = self.start // milliseconds * milliseconds
        while at <= self.end:
            yield max(at, self.start), min(at + milliseconds - 1, self.end)
            at += milliseconds

    def label_names(self) -> list[str]:
        """All names of labels of what is exported, sorted."""
        return sorted(self._storage.label_names(self._selectors, self.start, self.end))

    def metrics(self, start: int, end: int) -> list[str]:
        """The names of the metrics in a window, sorted; an empty one stands for series without a name."""
        return ["", *sorted(self._storage.label_values(NAME, self._selectors, start, end))]

    def metric(self, name: str, start: int, end: int) -> Iterator[Samples]:
        """A metric in a window, in pieces that follow each other in time."""
        try:
            samples = self._select(name, start, end, PIECE_SAMPLES if start < end else 0)
        except OverflowError:
            middle = (start + end) // 2
            yield from self.metric(name, start, middle)
            yield from self.metric(name, middle + 1, end)
            return
        if len(samples.labels):
            yield samples

    def _select(self, name: str, start: int, end: int, limit: int) -> Samples:
        found = [
            self._storage.select([(NAME, "=", name), *one], start, end, max_samples=limit) for one in self._selectors
        ]
        whole = Samples.join(
            [Samples(one.labels, one.offsets, one.timestamps, one.values, one.histograms) for one in found]
        )
        # A series that two selectors match is there once.
        first = whole.labels.group()[1]
        return whole.take(first[whole.labels.take(first).order()])
