"""The storage's files are those of docs/storage-format.md: earlier ones are read, the page's reader reads ours."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from bellbuoy._core import Scraper, Storage, StorageError
from tests.core.examples import HERE, VERSION, Described, described, held, make, open_storage, stated
from tests.core.block_files import BlockFile, deletions
from tests.core.formats import OPENMETRICS
from tests.core.scraping import Exporter, eventually, settings, target
from tests.core.storage_files import KINDS, Folder, Header

FORMS = {
    *("entry 1", "entry 2", "entry 3", "entry 4", "set without a base", "set with a base"),
    *("column without a target label", "record 1", "record 2", "full row", "row", "row in a larger set"),
    *("code of an integer", "code of hundredths", "code 3", "code 7", "code 11", "chunk 1", "chunk 2", "presence"),
    *("exception", *(f"column of kind {kind}" for kind in range(7))),
}
VERSIONS = sorted(int(folder.name.removeprefix("v")) for folder in HERE.glob("v*"))


@pytest.fixture(params=VERSIONS, ids="v{}".format)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def folder(version: int, tmp_path: Path) -> Path:
    """A copy of the example of a version."""
    return Path(shutil.copytree(HERE / f"v{version}" / "data", tmp_path / "data"))


def file_of(folder: Path, kind: str) -> Path:
    return folder / "catalog" if kind == "catalog" else folder / kind / f"00000001.{kind}"


def test_there_is_an_example_of_each_version_and_it_is_small(version: int) -> None:
    assert VERSION in VERSIONS
    assert sum(path.stat().st_size for path in (HERE / f"v{version}").rglob("*")) < 2**16


def test_an_example_is_read_with_just_the_samples_that_it_is_said_to_hold(version: int, folder: Path) -> None:
    want = stated(version)
    storage = open_storage(folder)
    assert storage.losses() == []
    assert held(storage) == want
    storage.seal()
    storage.tidy()
    assert held(storage) == want
    storage.close()
    storage = open_storage(folder)
    assert storage.losses() == []
    assert held(storage) == want
    storage.close()


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_begins_with_its_version(kind: str, version: int, folder: Path) -> None:
    assert Header.read(file_of(folder, kind).read_bytes()) == Header(KINDS[kind], version, 0)


def test_an_example_is_what_the_page_says_in_each_of_its_forms() -> None:
    folder = Folder.read(HERE / "v1" / "data")
    assert folder.seen == FORMS
    assert described(folder.samples()) == stated(1)


def test_what_this_version_writes_is_what_the_page_says(tmp_path: Path) -> None:
    make(tmp_path / "made")
    folder = Folder.read(tmp_path / "made" / "data")
    for kind, letter in KINDS.items():
        assert Header.read(file_of(folder.path, kind).read_bytes()) == Header(letter, VERSION, 0)
    assert folder.seen == FORMS
    found = described(folder.samples())

    def without_scrapes(series: Described) -> Described:
        return [one for one in series if one["labels"].get("job") != "scraped"]

    assert without_scrapes(found) == without_scrapes(stated(VERSION)) != found
    storage = open_storage(tmp_path / "made" / "data")
    assert held(storage) == found
    storage.close()


def test_exemplars_in_the_log_are_what_the_page_says(tmp_path: Path) -> None:
    storage, exporter = open_storage(tmp_path), Exporter()
    scraper = Scraper(storage)

    def scrape(trace: str) -> None:
        before = storage.stats()["exemplars_appended"]
        exporter.body = b'c_total{a="b"} 1 # {trace="%s"} 0.5 1.25\nd_total 1 # {} 2\n# EOF\n' % trace.encode()
        scraper.set_pool("p", settings(), [target(exporter)])
        eventually(lambda: storage.stats()["exemplars_appended"] > before)

    def found(seen: set[str]) -> list[tuple[str, dict[str, str], int, bool, float]]:
        folder = Folder.read(tmp_path)
        assert {form for form in folder.seen if form in ("record 4", "all exemplars")} == seen
        assert {len(one[0]) for one in folder.exemplars} <= {3, 4}
        # The scrape's time is any.
        return [(one[0]["__name__"], *one[1:2], one[2] if one[3] else 0, *one[3:]) for one in folder.exemplars]

    try:
        exporter.content_type = OPENMETRICS
        scrape("x")
        storage.flush()
        want = [("c_total", {"trace": "x"}, 1250, True, 0.5), ("d_total", {}, 0, False, 2.0)]
        assert found({"record 4"}) == want
        # The segment goes, and they stay.
        storage.compact(everything=True)
        assert [path.name for path in (tmp_path / "wal").iterdir()] == ["00000002.wal"]
        scrape("y")
        storage.flush()
        want.append(("c_total", {"trace": "y"}, 1250, True, 0.5))
        assert found({"record 4", "all exemplars"}) == want
    finally:
        scraper.close()
        exporter.stop()
        storage.close()


def digests(folder: Path) -> dict[str, str]:
    """What its files are, but for the log segments that an opened folder gets anew."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("at", "byte", "said"), [(6, 99, "version 99"), (8, 0x04, "feature"), (15, 0x80, "feature")])
def test_a_file_of_a_newer_program_is_refused_and_left_alone(
    kind: str, at: int, byte: int, said: str, folder: Path
) -> None:
    path = file_of(folder, kind)
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data)
    before = digests(folder)
    for _ in range(2):
        with pytest.raises(StorageError, match=f"{re.escape(str(path))}.*{said}.*use the newer one that wrote it"):
            Storage(str(folder))
        assert digests(folder) == before


def blocks_of(folder: Path) -> dict[int, BlockFile]:
    return {int(path.stem): BlockFile.read(path) for path in sorted((folder / "blocks").glob("*.block"))}


def test_blocks_and_deletions_are_what_the_page_says(version: int, folder: Path) -> None:
    storage = open_storage(folder)
    # The example's rows, what is late for them, and two hours in which one target was scraped.
    assert storage.compact(everything=True) == 3
    want = held(storage)
    late, *regular = blocks_of(folder).values()
    assert late.start == late.end == -(2**63)
    assert late.last < regular[0].start
    for block in regular:
        assert block.end - block.start == 7_200_000
        assert block.start <= block.first <= block.last < block.end
    found: dict[str, list[tuple[int, int]]] = {}
    for block in (late, *regular):
        for labels, samples in block.series:
            found.setdefault(json.dumps(labels, sort_keys=True), []).extend(samples)
    assert described([(json.loads(labels), samples) for labels, samples in found.items()]) == want
    assert not list((folder / "chunks").iterdir())

    first, last = stated(version)[0]["samples"][0][0], stated(version)[0]["samples"][-1][0]
    assert storage.delete([[("__name__", "=", "walk")]], first, last) == 1
    assert [labels["__name__"] for labels, _, _ in deletions(folder / "tombstones")] == ["walk"]
    left = [one for one in want if one["labels"]["__name__"] != "walk"]
    assert held(storage) == left
    assert storage.clean() >= 1
    assert held(storage) == left
    assert deletions(folder / "tombstones") == []
    cleaned = blocks_of(folder)
    assert any(block.sources for block in cleaned.values())
    assert not any(labels["__name__"] == "walk" for block in cleaned.values() for labels, _ in block.series)
    storage.close()
    storage = open_storage(folder)
    assert storage.losses() == []
    assert held(storage) == left
    storage.close()


def test_an_example_of_blocks_and_deletions_is_read_as_it_is_said_and_as_the_page_has_it(
    version: int, tmp_path: Path
) -> None:
    folder, want = tmp_path / "data", stated(version, "compacted")
    shutil.copytree(HERE / f"v{version}" / "compacted", folder)
    storage = open_storage(folder)
    assert storage.losses() == []
    assert held(storage) == want
    storage.close()

    folder = HERE / f"v{version}" / "compacted"
    deleted: dict[str, list[tuple[int, int]]] = {}
    for labels, start, end in deletions(folder / "tombstones"):
        deleted.setdefault(json.dumps(labels, sort_keys=True), []).append((start, end))
    assert {json.loads(labels)["__name__"] for labels in deleted} == {"noise", "walk", "late_news", "hundredths"}
    found: dict[str, list[tuple[int, int]]] = {}
    hidden = 0
    for block in blocks_of(folder).values():
        for one, samples in block.series:
            key = json.dumps(one, sort_keys=True)
            left = [at for at in samples if not any(start <= at[0] <= end for start, end in deleted.get(key, ()))]
            hidden += len(samples) - len(left)
            found.setdefault(key, []).extend(left)
    assert hidden > 0
    assert described([(json.loads(labels), samples) for labels, samples in found.items() if samples]) == want


@pytest.mark.parametrize("place", ["header", "pack", "index", "tail", "cut"])
def test_a_damaged_block_costs_itself_and_is_kept(place: str, folder: Path) -> None:
    storage = open_storage(folder)
    storage.compact(everything=True)
    want = held(storage)
    storage.close()
    path = max((folder / "blocks").iterdir())
    data = bytearray(path.read_bytes())
    at = {"header": 2, "pack": 30, "index": len(data) - 120, "tail": len(data) - 20, "cut": 0}[place]
    data[at] ^= 0x10
    path.write_bytes(data[: len(data) // 2] if place == "cut" else data)
    kept = path.read_bytes()
    storage = open_storage(folder)
    if place == "pack":
        # Found when it is read: a part of the answer would be a lie.
        with pytest.raises(StorageError, match=f"{re.escape(str(path))}.*move the file away"):
            held(storage)
    else:
        assert len(storage.losses()) == 1
        assert path.with_suffix(".damaged").read_bytes() == kept
        left = held(storage)
        assert 0 < len(left) < len(want)
    storage.close()


@pytest.mark.parametrize(("at", "byte", "said"), [(6, 99, "version 99"), (8, 0x04, "feature")])
def test_a_block_of_a_newer_program_is_refused_and_left_alone(at: int, byte: int, said: str, folder: Path) -> None:
    storage = open_storage(folder)
    storage.compact(everything=True)
    storage.close()
    path = max((folder / "blocks").iterdir())
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data)
    before = digests(folder)
    with pytest.raises(StorageError, match=f"{re.escape(str(path))}.*{said}.*use the newer one that wrote it"):
        Storage(str(folder))
    assert digests(folder) == before
