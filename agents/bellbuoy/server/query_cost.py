"""What one query costs, and the storage as that query may see it.

`Source` stands between the engine and the storage: every selection goes through it, whatever function or operator
asks. So it is the one place where a request's `extra_filters[]` are enforced, and where samples are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bellbuoy.promql import Recorder
from bellbuoy.tsdb import Selection, Storage

Matcher = tuple[str, str, str]


@dataclass
class Cost:
    """Grows while a query runs; the thread that runs it writes, others only read."""

    samples: int = 0
    """Loaded from the storage, those of a selector that stands twice counted twice."""
    series: int = 0
    """Selected, counted like samples."""
    peak_bytes: int = 0
    """The most that its samples and its answer take at once; what is computed in between is not in it."""
    cpu_seconds: float = 0.0
    """Of its thread."""
    queue_seconds: float = 0.0
    prepare_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    total_seconds: float = 0.0
    """From the request to the end, queue included."""

    def holds(self, size: int) -> None:
        """So many bytes more are in memory, until the query ends."""
        self.peak_bytes += size

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {
            "samples": self.samples,
            "series": self.series,
            "cpuSeconds": self.cpu_seconds,
            "peakBytes": self.peak_bytes,
            "queueSeconds": self.queue_seconds,
            "seconds": self.total_seconds,
        }


class Source:
    """The storage's samples, of the series that all filters match."""

    def __init__(
        self, storage: Storage, *, filters: Sequence[Matcher], cost: Cost, recorder: Recorder | None = None
    ) -> None:
        self._storage, self._filters, self._cost, self._recorder = storage, tuple(filters), cost, recorder

    def select(self, matchers: Sequence[Matcher], start: int, end: int, *, max_samples: int = 0) -> Selection:
        """As the storage's own."""
        found = self._storage.select((*matchers, *self._filters), start, end, max_samples=max_samples)
        series, samples = len(found.labels), len(found.timestamps)
        self._cost.series += series
        self._cost.samples += samples
        self._cost.holds(found.offsets.nbytes + found.timestamps.nbytes + found.values.nbytes)
        if self._recorder is not None:
            self._recorder.selected(series=series, samples=samples)
        return found


def restricted(selectors: Sequence[Sequence[Matcher]], filters: Sequence[Matcher]) -> list[Sequence[Matcher]]:
    """The selectors, of which any must match, with the filters, which all must; nothing stands for all series."""
    if not filters:
        return list(selectors)
    return [(*one, *filters) for one in selectors] or [tuple(filters)]
