"""`bellbuoy tsdb`: what it refuses, how it ends when it is told to, and that memory stays what it is."""

import asyncio
import re
from pathlib import Path

import pytest

from bellbuoy import cli
from bellbuoy.archive import source
from bellbuoy.archive.errors import ExportError, InterruptedByUserError
from bellbuoy.errors import OptionsError
from bellbuoy.tsdb_tools import Options, run
from bellbuoy.tsdb_tools.commands import export, import_
from bellbuoy.tsdb_tools.errors import ImportDataError
from bellbuoy.tsdb_tools.options import options
from tests.tsdb_tools import data
from tests.tsdb_tools.conftest import Folder, tsdb

FORMATS = ("parquet", "openmetrics", "prometheus")


def chosen(*words: str) -> Options:
    return options(cli.parser("tsdb").parse_args(["tsdb", *words]))


def test_times_are_seconds_or_rfc_3339() -> None:
    base = ("export", "--format", "openmetrics", "--out", "x")
    said = chosen(*base, "--start", "1970-01-01T00:00:01.5Z", "--end", "1970-01-01T01:00:02+01:00")
    assert (said.start, said.end) == (1500, 2000)
    assert chosen(*base, "--start", "-1.5").start == -1500
    for wrong in ("yesterday", "1970-01-01", "1970-13-01T00:00:00Z", "nan", "inf"):
        with pytest.raises(OptionsError, match="write seconds since 1970, or a time such as"):
            chosen(*base, "--start", wrong)
    with pytest.raises(OptionsError, match="--end: it is before --start"):
        chosen(*base, "--start", "2", "--end", "1")


@pytest.mark.parametrize("selector", ["up[5m]", "rate(up[5m])", "up offset 5m", "{", "1", '{job=~"("}'])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"cannot use --match {selector!r}: ")):
        chosen("export", "--format", "openmetrics", "--out", "x", "--match", selector)


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_that_a_server_uses_is_refused(tmp_path: Path, form: str) -> None:
    with data.opened(tmp_path / "data"), pytest.raises(ExportError, match="another process uses this data folder"):
        tsdb("export", "--storage.path", tmp_path / "data", "--format", form, "--out", tmp_path / "out")
    (tmp_path / "in").write_text("a 1 1\n# EOF\n")
    with data.opened(tmp_path / "data"), pytest.raises(ImportDataError, match="another process uses this data folder"):
        tsdb("import", "--storage.path", tmp_path / "data", "openmetrics", tmp_path / "in")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "in"]


def test_a_snapshot_of_a_storage_that_is_open_is_exported(folder: Folder, tmp_path: Path) -> None:
    with data.opened(folder.path) as storage:
        storage.snapshot(str(tmp_path / "snapshot"))
        tsdb("export", "--storage.path", tmp_path / "snapshot", "--format", "prometheus", "--out", tmp_path / "out")
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", tmp_path / "out")
    assert data.read(tmp_path / "data") == folder.samples


def test_a_folder_without_data_is_refused_and_left_empty(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ExportError, match=r"it is no data folder; name the one of --storage\.path"):
            tsdb("export", "--storage.path", place, "--format", "openmetrics", "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_written_over(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for form in FORMATS:
        with pytest.raises(ExportError, match=r"cannot write .*; (remove it, or )?choose another --out"):
            tsdb("export", "--storage.path", folder.path, "--format", form, "--out", tmp_path / "file")
    for out in ("none/out", "none/out.parquet"):
        form = "parquet" if out.endswith(".parquet") else "openmetrics"
        with pytest.raises(ExportError, match="its folder does not exist; make it"):
            tsdb("export", "--storage.path", folder.path, "--format", form, "--out", tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_does_not_exist_is_not_imported(tmp_path: Path) -> None:
    for form in ("openmetrics", "prometheus"):
        with pytest.raises(ImportDataError, match="none: it does not exist; name what is to be imported"):
            tsdb("import", "--storage.path", tmp_path / "data", form, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_is_told_to_stop_leaves_nothing_behind(folder: Folder, tmp_path: Path, form: str) -> None:
    asked = iter(range(100))
    with pytest.raises(InterruptedByUserError, match="nothing was written, start it again"):
        export(Options("export", folder.path, form, tmp_path / "out"), lambda: next(asked) > 1)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


def test_an_import_that_was_told_to_stop_can_be_started_again(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bellbuoy.tsdb_tools.openmetrics.BATCH_LINES", 10_000)
    tsdb("export", "--storage.path", folder.path, "--format", "openmetrics", "--out", tmp_path / "text")
    asked = iter(range(100))
    todo = Options("import", tmp_path / "data", "openmetrics", tmp_path / "text")
    with pytest.raises(InterruptedByUserError, match="after 20,000 samples; what was stored stays, start it again"):
        import_(todo, lambda: next(asked) > 0)
    assert sum(map(len, data.read(tmp_path / "data").values())) == 20_000
    import_(todo, lambda: False)
    assert data.read(tmp_path / "data") == data.without_stale(folder.samples)


async def test_it_stops_when_a_signal_says_so(folder: Folder, tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(InterruptedByUserError):
        await run(Options("export", folder.path, "openmetrics", tmp_path / "out"), stop)


def test_old_samples_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a 1 1000\na 2 2000\n# EOF\n")
    for _ in range(2):
        tsdb("import", "--storage.path", tmp_path / "data", "openmetrics", tmp_path / "in")
    assert [t for t, _ in data.read(tmp_path / "data")[("__name__", "a"),]] == [1_000_000, 2_000_000]


def test_a_metric_that_is_too_large_for_memory_comes_in_pieces(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PIECE_SAMPLES", 100)
    for form in ("openmetrics", "prometheus"):
        tsdb("export", "--storage.path", folder.path, "--format", form, "--out", tmp_path / form)
        tsdb("import", "--storage.path", tmp_path / f"from-{form}", form, tmp_path / form)
    assert data.read(tmp_path / "from-prometheus") == folder.samples
    assert data.read(tmp_path / "from-openmetrics") == data.without_stale(folder.samples)


def test_what_is_held_at_once_has_a_bound(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PIECE_SAMPLES", 1000)
    with source.Source.of_folder(folder.path) as of:
        pieces = [
            len(one.timestamps) for name in of.metrics(of.start, of.end) for one in of.metric(name, of.start, of.end)
        ]
    assert max(pieces) <= 1000
    assert sum(pieces) == sum(map(len, folder.samples.values()))
