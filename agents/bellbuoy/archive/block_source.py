"""One block as a source of samples: what it holds and others do not."""

from collections.abc import Iterator, Sequence

import numpy as np

from bellbuoy.archive.source import Ints, Samples, Source
from bellbuoy.tsdb import LabelSets, Storage


class BlockSource(Source):
    """A block between two times, both included, without what other blocks have at the same time of the same series.

    Every read raises KeyError when the block is gone: it was merged, or is past its time.
    """

    def __init__(self, storage: Storage, number: int, start: int, end: int, *, without: Sequence[int] = ()) -> None:
        super().__init__(storage, (), start=start, end=end)
        self.start, self.end = start, end
        self._number, self._without = number, tuple(without)

    def label_names(self) -> list[str]:
        """All names of labels in the block."""
        return self._storage.block_label_names(self._number)

    def windows(self, milliseconds: int) -> Iterator[tuple[int, int]]:
        """All of it: late samples may have any timestamps, and most of the days between them would be empty."""
        yield self.start, self.end

    def metrics(self, start: int, end: int) -> list[str]:
        """The names of its metrics, sorted."""
        return self._storage.block_metrics(self._number)

    def has_samples(self) -> bool:
        """Whether there is a single one."""
        return any(
            len(piece.timestamps)
            for name in self.metrics(self.start, self.end)
            for piece in self.metric(name, self.start, self.end)
        )

    def _select(self, name: str, start: int, end: int, limit: int) -> Samples:
        found = self._one(self._number, name, start, end, limit)
        for other in self._without:
            found = minus(found, self._one(other, name, start, end, limit))
        return found

    def _one(self, number: int, name: str, start: int, end: int, limit: int) -> Samples:
        one = self._storage.block_select(number, name, start, end, max_samples=limit)
        return Samples(one.labels, one.offsets, one.timestamps, one.values, one.histograms)


def minus(samples: Samples, others: Samples) -> Samples:
    """The samples at whose time the others have none of the same series."""
    if not len(samples.timestamps) or not len(others.timestamps):
        return samples
    numbers, _ = LabelSets.concat([samples.labels, others.labels]).group()
    count = len(samples.labels)
    # Timestamps may be any: by their places they make one number with that of the series.
    times = np.unique(np.concatenate([samples.timestamps, others.timestamps]))

    def keys(of: Samples, series: Ints) -> Ints:
        return np.repeat(series, np.diff(of.offsets)) * len(times) + np.searchsorted(times, of.timestamps)

    own, theirs = keys(samples, numbers[:count]), keys(others, numbers[count:])
    return samples.at(~np.isin(own, theirs))
