"""What a folder must hold, and what it may, by what the killed writer said.

A sample must be there once a flush that began after it has returned; it may be there from when its step began. A
deletion that has begun may hide what it covers, one that returned has. What is past its time may go. What was found
once must be found again.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bellbuoy._core import STALE_BITS, Storage
from tests.kill.steps import (
    DELETABLE,
    START_MS,
    STEP_MS,
    WIDTHS,
    Ints,
    Samples,
    all_of,
    bits,
    could_end,
    merged,
    of_keys,
    row,
    without,
)

NOTHING: Ints = np.array([], dtype=np.int64)


def found_in(storage: Storage, last_step: int) -> Ints:
    """The keys of all samples of a storage; each has its value, and a stale marker is where one may be."""
    found = storage.select([("__name__", "=~", ".+")], -(2**62), 2**62)
    numbers = np.array([int(labels["n"]) for labels in found.labels.to_dicts()], dtype=np.int64)
    assert len(set(numbers.tolist())) == len(numbers), "a series is there twice"
    series = np.repeat(numbers, np.diff(found.offsets))
    of = Samples(series, found.timestamps)
    got = found.values.view(np.uint64)
    stale = got == STALE_BITS
    ends = Samples(of.series[stale], of.times[stale])
    assert could_end(ends).all(), f"stale markers are invented: {_some(ends.keys[~could_end(ends)])}"
    latest = START_MS + last_step * STEP_MS + len(WIDTHS)
    assert not (ends.times > latest).any(), f"stale markers are invented: {_some(ends.keys[ends.times > latest])}"
    of = Samples(of.series[~stale], of.times[~stale])
    wrong = bits(of) != got[~stale]
    assert not wrong.any(), f"{wrong.sum()} values are not what was appended: {_some(of.keys[wrong])}"
    keys = np.sort(of.keys)
    assert np.diff(keys).all(), "a sample is there twice"
    return keys


def _some(keys: Ints) -> str:
    of = of_keys(keys)
    return ", ".join(f"series {n} at {t}" for n, t in list(zip(of.series.tolist(), of.times.tolist(), strict=True))[:3])


@dataclass
class Ledger:
    """Keys, sorted and once; what has come since the last look at them is merged when it is needed."""

    must: Ints = field(default_factory=lambda: NOTHING)
    may: Ints = field(default_factory=lambda: NOTHING)
    begun: int = -1
    """The last step that began."""
    flushed: int = -1
    acknowledged: int = 0
    """Samples so far."""
    snapshots: dict[Path, tuple[Ints, Ints]] = field(default_factory=dict)
    """What those that were finished must hold, and what they may hold at most."""
    _begun: list[Ints] = field(default_factory=list)
    _refused: list[Ints] = field(default_factory=list)
    _flushed: list[Ints] = field(default_factory=list)
    _deleting: Ints = field(default_factory=lambda: NOTHING)
    _snapping: Ints = field(default_factory=lambda: NOTHING)

    def hear(self, words: list[str]) -> None:
        match words:
            case ["begin", first, last]:
                self.begun = max(self.begun, int(last))
                self._begun.append(all_of(int(first), int(last)))
                self._refused.clear()
            case ["refused", step, writer]:
                # A later row outlived the kill and this one did not: it cannot be given again.
                of = row(int(step), int(writer))
                assert of is not None
                self._refused.append(of.keys)
            case ["flushed", first, last]:
                self.flushed = int(last)
                taken = without(self._begun[-1], merged(NOTHING, *self._refused))
                self._flushed.append(taken)
                self.acknowledged += len(taken)
            case ["delete", number, start, end]:
                self._merge()
                of = of_keys(self.must)
                covered = (of.series % DELETABLE == 0) & (of.series % 7 == int(number))
                covered &= (of.times >= int(start)) & (of.times <= int(end))
                self._deleting = self.must[covered]
                self.may = merged(self.may, self._deleting)
                self.must = self.must[~covered]
            case ["deleted"]:
                self.may = without(self.may, self._deleting)
            case ["snapshot", _]:
                self._merge()
                self._snapping = self.must
            case ["snapped", path]:
                self._merge()
                self.snapshots[Path(path)] = (self._snapping, merged(self.must, self.may))
            case ["lost" | "failed", *_]:
                raise AssertionError(" ".join(words))

    def _merge(self) -> None:
        self.may = merged(self.may, *self._begun)
        self.must = merged(self.must, *self._flushed)
        self._begun, self._flushed = self._begun[-1:], []

    def let_go(self, before_ms: int) -> None:
        """What is older than this may go from here on."""
        old = of_keys(self.must).times < before_ms
        self.may = merged(self.may, self.must[old])
        self.must = self.must[~old]

    def check(self, storage: Storage) -> None:
        """Hold what is there to what was said; from here on it is what must be there."""
        self._merge()
        found = found_in(storage, self.begun)
        lost, invented = without(self.must, found), without(without(found, self.must), self.may)
        assert not len(lost), f"{len(lost)} acknowledged samples are lost: {_some(lost)}"
        assert not len(invented), f"{len(invented)} samples are invented or back again: {_some(invented)}"
        self.must, self.may, self._begun = found, NOTHING, []

    def check_snapshots(self) -> int:
        """Hold the last snapshot that was finished to what was there when it was taken; how many there were."""
        for path, (must, most) in list(self.snapshots.items())[-1:]:
            storage = Storage(str(path), retention_seconds=3e9, commit_seconds=3600)
            assert storage.losses() == [], f"snapshot: {storage.losses()}"
            found = found_in(storage, self.begun)
            storage.close()
            lost, invented = without(must, found), without(found, most)
            assert not len(lost), f"{len(lost)} samples are not in the snapshot: {_some(lost)}"
            assert not len(invented), f"{len(invented)} samples are in the snapshot alone: {_some(invented)}"
        count = len(self.snapshots)
        self.snapshots.clear()
        return count
