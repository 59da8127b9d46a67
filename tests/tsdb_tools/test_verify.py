"""`bellbuoy tsdb verify` finds each byte that changed and each end that is missing, says where, and changes nothing."""

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from bellbuoy.archive.progress import Steps
from bellbuoy.tsdb import LabelSets, Storage, inspect_file
from bellbuoy.tsdb_tools import files, verification
from bellbuoy.tsdb_tools.errors import DamagedError
from tests.core.examples import HERE, open_storage
from tests.tsdb_tools.conftest import tsdb

# Kind, and a file of it.
FILES = {
    "block": "blocks/00000001.block", "chunks": "chunks/00000001.chunks", "log": "wal/00000001.wal",
    "catalog": "catalog", "tombstones": "tombstones",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SECOND_LOOK_SECONDS", 0.0)


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with blocks and a deletion."""
    folder = Path(shutil.copytree(HERE / "v1" / "data", tmp_path_factory.mktemp("verify") / "data"))
    storage = open_storage(folder)
    storage.compact(everything=True)
    storage.delete([[("__name__", "=", "walk")]], 0, 2**60)
    storage.close()
    return folder


@pytest.fixture
def folder(request: pytest.FixtureRequest, compacted: Path, tmp_path: Path) -> Path:
    """A copy of the example: with blocks for what is found there only."""
    kind = request.node.callspec.params["kind"] if hasattr(request.node, "callspec") else "block"
    source = compacted if kind in ("block", "tombstones") else HERE / "v1" / "data"
    return Path(shutil.copytree(source, tmp_path / "data"))


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def damaged(folder: Path) -> dict[str, list[tuple[int, str]]]:
    found = verification.verify(folder, step=Steps("verify", lambda: False).step)
    return {
        str(file.path.relative_to(folder)): [(one.at, one.reason) for one in file.damage]
        for file in found
        if file.damage
    }


@pytest.mark.parametrize("kind", FILES)
def test_what_is_whole_is_said_to_be(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digests(folder)
    tsdb("verify", "--storage.path", folder)
    said = capsys.readouterr().out
    assert f"whole    {FILES[kind]}" in said
    assert "DAMAGED" not in said
    assert digests(folder) == before


@pytest.mark.parametrize("kind", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(kind: str, folder: Path) -> None:
    path = folder / FILES[kind]
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    # The eighth byte of a header means nothing.
    places = {0, 5, 6, 8, 16, 17, len(whole) - 1, *random.integers(9, len(whole), 60).tolist()} - {7}
    for at in sorted(places):
        data = bytearray(whole)
        data[at] ^= 1 << random.integers(0, 8)
        path.write_bytes(data)
        before = digests(folder)
        found = damaged(folder)
        assert FILES[kind] in found, at
        assert set(found) <= {FILES[kind], "catalog"}
        assert all(0 <= place <= at for place, _ in found[FILES[kind]][:1])
        assert digests(folder) == before


@pytest.mark.parametrize("kind", FILES)
def test_an_end_that_is_missing_is_found(kind: str, folder: Path) -> None:
    path = folder / FILES[kind]
    facts = inspect_file(kind, str(path), deep=True)
    ends = 0
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        if not inspect_file(kind, str(path), deep=True)["damage"]:
            assert length >= 16
            ends += 1
    # Files that grow end anywhere: one that was cut just where a piece ends is whole, as far as anyone can tell.
    assert ends == facts.get("chunks", facts.get("frames", 0))
    assert FILES[kind] in damaged(folder)


def test_damage_of_a_pack_names_its_metrics_and_the_cure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / FILES["block"]
    data = bytearray(path.read_bytes())
    data[30] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"1 of .* files of .* are damaged"):
        tsdb("verify", "--storage.path", folder)
    said = capsys.readouterr().out
    assert "DAMAGED  blocks/00000001.block" in said
    assert "at byte 16: a pack of" in said
    assert "samples of " in said
    assert f"What to do about {path}: put back a whole copy" in said
    with pytest.raises(DamagedError):
        tsdb("verify", "--storage.path", folder, "--output", "json")
    told = json.loads(capsys.readouterr().out)
    assert not told["whole"]
    assert [one["path"] for one in told["files"] if one["damage"]] == [str(path)]


@pytest.mark.parametrize("kind", ["chunks"])
def test_a_catalog_that_does_not_know_what_chunks_refer_to_is_damage(kind: str, folder: Path) -> None:
    (folder / "catalog").unlink()
    reasons = [reason for _, reason in damaged(folder)["catalog"]]
    assert reasons[0] == "it is missing"
    assert "that chunk files and the log refer to" in reasons[1]


@pytest.mark.parametrize("kind", FILES)
def test_a_newer_programs_file_is_told(kind: str, folder: Path) -> None:
    path = folder / FILES[kind]
    data = bytearray(path.read_bytes())
    data[6] = 99
    path.write_bytes(data)
    assert "version 99" in str(damaged(folder)[FILES[kind]])


def test_a_folder_that_is_none_is_refused_and_stays_empty(tmp_path: Path) -> None:
    for command in ("verify", "list", "analyze"):
        with pytest.raises(DamagedError, match="it is no data folder; name the one of"):
            tsdb(command, "--storage.path", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_damaged_beside_a_server_that_writes(tmp_path: Path) -> None:
    storage, stop = Storage(str(tmp_path), retention_seconds=1e11, commit_seconds=0.01), threading.Event()

    def work() -> None:
        writer, i = storage.writer("busy"), 0
        names = LabelSets.from_dicts([{"__name__": f"metric_{n}"} for n in range(300)])
        while not stop.is_set():
            i += 1
            writer.append(1_700_000_000_000 + i * 60_000, names, np.random.default_rng(i).random(300))
            labels = LabelSets.from_dicts([{"__name__": "loose", "i": str(i)}])
            storage.append(labels, np.array([i]), np.array([1.0]))
            if i % 50 == 0:
                storage.compact()
                storage.tidy()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        storage.flush()
        for _ in range(15):
            assert damaged(tmp_path) == {}
    finally:
        stop.set()
        thread.join()
        storage.close()
    assert damaged(tmp_path) == {}
