"""OpenMetrics text: promtool and Python's strict parser read ours; of what we read, each line is stored or refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bellbuoy.tsdb import LabelSets
from bellbuoy.tsdb_tools import openmetrics
from bellbuoy.tsdb_tools.errors import ImportDataError
from tests.tsdb_tools import data
from tests.tsdb_tools.conftest import Folder, tsdb
from tests.tsdb_tools.plain import NAN_BITS, bits_of
from tests.tsdb_tools.test_blocks import promtool

NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]*", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def text(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("openmetrics") / "out.om"
    tsdb("export", "--storage.path", folder.path, "--format", "openmetrics", "--out", out)
    return out


def test_text_comes_back_as_it_was_but_for_stale_markers(folder: Folder, text: Path, tmp_path: Path) -> None:
    tsdb("import", "--storage.path", tmp_path / "data", "openmetrics", text)
    assert data.read(tmp_path / "data") == data.without_stale(folder.samples)


@pytest.mark.peers
async def test_promtool_makes_blocks_of_it_that_come_back_exactly(folder: Folder, text: Path, tmp_path: Path) -> None:
    await promtool("tsdb", "create-blocks-from", "openmetrics", text, tmp_path / "blocks")
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", tmp_path / "blocks")
    assert data.read(tmp_path / "data") == data.without_stale(folder.samples)


def test_it_begins_with_types_that_are_unknown_and_ends_with_its_mark(text: Path) -> None:
    lines = text.read_text(encoding="utf-8").splitlines()
    types = [line for line in lines if line.startswith("#")]
    names = ("latency_seconds_bucket", "requests_total", "temperature", "up")
    assert types == [*(f"# TYPE {name} unknown" for name in names), "# EOF"]
    assert lines[-1] == "# EOF"


def test_the_strict_parser_reads_it(tmp_path: Path) -> None:
    data.fill(tmp_path / "data", series=8, rows=20)
    tsdb("export", "--storage.path", tmp_path / "data", "--format", "openmetrics", "--out", tmp_path / "out")
    # It wants its _total and _bucket to be of counters and histograms.
    text = re.sub(r"_(total|bucket)\b", "", (tmp_path / "out").read_text(encoding="utf-8"))
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]  # type: ignore[no-untyped-call]
    assert len(samples) == sum(map(len, data.without_stale(data.read(tmp_path / "data")).values()))


@given(st.integers(-(10**15), 10**15))
def test_a_time_is_the_same_whether_it_is_rounded_or_cut_off(milliseconds: int) -> None:
    seconds = float(repr(openmetrics.seconds(np.array([milliseconds])).tolist()[0]))
    assert round(seconds * 1000) == milliseconds
    assert int(seconds * 1000) == milliseconds


@given(st.one_of(NAMES, TEXTS), st.dictionaries(st.one_of(NAMES, TEXTS), TEXTS, max_size=4))
def test_any_labels_come_back(name: str, labels: dict[str, str]) -> None:
    labels = {**labels, "__name__": name}
    assert openmetrics.read_series(openmetrics.series_text(labels)) == labels


def imported(tmp_path: Path, text: str | bytes) -> data.Samples:
    """What a folder holds after this text."""
    (tmp_path / "in.om").write_bytes(text if isinstance(text, bytes) else text.encode())
    tsdb("import", "--storage.path", tmp_path / "data", "openmetrics", tmp_path / "in.om")
    return data.read(tmp_path / "data")


def test_each_form_of_a_line_is_read(tmp_path: Path) -> None:
    text = """# HELP a Something.
# TYPE a counter
a_total 1 100
a_total{} 2.5e0 101.25
a_total{b="c",} +Inf 102 # {trace_id="x}"} 1 102
b{c="}\\"{ 1 2",d="\\\\\\n"}   -7\t103
b{c="}\\"{ 1 2",d="\\\\\\n"} NaN 104
{"my.metric","my.label"="ü",c=""} 3 -0.001
# EOF
"""
    assert imported(tmp_path, text) == {
        (("__name__", "a_total"),): [
            (100_000, bits_of(1.0)), (101_250, bits_of(2.5))
        ],
        (("__name__", "a_total"), ("b", "c")): [(102_000, bits_of(float("inf")))],
        (("__name__", "b"), ("c", '}"{ 1 2'), ("d", "\\\n")): [(103_000, bits_of(-7.0)), (104_000, NAN_BITS)],
        (("__name__", "my.metric"), ("my.label", "ü")): [(-1, bits_of(3.0))],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a 1", "a has no timestamp: add one, in seconds, to each line"),
        ("a x 1", "the value 'x' is no number"),
        ("a 1_000 1", "the value '1_000' is no number"),
        ("a 1 x", "the timestamp 'x' is no number"),
        ("a 1 inf", "the timestamp 'inf' is no number of seconds"),
        ("a{b=1} 1 1", "expected label=\"value\" in 'a{b=1}', found 'b=1'"),
        ('a{b="1",b="2"} 1 1', 'a{b="1",b="2"} has label \'b\' twice'),
        ('a{b="1" 1 1', "expected name{labels}, a value and a time in seconds, found 'a{b=\"1\" 1 1'"),
        ('{a="1"} 1 1', '{a="1"} has no metric name'),
        ("# EOF", "there is more behind # EOF: cut it off, or join files without the # EOF of the first"),
    ],
)
def test_a_bad_line_is_said_with_file_line_and_cure(tmp_path: Path, line: str, reason: str) -> None:
    number = 3 if line == "# EOF" else 2
    with pytest.raises(ImportDataError) as e:
        imported(tmp_path, f"good 1 1\n{line}\n# EOF\n")
    assert str(e.value) == f"cannot import {tmp_path / 'in.om'}: line {number}: {reason}"


def test_bytes_that_are_not_utf8_are_said(tmp_path: Path) -> None:
    with pytest.raises(ImportDataError, match=r"line 2: its byte 4 is not UTF-8: write the file in UTF-8"):
        imported(tmp_path, b'good 1 1\na{b\xff="1"} 1 1\n# EOF\n')


def test_a_file_that_was_cut_off_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    for text in ("", "a 1 1\n", "a 1 1\n# EO"):
        with pytest.raises(ImportDataError, match="its last line is not # EOF, so it was cut off"):
            imported(tmp_path, text)
        assert data.read(tmp_path / "data") == {}


def test_series_without_a_name_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with data.opened(tmp_path / "data") as storage:
        labels = LabelSets.from_dicts([{"a": "b"}, {"__name__": "c"}])
        storage.append(labels, np.array([1000, 2000]), np.array([1.0, 2.0]))
    tsdb("export", "--storage.path", tmp_path / "data", "--format", "openmetrics", "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "# TYPE c unknown\nc 2.0 2.0\n# EOF\n"
    assert "1 series have no name, which the format cannot say: left out" in capsys.readouterr().err
