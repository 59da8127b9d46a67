"""`bellbuoy tsdb list` shows what is there, `analyze` who made it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bellbuoy.tsdb import LabelSets, Storage
from bellbuoy.tsdb_tools.tables import size_text, table, time_text
from tests.tsdb_tools.conftest import tsdb
from tests.tsdb_tools.test_blocks import promtool

HOUR = 3_600_000
START = 1_700_006_400_000


@pytest.fixture(scope="module")
def exploded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hours: ten steady metrics of two targets, one that has a label with users, one whose pods come and go."""
    folder = tmp_path_factory.mktemp("exploded") / "data"
    storage = Storage(str(folder), retention_seconds=1e11)
    steady = [{"__name__": f"steady_{i}", "job": "app"} for i in range(10)]
    users = [{"__name__": "requests_total", "job": "api", "code": "200", "user_id": f"u{i}"} for i in range(1500)]
    for step in range(48):
        at = START + step * 5 * 60_000
        pods = [{"__name__": "build_info", "job": "ci", "pod": f"p{step // 4}-{i}"} for i in range(30)]
        for pool, labels in (("app", steady), ("api", users), ("ci", pods)):
            storage.writer(pool).append(at, LabelSets.from_dicts(labels), np.full(len(labels), float(step)))
    storage.compact()
    storage.close()
    return folder


def analyzed(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    tsdb("analyze", "--storage.path", folder, "--output", "json", *flags)
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_the_culprit_is_named_with_its_label_and_the_cure(exploded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = analyzed(exploded, capsys)
    assert found["series"] == 10 + 1500 + 360
    first = found["metrics"][0]
    assert (first["name"], first["series"], first["widest_label"], first["widest_values"]) == (
        *("requests_total", 1500),
        *("user_id", 1500),
    )
    culprits = " ".join(found["culprits"])
    assert (
        "requests_total has 1,500 of 1,870 series (80 %): its label user_id has 1,500 values; drop the label"
        in culprits
    )
    assert "series of build_info come and go: 330 appeared and 330 ended in the window; its label pod" in culprits
    tsdb("analyze", "--storage.path", exploded)
    assert f"⚠ {found['culprits'][0]}" in capsys.readouterr().out


def test_labels_pairs_targets_and_churn_are_counted(exploded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = analyzed(exploded, capsys, "--top", "3")
    assert found["labels"] == [
        {"name": "user_id", "values": 1500, "series": 1500},
        {"name": "pod", "values": 360, "series": 360},
        {"name": "__name__", "values": 12, "series": 1870},
    ]
    assert {(one["name"], one["series"]) for one in found["pairs"]} == {
        ('__name__="requests_total"', 1500), ('code="200"', 1500), ('job="api"', 1500),
    }  # fmt: skip
    targets = [(one["name"], one["series"]) for one in found["targets"]]
    assert targets == [("api", 1500), ("ci", 360), ("app", 10)]
    # Twelve sets of pods: the first began with the window, the last ends with it; a stale marker ends the others.
    (churn,) = found["churning_targets"]
    assert (churn["name"], churn["appeared"], churn["gone"]) == ("ci", 330, 330)
    assert found["bytes"] == pytest.approx(sum(one["bytes"] for one in found["targets"]), rel=0.01)
    assert found["losses"] == []


def test_a_selector_and_a_window_narrow_it(exploded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyzed(exploded, capsys, "--match", '{job="app"}')["series"] == 10
    at = START // 1000
    assert (
        analyzed(exploded, capsys, "--match", "build_info", "--start", str(at), "--end", str(at + 60))["series"] == 30
    )
    tsdb("analyze", "--storage.path", exploded, "--match", "none")
    assert capsys.readouterr().out == "no series match\n"


@pytest.mark.peers
async def test_promtool_counts_the_same(exploded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = ("--end", str((START + 2 * HOUR) / 1000 - 1))
    tsdb("export", "--storage.path", exploded, "--format", "prometheus", "--out", tmp_path / "blocks", *end)
    said = await promtool("tsdb", "analyze", tmp_path / "blocks", "--limit=3")
    found = analyzed(exploded, capsys, *end, "--top", "3")
    for line in (
        f"Series: {found['series']}",
        f"Label names: {found['label_count']}",
        f"Postings (unique label pairs): {found['pair_count']}",
        *(f"{one['series']} {one['name']}" for one in found["metrics"][:2]),
        *(f"{one['values']} {one['name']}" for one in found["labels"]),
        *(f"{one['series']} {one['name']}".replace('"', "") for one in found["pairs"]),
        *(f"{one['appeared']} __name__={one['name']}" for one in found["churning_metrics"]),
    ):
        assert f"\n{line}\n" in said


def test_a_damaged_folder_is_analyzed_as_far_as_it_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(str(tmp_path), retention_seconds=1e11)
    for name in ("a", "b"):
        storage.append(LabelSets.from_dicts([{"__name__": name}]), np.array([START]), np.array([1.0]))
        storage.flush()
    storage.close()
    path = tmp_path / "wal" / "00000001.wal"
    path.write_bytes(path.read_bytes()[:-1])
    found = analyzed(tmp_path, capsys)
    assert [one["name"] for one in found["metrics"]] == ["a"]
    assert [loss for loss in found["losses"] if str(path) in loss]


def test_blocks_and_the_rest_are_listed(exploded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tsdb("list", "--storage.path", exploded, "--output", "json")
    found = json.loads(capsys.readouterr().out)
    (block,) = found["blocks"]
    assert (block["kind"], block["start"], block["end"]) == (
        "regular",
        START - START % (2 * HOUR),
        block["start"] + 2 * HOUR,
    )
    # Pods of chunks that reach beyond it are counted, too.
    assert 10 + 1500 + 6 * 30 <= block["series"] <= 1870
    assert block["bytes"] == Path(block["path"]).stat().st_size
    assert found["catalog"][0]["groups"] == 3
    assert sum(one["chunks"] for one in found["chunk_files"]) > 0
    tsdb("list", "--storage.path", exploded)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        *("NUMBER", "KIND", "START", "END", "START-UNIX", "END-UNIX", "SAMPLES", "SERIES", "BYTES", "INDEX"),
    ]
    assert len(lines[1]) == len(lines[2])
    assert time_text(block["start"]) in lines[2]
    assert str(block["start"] // 1000) in lines[2]


def test_a_damaged_block_is_listed_as_such(exploded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(exploded, tmp_path / "data"))
    (path,) = (folder / "blocks").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    path.with_suffix(".damaged").write_bytes(b"aside")
    tsdb("list", "--storage.path", folder)
    said = capsys.readouterr().out
    assert f"{path.stem}  damaged  -" in said
    assert "set aside as damaged: 1 files, 5 B, such as" in said
    assert "bellbuoy tsdb verify says where" in said


def test_numbers_stand_to_the_right_and_times_and_sizes_can_be_read() -> None:
    assert table(("NAME", "COUNT"), [("a", 1000), ("bcd", 5)]) == "  NAME  COUNT\n  a     1,000\n  bcd       5\n"
    assert table(("NAME",), []) == "  none\n"
    for milliseconds, want in ((0, "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:00.001Z"), (2**62, str(2**62))):
        assert time_text(milliseconds) == want
    for size, want in ((0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"), (2**60, "1048576 TiB")):
        assert size_text(size) == want
