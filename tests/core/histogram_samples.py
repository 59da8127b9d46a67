"""Histograms to store, and how to ask for them again: what tests of the storage and its checked-in example share."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from bellbuoy._core import HISTOGRAM_MARK, STALE_BITS, Histogram, LabelSets, Storage
from tests.core.storage_files import Native, bits_of

EXAMPLE = Path(__file__).parent / "examples" / "histograms"
START_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
EVERYTHING = [("__name__", "=~", ".+")]

Found = dict[str, list[tuple[int, Histogram | float | str]]]


def exponential(count: int) -> Histogram:
    """A histogram whose buckets grow and move with the count."""
    return Histogram(
        schema=3,
        count=3 * count + 2,
        sum=0.1 * count,
        zero_threshold=1e-9,
        zero_count=2,
        positive_spans=[(count % 5, 1), (2, 1)],
        positive_buckets=[count, count],
        negative_spans=[(-3, 1)],
        negative_buckets=[count],
    )


def custom(count: int) -> Histogram:
    return Histogram(
        schema=-53,
        count=count,
        sum=float("nan"),
        positive_spans=[(1, 1)],
        positive_buckets=[count],
        custom_values=[0.5, 10],
    )


def floating(count: int) -> Histogram:
    return Histogram(
        schema=-4,
        count=count + 0.5,
        sum=float("-inf"),
        positive_spans=[(0, 2)],
        positive_buckets=[count, 0.5],
        counter_reset_hint="gauge",
        is_float=True,
    )


KINDS = {"exponential": exponential, "custom": custom, "floating": floating}


def put(storage: Storage, name: str, time: int, histogram: Histogram) -> int:
    return storage.append_histograms(LabelSets.from_dicts([{"__name__": name}]), np.array([time]), [histogram])


def put_number(storage: Storage, name: str, time: int, value: float) -> int:
    return storage.append(LabelSets.from_dicts([{"__name__": name}]), np.array([time]), np.array([value], np.float64))


def held(storage: Storage, *, start: int = -(2**62), end: int = 2**62) -> Found:
    """All samples by metric."""
    found = storage.select(EVERYTHING, start, end)
    bits = found.values.view(np.uint64).tolist()
    out: Found = {}
    for i, name in enumerate(found.labels.get("__name__")):
        samples: list[tuple[int, Histogram | float | str]] = []
        for at in range(found.offsets[i], found.offsets[i + 1]):
            value: Histogram | float | str = float(found.values[at])
            if bits[at] >> 32 == HISTOGRAM_MARK:
                value = found.histograms[bits[at] & 0xFFFFFFFF]
            elif bits[at] == STALE_BITS:
                value = "stale"
            samples.append((int(found.timestamps[at]), value))
        out[name] = samples
    return out


def open_storage(folder: Path) -> Storage:
    return Storage(str(folder), retention_seconds=100 * 365 * 86400.0, commit_seconds=3600)


def filled(storage: Storage, times: range) -> Found:
    """What was stored: histograms of each kind, numbers beside them."""
    want: Found = {name: [] for name in (*KINDS, "number")}
    for at in times:
        time = START_MS + at * 60_000
        for name, make in KINDS.items():
            assert put(storage, name, time, make(at)) == 1
            want[name].append((time, make(at)))
        put_number(storage, "number", time, at)
        want["number"].append((time, float(at)))
    return want


def as_native(one: Histogram) -> Native:
    """As the plain reader has it."""

    def count(value: float) -> int:
        return bits_of(value) if one.is_float else int(value)

    return Native(
        one.is_float,
        ["unknown", "reset", "not_reset", "gauge"].index(one.counter_reset_hint),
        one.schema,
        bits_of(one.zero_threshold),
        tuple(one.positive_spans),
        tuple(one.negative_spans),
        tuple(bits_of(bound) for bound in one.custom_values.tolist()),
        bits_of(one.sum),
        count(one.count),
        count(one.zero_count),
        tuple(count(value) for value in one.positive_buckets.tolist()),
        tuple(count(value) for value in one.negative_buckets.tolist()),
    )


def natives(want: Found) -> dict[tuple[str, int], Native]:
    return {
        (name, time): as_native(one)
        for name, samples in want.items()
        for time, one in samples
        if isinstance(one, Histogram)
    }


def stated(want: Found) -> list[object]:
    """As the example says in JSON what it holds."""
    held_natives = sorted(natives(want).items())
    told: list[object] = json.loads(json.dumps([[name, at, dataclasses.asdict(one)] for (name, at), one in held_natives]))
    return told


def make(folder: Path) -> None:
    """Write a data folder with histograms in its log, a chunk file and a block, and the statement of it."""
    shutil.rmtree(folder, ignore_errors=True)
    storage = open_storage(folder / "data")
    filled(storage, range(8))
    storage.compact(everything=True)
    filled(storage, range(8, 12))
    storage.seal()
    storage.flush()
    # A second segment.
    storage.close()
    storage = open_storage(folder / "data")
    filled(storage, range(12, 15))
    said = stated(held(storage))
    storage.close()
    (folder / "samples.json").write_text("[\n" + ",\n".join(json.dumps(one) for one in said) + "\n]\n")
