"""What the files say of each series is what the storage says: in blocks, in chunks, in the log, and between them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bellbuoy.tsdb import LabelSets, Storage, survey_series
from tests.core.examples import HERE
from tests.tsdb_tools import data
from tests.tsdb_tools.conftest import Folder

ALL = (-(2**63), 2**63 - 1)
HOUR = 3_600_000
Counts = dict[tuple[tuple[str, str], ...], tuple[int, int, int]]


def surveyed(folder: Path, *selectors: list[tuple[str, str, str]], start: int = ALL[0], end: int = ALL[1]) -> Counts:
    found = survey_series(str(folder), selectors, start, end)
    assert found.losses == []
    columns = zip(
        found.labels.to_dicts(), found.samples.tolist(), found.first.tolist(), found.last.tolist(), strict=True
    )
    return {tuple(sorted(labels.items())): (count, first, last) for labels, count, first, last in columns}


def stored(folder: Path, *selectors: list[tuple[str, str, str]], start: int = -(2**60), end: int = 2**60) -> Counts:
    out: Counts = {}
    with data.opened(folder) as storage:
        for selector in selectors or ([],):
            found = storage.select(selector, start, end)
            for i, labels in enumerate(found.labels.to_dicts()):
                times = found.timestamps[found.offsets[i] : found.offsets[i + 1]]
                out[tuple(sorted(labels.items()))] = (len(times), int(times[0]), int(times[-1]))
    return out


def check(folder: Path) -> None:
    want = stored(folder)
    middle = (min(one[1] for one in want.values()) + max(one[2] for one in want.values())) // 2
    same(surveyed(folder), want)
    for start, end in ((middle - HOUR, middle), (middle, middle + HOUR)):
        same(surveyed(folder, start=start, end=end), stored(folder, start=start, end=end))


def same(found: Counts, want: Counts) -> None:
    """A restart may write samples without rows to a second block: they lie there, though a query has them once."""
    assert {labels: one[1:] for labels, one in found.items()} == {labels: one[1:] for labels, one in want.items()}
    for labels, (count, *_) in found.items():
        twice = ("__name__", "loose") in labels
        assert want[labels][0] <= count <= want[labels][0] * (3 if twice else 1)


@pytest.mark.parametrize("compacted", [False, True])
def test_of_the_examples(compacted: bool, tmp_path: Path) -> None:
    for example in HERE.glob("v*"):
        folder = Path(shutil.copytree(example / "data", tmp_path / example.name))
        if compacted:
            with data.opened(folder) as storage:
                storage.compact(everything=True)
        check(folder)


def test_of_samples_without_rows_in_the_log_in_chunks_and_in_blocks(folder: Folder, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder.path, tmp_path / "data"))
    check(copy)
    for step in ("seal", "tidy", "compact"):
        with data.opened(copy) as storage:
            storage.compact(everything=True) if step == "compact" else getattr(storage, step)()
        check(copy)


def row(storage: Storage, pool: str, at: int, codes: range) -> None:
    labels = [{"__name__": "rows", "code": str(code), "pool": pool} for code in codes]
    storage.writer(pool).append(at, LabelSets.from_dicts(labels), np.arange(len(labels), dtype=np.float64) + at)


@pytest.mark.parametrize("seed", range(6))
def test_of_rows_and_samples_however_they_came(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    folder, at = tmp_path / "data", 1_700_000_000_000
    storage = Storage(str(folder), retention_seconds=1e11, chunk_rows=5)
    for act in random.choice(6, 60, p=(0.6, 0.2, 0.08, 0.04, 0.04, 0.04)):
        at += int(random.integers(1, 20)) * 60_000
        if act == 0:
            first = int(random.integers(0, 4))
            row(storage, f"pool{random.integers(0, 3)}", at, range(first, first + int(random.integers(1, 6))))
        elif act == 1:
            times = at - random.integers(0, 8 * HOUR, 5)
            labels = [{"__name__": "loose", "code": str(code)} for code in random.integers(0, 3, 5)]
            storage.append(LabelSets.from_dicts(labels), times, np.arange(5.0))
        elif act == 2:
            storage.seal()
        elif act == 3:
            storage.compact()
        elif act == 4:
            storage.compact(everything=True)
        else:
            storage.close()
            check(folder)
            storage = Storage(str(folder), retention_seconds=1e11, chunk_rows=5)
    storage.close()
    check(folder)


def test_a_series_is_there_once_whichever_selectors_match(folder: Folder) -> None:
    selectors: tuple[list[tuple[str, str, str]], ...] = (
        [("__name__", "=", "up")],
        [("job", "=~", "a.*"), ("instance", "!=", "host-1:9100")],
    )
    assert surveyed(folder.path, *selectors) == stored(folder.path, *selectors)


def test_what_is_in_no_block_yet_is_recent(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), retention_seconds=1e11)
    at = 1_700_000_000_000
    row(storage, "old", at, range(3))
    storage.compact(everything=True)
    row(storage, "new", at + 3 * HOUR, range(2))
    storage.flush()
    found = survey_series(str(tmp_path), [], *ALL)
    pools = [found.pools[one] for one in found.target.tolist()]
    assert sorted(zip(pools, found.recent.tolist(), strict=True)) == [("new", True)] * 2 + [("old", False)] * 3
    assert (found.bytes > 0).all()
    storage.close()


def test_a_survey_beside_a_storage_that_works_finds_each_series(tmp_path: Path) -> None:
    with data.opened(tmp_path) as storage:
        at = 1_700_000_000_000
        for i in range(30):
            row(storage, "a", at + i * 10 * 60_000, range(20))
            if i % 7 == 0:
                storage.flush()
            if i % 10 == 9:
                storage.compact()
            assert len(survey_series(str(tmp_path), [], *ALL).labels) == 20
