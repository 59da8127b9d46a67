"""An archive has each sample of the finished blocks once, whatever happens to blocks, archiver and machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from bellbuoy.archive import ArchiveError, Archiver, state
from bellbuoy.archive.options import ArchiveOptions
from bellbuoy.archive.progress import Progress
from bellbuoy.archive.store import FolderStore
from bellbuoy.promql import Engine
from bellbuoy.tsdb import Histogram, LabelSets, StorageError
from bellbuoy.tsdb_tools.errors import DamagedError
from tests.archive.conftest import HOUR, START, Source, archive, read_archive
from tests.tsdb_tools.conftest import tsdb


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_finished_block_is_written_once(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source.rows(0, 5)
    assert archive(source, f"file://{out}").files == 2
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(first) == [
        "20231115T000000Z-20231115T020000Z.parquet",
        "20231115T020000Z-20231115T040000Z.parquet",
    ]
    assert read_archive(out) == source.finished()
    assert archive(source, f"file://{out}").files == 0
    source.rows(5, 15)
    # By now the first three are one block.
    assert any(block["sources"] for block in source.storage.blocks())
    assert archive(source, f"file://{out}").files == 5
    assert {name: (out / name).read_bytes() for name in first} == first
    assert read_archive(out) == source.finished()


def test_blocks_that_were_merged_before_are_written_by_two_hours_all_the_same(source: Source, tmp_path: Path) -> None:
    source.rows(0, 27)
    assert max(one["end"] - one["start"] for one in source.storage.blocks()) == 18 * HOUR
    assert archive(source, f"file://{tmp_path / 'out'}").files == 13
    assert read_archive(tmp_path / "out") == source.finished()


def test_late_samples_are_in_a_file_of_their_own_and_none_is_there_twice(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source.rows(0, 7)
    archive(source, f"file://{out}")
    source.late(0.5, 1.2)
    archive(source, f"file://{out}")
    late = [name for name in files(out) if name.endswith("-late.parquet")]
    assert late == ["20231115T003000Z-20231115T011200Z-late.parquet"]
    assert read_archive(out) == source.finished()
    # Of metric_0 there was a sample at half past already: it is no second time in the late file.
    assert len(pl.read_parquet(out / late[0])) == 3
    source.late(0.5, 2.2)
    archive(source, f"file://{out}")
    assert read_archive(out) == source.finished()


def test_late_blocks_may_be_merged_before_some_or_all_of_them_were_written(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source.rows(0, 7)
    for i in range(3):
        source.late(0.1 + i / 10)
        archive(source, f"file://{out}")
    for i in range(7):
        source.late(2.1 + i / 10)
    blocks = source.storage.blocks()
    assert max(len(one["sources"]) for one in blocks if one["end"] < 0) > 3
    archive(source, f"file://{out}")
    assert read_archive(out) == source.finished()
    for i in range(9):
        source.late(4.1 + i / 10)
        archive(source, f"file://{out}")
    before = files(out)
    assert archive(source, f"file://{out}").files == 0
    assert files(out) == before
    assert read_archive(out) == source.finished()


def test_late_samples_may_have_any_timestamps(source: Source, tmp_path: Path) -> None:
    source.rows(0, 3)
    source.late(0.5, -1e9, -3e11)
    archive(source, f"file://{tmp_path / 'out'}")
    assert read_archive(tmp_path / "out") == source.finished()
    assert f"{START - round(3e11 * HOUR)}-20231115T003000Z-late.parquet" in files(tmp_path / "out")


def test_two_hours_without_a_sample_are_no_file(source: Source, tmp_path: Path) -> None:
    source.rows(0, 1)
    source.rows(6, 9)
    archive(source, f"file://{tmp_path / 'out'}")
    assert len(files(tmp_path / "out")) == 2
    assert read_archive(tmp_path / "out") == source.finished()


def test_a_file_of_another_server_is_not_written_over(source: Source, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = Source(tmp_path / "other")
    for one in (source, other):
        one.rows(0, 3)
        archive(one, f"file://{out}")
    other.storage.close()
    assert files(out) == ["20231115T000000Z-20231115T020000Z-2.parquet", "20231115T000000Z-20231115T020000Z.parquet"]


class Killed(BaseException):
    """As SIGKILL: nothing that is written for errors hears of it."""


def test_it_goes_on_wherever_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    dies_at = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            raise Killed

    def around(what: Any) -> Any:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            step()
            result = what(*arguments, **more)
            step()
            return result

        return wrapped

    for target, name in ((FolderStore, "put"), (FolderStore, "delete"), (state.StateFile, "save")):
        monkeypatch.setattr(target, name, around(getattr(target, name)))
    begun = tmp_path / "begun"
    source = Source(begun / "data")
    source.rows(0, 3)
    source.late(0.1)
    archive(source, f"file://{begun}/out")
    for i in range(8):
        source.late(0.2 + i / 10)
    written, hours = source.written, source.hours
    source.storage.close()
    deaths = 0
    for death in range(1, 1000, 5):
        folder = Path(shutil.copytree(begun, tmp_path / str(death)))
        source = Source(folder / "data")
        source.written, source.hours = written.copy(), hours
        # It is the same archive, though it was moved.
        known = (source.folder / "archive.json").read_text()
        (source.folder / "archive.json").write_text(known.replace(str(begun), str(folder)))
        steps, dies_at = 0, death
        try:
            archive(source, f"file://{folder}/out")
        except Killed:
            deaths += 1
            # Meanwhile blocks may be merged, and late ones come.
            if deaths % 3 == 0:
                source.late(1.5, 1.6)
        died, dies_at = steps >= death, 0
        archive(source, f"file://{folder}/out")
        assert read_archive(folder / "out") == source.finished(), death
        source.storage.close()
        if not died:
            break
    assert deaths > 4


def test_it_goes_on_after_a_kill(source: Source, tmp_path: Path) -> None:
    source.rows(0, 30)
    want = source.finished()
    source.storage.close()
    out = tmp_path / "out"
    command = [sys.executable, "-m", "bellbuoy", "tsdb", "archive", "--storage.path", str(source.folder)]
    process = subprocess.Popen([*command, "--url", f"file://{out}"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not out.is_dir() or len(list(out.glob("*.parquet"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads((source.folder / "archive.json").read_bytes())["version"] == 1
    tsdb("archive", "--storage.path", source.folder, "--url", f"file://{out}")
    assert not (source.folder / "archive.part").exists()
    assert read_archive(out) == want


def test_deleted_samples_are_not_archived(source: Source, tmp_path: Path) -> None:
    source.rows(0, 3)
    source.storage.delete([[("__name__", "=", "metric_1")]], START, START + HOUR)
    archive(source, f"file://{tmp_path / 'out'}")
    want = {one for one in source.finished() if one[0] != "metric_1" or one[2] > START + HOUR}
    assert set(read_archive(tmp_path / "out")) == want


def test_duckdb_and_polars_give_the_numbers_of_promql(source: Source, tmp_path: Path) -> None:
    source.rows(0, 7)
    source.late(1.3)
    archive(source, f"file://{tmp_path / 'out'}")
    end = START + 6 * HOUR - 1
    result = Engine(source.storage).instant('sum_over_time({__name__=~"metric_.|late"}[6h])', end)
    want = sorted((labels["of"], value) for labels, _, value in result.samples())
    sql = f"""SELECT "of", sum(value) FROM read_parquet('{tmp_path}/out/*.parquet', union_by_name = true)
        WHERE epoch_ms(timestamp) > {end - 6 * HOUR} AND epoch_ms(timestamp) <= {end} GROUP BY ALL"""
    assert sorted(duckdb.execute(sql).fetchall()) == want
    frame = pl.scan_parquet(f"{tmp_path}/out/*.parquet").filter(pl.col("timestamp").dt.epoch("ms") <= end)
    found = frame.group_by("of").agg(pl.col("value").sum()).collect().rows()
    assert sorted(found) == want


def test_what_cannot_be_written_is_an_error_with_its_cure(source: Source, tmp_path: Path) -> None:
    source.rows(0, 3)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ArchiveError, match=r"cannot write .*out/2023.*; let this process's user write there"):
        archive(source, f"file://{tmp_path / 'out'}")
    (source.folder / "archive.json").write_text("{")
    with pytest.raises(ArchiveError, match=r"cannot read .*archive\.json: .*; put back a copy, or move it away"):
        archive(source, f"file://{tmp_path / 'other'}")
    (source.folder / "archive.json").write_text('{"version": 2}')
    with pytest.raises(ArchiveError, match="use the newer Bellbuoy that wrote it"):
        archive(source, f"file://{tmp_path / 'other'}")


def test_a_damaged_block_costs_itself(source: Source, tmp_path: Path) -> None:
    source.rows(0, 5)
    path = source.folder / "blocks" / f"{source.storage.blocks()[0]['number']:08}.block"
    with path.open("r+b") as file:
        file.seek(30)
        file.write(b"damaged")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"checksum of a pack is wrong.*move the file away"):
            archive(source, f"file://{tmp_path / 'out'}")
        assert files(tmp_path / "out") == ["20231115T020000Z-20231115T040000Z.parquet"]
    tsdb("list", "--storage.path", source.folder)


def test_a_folder_that_a_server_uses_or_that_is_none_is_refused(source: Source, tmp_path: Path) -> None:
    source.rows(0, 3)
    out = f"file://{tmp_path / 'out'}"
    with pytest.raises(ArchiveError, match="another process uses this data folder"):
        tsdb("archive", "--storage.path", source.folder, "--url", out)
    with pytest.raises(DamagedError, match="it is no data folder"):
        tsdb("archive", "--storage.path", tmp_path / "none", "--url", out)
    assert not (tmp_path / "none").exists()


def test_two_archives_of_one_folder_do_not_know_of_each_other(source: Source, tmp_path: Path) -> None:
    source.rows(0, 3)
    for name in ("a", "b", "a", "b"):
        Archiver(ArchiveOptions(f"file://{tmp_path / name}"), source.folder).run(source.storage, Progress("archive"))
        source.rows(3 if name == "a" else 5, 5 if name == "a" else 7)
    assert files(tmp_path / "a") == files(tmp_path / "b")[: len(files(tmp_path / "a"))]


def test_native_histograms_are_archived_too_be_they_late_or_not(source: Source, tmp_path: Path) -> None:
    def put(hour: float) -> None:
        at = START + round(hour * HOUR)
        histogram = Histogram(schema=0, count=3, sum=1.5, positive_spans=[(1, 1)], positive_buckets=[3])
        labels = LabelSets.from_dicts([{"__name__": "distribution", "of": "h"}])
        assert source.storage.append_histograms(labels, np.array([at]), [histogram]) == 1
        source.written["distribution", "h", at] = 1

    put(0.5)
    source.rows(0, 7)
    archive(source, f"file://{tmp_path / 'out'}")
    put(1.2)
    source.late(0.3)
    archive(source, f"file://{tmp_path / 'out'}")
    assert read_archive(tmp_path / "out") == source.finished()
    counts = pl.scan_parquet(f"{tmp_path / 'out'}/*.parquet").filter(pl.col("__name__") == "distribution")
    found = counts.select(pl.col("value").is_null(), pl.col("histogram").struct.field("count")).collect().rows()
    assert found == [(True, 3.0)] * 2
