"""The storage, through the surface that Python has: both paths of select, restarts, kills, damage."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bellbuoy._core import ABSENT_BITS, STALE_BITS, LabelSets, Storage, StorageError

STALE = np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0]
ALL = [("__name__", "=~", ".+")]
Samples = dict[str, list[tuple[int, float]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def read(
    storage: Storage, matchers: list[tuple[str, str, str]] | None = None, start: int = 0, end: int = 10**15
) -> Samples:
    """Each series as `name/code` with its samples; a stale marker is the text `stale`."""
    found = storage.select(matchers or ALL, start, end)
    out: Samples = {}
    for i, labels in enumerate(found.labels.to_dicts()):
        part = slice(int(found.offsets[i]), int(found.offsets[i + 1]))
        pairs = zip(
            found.timestamps[part].tolist(),
            found.values[part].tolist(),
            found.values[part].view(np.uint64).tolist(),
            strict=True,
        )
        out[f"{labels['__name__']}/{labels.get('code', '')}"] = [
            (t, -1.0 if bits == STALE_BITS else v) for t, v, bits in pairs
        ]
    return out


def sets(*names: str) -> LabelSets:
    """Label sets of names such as `up/1`."""
    return LabelSets.from_dicts([{"__name__": n.split("/")[0], "code": n.split("/")[1], "job": "j"} for n in names])


class Way:
    """The two ways that samples get in; every case below must hold for both."""

    @staticmethod
    def rows(storage: Storage, time: int, values: dict[str, float]) -> None:
        storage.writer("rules").append(time, sets(*values), np.array(list(values.values())))

    @staticmethod
    def loose(storage: Storage, time: int, values: dict[str, float]) -> None:
        times = np.full(len(values), time, dtype=np.int64)
        storage.append(sets(*values), times, np.array(list(values.values())))


Append = Callable[[Storage, int, dict[str, float]], None]
WAYS: list[Append] = [Way.rows, Way.loose]


@pytest.fixture(params=["open", "sealed", "reopened", "sealed and reopened", "compacted", "compacted and reopened"])
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settle(storage: Storage, folder: Path, stage: str) -> Storage:
    """The same data, moved to where the stage has it."""
    if "sealed" in stage:
        storage.seal()
    if "compacted" in stage:
        storage.compact(everything=True)
    if "reopened" in stage:
        storage.close()
        return Storage(str(folder))
    return storage


@pytest.mark.parametrize("way", WAYS, ids=["rows", "loose"])
def test_what_goes_in_comes_out_wherever_it_lies(folder: Path, way: Append, stage: str) -> None:
    storage = Storage(str(folder))
    for t in range(100):
        way(storage, 1000 * t, {"a/1": float(t), "a/2": t / 10, "b/1": 7.0})
    storage = settle(storage, folder, stage)
    want = {
        "a/1": [(1000 * t, float(t)) for t in range(100)],
        "a/2": [(1000 * t, t / 10) for t in range(100)],
        "b/1": [(1000 * t, 7.0) for t in range(100)],
    }
    assert read(storage) == want
    assert read(storage, [("__name__", "=", "a"), ("code", "!=", "2")], 5000, 7000) == {
        "a/1": [(5000, 5.0), (6000, 6.0), (7000, 7.0)]
    }
    assert read(storage, [("code", "=~", "1|2"), ("__name__", "!~", "a.*"), ("absent", "=", "")]) == {
        "b/1": want["b/1"]
    }
    assert read(storage, [("absent", "=~", ".+")]) == {}
    assert storage.label_names([], 0, 10**15) == ["__name__", "code", "job"]
    assert storage.label_values("code", [], 0, 10**15) == ["1", "2"]
    assert storage.label_values("code", [[("__name__", "=", "b")]], 0, 10**15) == ["1"]
    assert [s["__name__"] + s["code"] for s in storage.series([ALL], 0, 10**15).to_dicts()] == ["a1", "a2", "b1"]
    assert storage.series([ALL], 10**14, 10**15).to_dicts() == []


def test_a_series_that_leaves_the_rows_ends_in_one_stale_marker(folder: Path, stage: str) -> None:
    storage = Storage(str(folder))
    Way.rows(storage, 1, {"a/1": 1.0, "b/1": 1.0})
    Way.rows(storage, 2, {"a/1": 2.0})
    Way.rows(storage, 3, {"a/1": 3.0})
    Way.rows(storage, 4, {"a/1": 4.0, "b/1": 4.0, "c/1": 0.0})
    # Whoever appends holds the group; one that nobody holds is forgotten with its last row in memory.
    held = [storage.writer("rules")]
    storage = settle(storage, folder, stage)
    held.append(storage.writer("rules"))
    assert read(storage) == {"a/1": [(1, 1), (2, 2), (3, 3), (4, 4)], "b/1": [(1, 1), (2, -1), (4, 4)], "c/1": [(4, 0)]}
    Way.rows(storage, 5, {"c/1": 5.0})
    if stage != "compacted and reopened":
        # Neither the log nor a chunk has the last row any more: queries see the end by their lookback.
        assert read(storage, start=5) == {"a/1": [(5, -1)], "b/1": [(5, -1)], "c/1": [(5, 5)]}


def test_any_value_comes_back_bit_for_bit(folder: Path, stage: str) -> None:
    values = [0.0, -0.0, 1e300, 5e-324, float("inf"), float("-inf"), 0.1, 2.0**60, -12.34]
    storage = Storage(str(folder))
    for t, value in enumerate(values):
        Way.rows(storage, t, {"row/1": value})
        Way.loose(storage, t, {"loose/1": value})
    storage = settle(storage, folder, stage)
    found = storage.select(ALL, 0, 100)
    assert found.values.view(np.uint64).tolist() == np.array([*values, *values]).view(np.uint64).tolist()
    assert len(found.labels) == 2


def test_samples_of_one_series_from_several_places_are_one_series(folder: Path, stage: str) -> None:
    storage = Storage(str(folder))
    one, two = storage.writer("one"), storage.writer("two")
    for t in range(0, 20, 2):
        one.append(t, sets("a/1"), np.array([float(t)]))
        two.append(t + 1, sets("a/1"), np.array([float(t + 1)]))
    two.append(100, sets("a/1"), np.array([2.0]))
    Way.loose(storage, 50, {"a/1": 50.0})
    Way.loose(storage, 3, {"a/1": 33.0})
    storage = settle(storage, folder, stage)
    assert read(storage) == {"a/1": [*((t, float(t)) for t in range(20)), (50, 50.0), (100, 2.0)]}


def test_writers_of_equal_columns_share_them_and_their_series_are_their_targets(folder: Path, stage: str) -> None:
    storage = Storage(str(folder))
    columns = LabelSets.from_dicts([{"__name__": "a"}, {"__name__": "b", "code": "own"}, {"__name__": "c"}])
    absent = np.array([ABSENT_BITS], dtype=np.uint64).view(np.float64)[0]
    writers = [storage.writer("targets", {"code": code, "__name__": "never"}) for code in "xy"]
    for t in range(3):
        for at, writer in enumerate(writers):
            # What is absent is as if it were not given.
            values = [float(t), 10.0 + at, absent if t == 2 else float(at)]
            assert writer.append(t, columns, np.array(values)) == (2 if t == 2 else 3)
    assert storage.stats()["column_sets"] == 1
    assert storage.writer("targets", {"code": "x", "__name__": "never"}).append(1, columns, np.zeros(3)) == 0
    storage = settle(storage, folder, stage)
    found = read(storage)
    assert found.pop("b/own") == [(t, 10.0) for t in range(3)]
    assert found == {
        "a/x": [(0, 0), (1, 1), (2, 2)],
        "a/y": [(0, 0), (1, 1), (2, 2)],
        "c/x": [(0, 0), (1, 0), (2, -1)],
        "c/y": [(0, 1), (1, 1), (2, -1)],
    }


@pytest.mark.parametrize("way", WAYS, ids=["rows", "loose"])
def test_the_range_of_times_is_that_of_all_samples_held(folder: Path, way: Append, stage: str) -> None:
    storage = Storage(str(folder))
    assert storage.time_range() is None
    for t in (70, 90, 200):
        way(storage, t, {"a/1": float(t)})
    storage = settle(storage, folder, stage)
    assert storage.time_range() == (70, 200)


def test_of_equal_times_the_first_wins_and_rows_only_go_forward(folder: Path) -> None:
    storage = Storage(str(folder))
    Way.rows(storage, 10, {"a/1": 1.0})
    Way.rows(storage, 10, {"a/1": 2.0})
    Way.rows(storage, 9, {"a/1": 3.0})
    Way.loose(storage, 5, {"b/1": 1.0})
    Way.loose(storage, 5, {"b/1": 2.0})
    Way.loose(storage, 4, {"b/1": 4.0})
    assert read(storage) == {"a/1": [(10, 1.0)], "b/1": [(4, 4.0), (5, 1.0)]}
    stats = storage.stats()
    assert (stats["rows_out_of_order"], stats["samples_duplicate"]) == (2, 1)


def test_a_query_past_its_limit_is_refused(folder: Path) -> None:
    storage = Storage(str(folder))
    for t in range(50):
        Way.rows(storage, t, {"a/1": 1.0})
    with pytest.raises(OverflowError, match="more than 10 samples"):
        storage.select(ALL, 0, 100, max_samples=10)
    with pytest.raises(ValueError, match="regular expression"):
        storage.select([("a", "=~", "(")], 0, 100)
    with pytest.raises(ValueError, match="operator"):
        storage.select([("a", "~", "x")], 0, 100)


def test_a_second_process_is_refused(folder: Path) -> None:
    storage = Storage(str(folder))
    with pytest.raises(StorageError, match="another process"):
        Storage(str(folder))
    storage.close()
    Storage(str(folder)).close()


def append_until_killed(folder: str, told: Any) -> None:
    """Append rows, and say after each flush which times are durable."""
    storage = Storage(folder, commit_seconds=1000, chunk_rows=8)
    at = storage.select(ALL, 0, 10**15).timestamps
    first = int(at.max()) + 1 if len(at) else 0
    for t in range(first, first + 100_000):
        Way.rows(storage, t, {"a/1": float(t), f"b/{t // 20}": float(t)})
        Way.loose(storage, t, {"c/1": float(t)})
        if t % 3 == 0:
            storage.flush()
            told.send((first, t))


def test_what_was_flushed_survives_kills_and_nothing_is_invented(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    durable: set[int] = set()
    for round_ in range(6):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=append_until_killed, args=(str(folder), theirs))
        process.start()
        for _ in range(5 + 7 * round_):
            first, last = ours.recv()
            durable.update(range(first, last + 1))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    storage = Storage(str(folder))
    assert storage.losses() == []
    got = read(storage)
    for name in ("a/1", "c/1"):
        assert durable <= {t for t, _ in got[name]}
        assert all(value == t for t, value in got[name])
    for name, samples in got.items():
        if name.startswith("b/"):
            assert all(value in (t, -1) for t, value in samples)


@pytest.mark.parametrize("way", WAYS, ids=["rows", "loose"])
def test_a_kill_between_a_seal_and_a_commit_leaves_no_chunk_of_which_nothing_is_known(folder: Path, way: Append) -> None:
    storage = Storage(str(folder), commit_seconds=1000, chunk_rows=4)
    Way.rows(storage, 0, {"first/1": 0.0})
    storage.flush()
    for t in range(1, 9):
        way(storage, t, {"a/1": float(t)})
    storage.seal()
    # What a kill would leave: the files as they are.
    killed = folder.with_name("killed")
    shutil.copytree(folder, killed)
    back = Storage(str(killed), commit_seconds=1000, chunk_rows=4)
    assert back.losses() == []
    # Others must not get an id that a chunk in a file has.
    way(back, 100, {"b/1": 1.0, "b/2": 2.0})
    back.close()
    found = read(Storage(str(killed)))
    assert found["a/1"][:8] == [(t, float(t)) for t in range(1, 9)]
    assert found["b/1"] == [(100, 1.0)]


@pytest.mark.parametrize("way", WAYS, ids=["rows", "loose"])
def test_what_the_catalog_does_not_know_never_becomes_another_series(folder: Path, way: Append) -> None:
    storage = Storage(str(folder), commit_seconds=1000)
    Way.rows(storage, 0, {"first/1": 0.0})
    storage.flush()
    before = (folder / "catalog").read_bytes()
    way(storage, 1, {"a/1": 7.0})
    storage.seal()
    storage.close()
    # As after a power cut by which the disk kept the chunk and not what was written before it.
    (folder / "catalog").write_bytes(before)
    for wal in (folder / "wal").iterdir():
        wal.unlink()
    for time in (100, 200):
        storage = Storage(str(folder))
        assert "the catalog does not know" in storage.losses()[0]
        way(storage, time, {"b/1": 1.0})
        storage.close()
    assert read(Storage(str(folder)), start=1) == {"b/1": [(100, 1.0), (200, 1.0)]}


@pytest.fixture
def full(folder: Path) -> Path:
    """A folder with a catalog, a log and chunks, closed."""
    storage = Storage(str(folder), chunk_rows=10)
    for t in range(95):
        Way.rows(storage, t, {"a/1": float(t), "b/1": 1.0})
        Way.loose(storage, t, {"c/1": float(t)})
    storage.close()
    return folder


@pytest.mark.parametrize("kind", ["wal", "chunks", "catalog"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "zeroed"])
def test_damage_costs_what_it_hit_and_is_reported(full: Path, kind: str, damage: str) -> None:
    path = full / "catalog" if kind == "catalog" else next((full / kind).iterdir())
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    if damage == "flipped":
        data[middle] ^= 0x40
    elif damage == "cut":
        del data[middle:]
    else:
        data[middle:] = bytes(len(data) - middle)
    path.write_bytes(data)
    storage = Storage(str(full))
    for name, samples in read(storage).items():
        assert all(value == (1.0 if name == "b/1" else t) for t, value in samples)
    if kind != "catalog" and not (kind == "chunks" and damage == "zeroed"):
        # A cut or overwritten tail of the catalog may lie behind its last entry; all else is seen.
        assert storage.losses() or kind == "chunks"
    Way.rows(storage, 1000, {"a/1": 5.0})
    storage.close()
    assert (1000, 5.0) in read(Storage(str(full)))["a/1"]


@pytest.mark.parametrize("name", ["catalog", "tombstones"])
@pytest.mark.parametrize("damage", ["flipped", "empty", "cut"])
def test_a_damaged_header_costs_no_entry_behind_it(full: Path, name: str, damage: str) -> None:
    storage = Storage(str(full))
    storage.delete([[("__name__", "=", "b")]], 0, 1000)
    storage.close()
    path = full / name
    data = path.read_bytes()
    path.write_bytes({"flipped": b"b" + data[1:], "empty": b"", "cut": data[:7]}[damage])
    for opened in range(2):
        storage = Storage(str(full))
        assert bool(storage.losses()) == (opened == 0 or (name == "catalog" and damage != "flipped"))
        left = read(storage)
        if damage == "flipped":
            assert set(left) == {"a/1", "c/1"}
        else:
            assert set(left) == ({"a/1", "b/1", "c/1"} if name == "tombstones" else set())
        storage.close()
    storage = Storage(str(full))
    Way.rows(storage, 2000, {"new/1": 5.0})
    storage.delete([[("__name__", "=", "a")]], 0, 1000)
    storage.close()
    assert read(Storage(str(full)), start=2000)["new/1"] == [(2000, 5.0)]


def test_a_newer_version_is_refused(full: Path) -> None:
    path = full / "catalog"
    data = bytearray(path.read_bytes())
    data[6] = 99
    path.write_bytes(data)
    with pytest.raises(StorageError, match="version 99"):
        Storage(str(full))


def test_old_chunk_files_and_their_series_go_after_the_retention(folder: Path) -> None:
    storage = Storage(str(folder), retention_seconds=3600)
    Way.rows(storage, 1000, {"old/1": 1.0})
    Way.loose(storage, 1000, {"older/1": 1.0})
    storage.seal()
    storage.close()
    storage = Storage(str(folder), retention_seconds=3600)
    assert set(read(storage)) == {"old/1", "older/1"}
    storage.tidy()
    assert read(storage) == {}
    assert storage.stats()["chunk_files"] == 0


def test_a_catalog_of_series_that_are_gone_shrinks_at_a_start(folder: Path) -> None:
    storage = Storage(str(folder))
    for i in range(3000):
        Way.loose(storage, 1, {f"gone{i}/1": 1.0})
    for t in range(60):
        Way.rows(storage, t, {"a/1": float(t), "b/1": 1.0})
    storage.compact(everything=True)
    storage.close()
    before = (folder / "catalog").stat().st_size
    want: Samples = {"a/1": [(t, float(t)) for t in range(60)], "b/1": [(t, 1.0) for t in range(60)]}
    for t in range(60, 63):
        storage = Storage(str(folder))
        assert read(storage, [("__name__", "=~", "a|b")]) == want
        assert len(read(storage)) >= 3002
        Way.rows(storage, t, {"a/1": float(t), "b/1": 1.0})
        Way.loose(storage, t, {"a/2": 1.0})
        storage.close()
        want["a/1"].append((t, float(t)))
        want["b/1"].append((t, 1.0))
        want.setdefault("a/2", []).append((t, 1.0))
        # The log has said all that it is needed for; what it refers to stays until then.
        storage = Storage(str(folder))
        storage.tidy()
        storage.close()
    assert (folder / "catalog").stat().st_size < before / 20
