"""Native histograms in the storage: they are found again whole, whatever becomes of the files that they are in."""

import json
import multiprocessing
import shutil
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from bellbuoy._core import HISTOGRAM_MARK, STALE_BITS, Histogram, Histograms, LabelSets, Storage, StorageError, samples_json
from tests.core.block_files import BlockFile
from tests.core.histogram_samples import (
    EVERYTHING,
    EXAMPLE,
    HOUR_MS,
    START_MS,
    custom,
    exponential,
    filled,
    floating,
    held,
    natives,
    open_storage,
    put,
    put_number,
    stated,
)
from tests.core.storage_files import Folder, Header, value_of


def test_a_histogram_is_what_it_was_made_of() -> None:
    one = floating(3)
    assert (one.schema, one.count, one.sum, one.zero_threshold, one.zero_count) == (-4, 3.5, float("-inf"), 0, 0)
    assert (one.positive_spans, one.positive_buckets.tolist(), one.counter_reset_hint) == ([(0, 2)], [3, 0.5], "gauge")
    assert one.is_float and one != floating(4) and one == floating(3)
    assert custom(2).buckets() == [(0.5, 10.0, False, True, 2.0)]
    assert custom(2).custom_values.tolist() == [0.5, 10.0]
    with pytest.raises(ValueError, match="spans need 0 buckets, have 1 buckets"):
        Histogram(schema=0, count=1, sum=1, positive_buckets=[1])
    with pytest.raises(ValueError, match="set is_float"):
        Histogram(schema=0, count=0.5, sum=1)
    with pytest.raises(ValueError, match="use one of unknown, reset, not_reset, gauge"):
        Histogram(schema=0, count=0, sum=0, counter_reset_hint="x")


def test_histograms_are_found_from_the_log_from_chunks_and_from_blocks(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "data")
    want = filled(storage, range(150))
    assert held(storage) == want
    # As a kill leaves it.
    storage.flush()
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    killed = open_storage(tmp_path / "killed")
    assert (held(killed), killed.losses()) == (want, [])
    killed.close()
    storage.seal()
    storage.tidy()
    assert held(storage) == want
    more = filled(storage, range(150, 400))
    want = {name: want[name] + more[name] for name in want}
    assert storage.compact(everything=True) == 2
    assert held(storage) == want
    middle = START_MS + 60_000 * 170
    part = held(storage, start=middle, end=middle + 600_000)
    assert part == {name: samples[170:181] for name, samples in want.items()}
    storage.close()
    storage = open_storage(tmp_path / "data")
    assert (held(storage), storage.losses()) == (want, [])
    assert storage.label_values("__name__", [], START_MS, START_MS + HOUR_MS) == sorted(want)
    assert len(storage.series([[("__name__", "=", "custom")]], START_MS, START_MS + HOUR_MS)) == 1
    storage.close()


def test_of_equal_times_the_first_sample_wins_whatever_it_is(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    assert put(storage, "a", 5, custom(1)) == 1
    assert put(storage, "a", 5, custom(2)) == put_number(storage, "a", 5, 7.0) == 0
    assert put_number(storage, "a", 6, 7.0) == 1
    assert put(storage, "a", 6, custom(3)) == 0
    assert put(storage, "a", 4, custom(4)) == 1
    assert held(storage) == {"a": [(4, custom(4)), (5, custom(1)), (6, 7.0)]}
    storage.close()


def test_a_histogram_that_ends_its_series_is_a_stale_marker(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    stale = float(np.uint64(STALE_BITS).view(np.float64))
    end = Histogram(schema=0, count=0, sum=stale)
    put(storage, "a", 1, custom(1))
    put(storage, "a", 2, end)
    assert held(storage) == {"a": [(1, custom(1)), (2, "stale")]}
    storage.close()


def test_a_foreign_value_is_no_histogram(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    foreign = float(np.uint64(HISTOGRAM_MARK << 32 | 7).view(np.float64))
    put_number(storage, "a", 1, foreign)
    found = storage.select(EVERYTHING, 0, 10)
    assert len(found.histograms) == 0 and np.isnan(found.values[0])
    assert found.values.view(np.uint64)[0] >> 32 != HISTOGRAM_MARK
    storage.close()


def test_histograms_are_deleted_and_count_towards_limits(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    want = filled(storage, range(10))
    assert storage.delete([[("__name__", "=", "custom")]], START_MS, START_MS + 4 * 60_000) == 1
    want["custom"] = want["custom"][5:]
    assert held(storage) == want
    storage.compact(everything=True)
    storage.clean()
    assert held(storage) == want
    with pytest.raises(OverflowError, match="more than 40 samples"):
        storage.select([("__name__", "=", "exponential")], 0, 2**60, max_samples=40)
    storage.close()


def test_retention_takes_histograms_too(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), retention_seconds=3600, commit_seconds=3600)
    filled(storage, range(10))
    storage.compact(everything=True)
    filled(storage, range(200, 210))
    storage.compact(everything=True)
    storage.tidy()
    # The last block stays: it says how far they reach.
    assert sum(len(samples) for samples in held(storage).values()) == 40
    storage.close()


def test_the_files_are_what_the_page_says(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    want = filled(storage, range(20))
    storage.seal()
    more = filled(storage, range(20, 30))
    storage.flush()
    want = {name: want[name] + more[name] for name in want}
    folder = Folder.read(tmp_path)
    assert {"record 3", "chunk 3"} <= folder.seen
    read = {(folder.series[series]["__name__"], time): one for (series, time), one in folder.natives.items()}
    assert read == natives(want)
    storage.compact(everything=True)
    (path,) = (tmp_path / "blocks").glob("*.block")
    assert Header.read(path.read_bytes()) == Header(b"B", 1, 1)
    block = BlockFile.read(path)
    assert {(labels["__name__"], time): one for labels, samples in block.natives for time, one in samples} == natives(want)
    assert [value_of(bits) for _, bits in block.series[0][1]] == [float(at) for at in range(30)]
    storage.close()


@pytest.mark.parametrize("place", range(40, 400, 45))
def test_damage_to_a_chunk_or_a_block_is_found_and_invents_nothing(place: int, tmp_path: Path) -> None:
    for kind in ("chunks", "blocks"):
        storage = open_storage(tmp_path / kind)
        want = filled(storage, range(40))
        storage.seal() if kind == "chunks" else storage.compact(everything=True)
        storage.tidy()
        storage.close()
        (path,) = (tmp_path / kind / kind).iterdir()
        data = bytearray(path.read_bytes())
        data[place % (len(data) - 20)] ^= 0x10
        path.write_bytes(data)
        storage = open_storage(tmp_path / kind)
        try:
            found = held(storage)
        except StorageError as e:
            assert path.stem in str(e) or "chunk" in str(e)  # noqa: PT017
        else:
            assert storage.losses()
            assert all(set(map(str, samples)) <= set(map(str, want[name])) for name, samples in found.items())
        storage.close()


def test_json_has_histograms_beside_numbers() -> None:
    mark = np.array([HISTOGRAM_MARK << 32], np.uint64).view(np.float64)[0]
    body = samples_json(
        LabelSets.from_dicts([{"a": "b"}, {}, {}]),
        np.array([0, 2, 3, 3]),
        np.array([1000, 2500, 3000]),
        np.array([1.5, mark, mark]),
        Histograms([custom(3)]),
    )
    one = {"count": "3", "sum": "NaN", "buckets": [[0, "0.5", "10", "3"]]}
    assert json.loads(body) == [
        {"metric": {"a": "b"}, "values": [[1, "1.5"]], "histograms": [[2.5, one]]},
        {"metric": {}, "histograms": [[3, one]]},
    ]


def append_until_killed(folder: str, told: Connection) -> None:
    storage = Storage(folder, commit_seconds=0.002)
    at = max((time for samples in held(storage).values() for time, _ in samples), default=0)
    while True:
        for at in range(at + 1, at + 6):
            put(storage, "a", at, exponential(at))
        storage.flush()
        if at % 50 == 0:
            storage.seal()
        told.send(at)


def test_what_was_flushed_survives_kills(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for round_ in range(3):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=append_until_killed, args=(str(tmp_path), theirs))
        process.start()
        durable = [ours.recv() for _ in range(20 + 15 * round_)][-1]
        process.kill()
        process.join()
        storage = open_storage(tmp_path)
        found = held(storage)["a"]
        assert storage.losses() == []
        storage.close()
        assert [time for time, _ in found] == list(range(1, len(found) + 1))
        assert len(found) >= durable
        assert all(one == exponential(time) for time, one in found)


def test_the_example_is_read_with_just_what_it_is_said_to_hold(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "data", tmp_path / "data")
    storage = open_storage(tmp_path / "data")
    assert storage.losses() == []
    want = json.loads((EXAMPLE / "samples.json").read_text())
    assert stated(held(storage)) == want
    storage.close()
    # The page's reader finds the same in the three kinds of files.
    folder = Folder.read(EXAMPLE / "data")
    assert {"record 3", "chunk 3"} <= folder.seen
    read = {(folder.series[series]["__name__"], time): one for (series, time), one in folder.natives.items()}
    for labels, samples in BlockFile.read(EXAMPLE / "data" / "blocks" / "00000001.block").natives:
        read |= {(labels["__name__"], time): one for time, one in samples}
    assert [[name, time] for name, time in sorted(read)] == [one[:2] for one in want]
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*")) < 2**16
