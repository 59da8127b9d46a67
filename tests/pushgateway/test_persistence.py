"""What was pushed is there after a restart, a kill, and as far as can be after the file was spoiled."""

import asyncio
import logging
import math
import os
import shutil
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellbuoy.exposition import Sample
from bellbuoy.pushgateway.families import stored
from bellbuoy.pushgateway.grouping import parse_grouping, path_of
from bellbuoy.pushgateway.persistence import PersistenceError, decode, encode, load
from bellbuoy.pushgateway.store import Group
from tests.peers.programs import fetch, part
from tests.pushgateway.conftest import Start

texts = st.text(st.characters(codec="utf-8"), max_size=8)
pairs = st.dictionaries(texts, texts, max_size=3).map(lambda found: tuple(sorted(found.items())))
samples = st.builds(Sample, texts, pairs, st.floats(allow_nan=False))


@given(pairs, st.lists(samples, max_size=4), st.floats(min_value=0, max_value=1e12))
def test_a_file_reads_back_as_it_was_written(
    labels: tuple[tuple[str, str], ...], kept: list[Sample], at: float
) -> None:
    group = Group(labels, {"m": stored("m", "gauge", "Help.", kept, pushed_at=at)}, push_time=at, failure_time=at / 2)
    assert decode(encode([group])) == [group]


def test_numbers_that_json_has_not_are_kept() -> None:
    group = Group((("job", "j"),), {"m": stored("m", "gauge", "", [Sample("m", (), math.nan)], pushed_at=1)})
    (found,) = decode(encode([group]))
    assert math.isnan(found.families["m"].samples[0].value)


async def test_groups_survive_an_orderly_restart(start: Start, tmp_path: Path) -> None:
    file = str(tmp_path / "groups")
    async with start(persistence_file=file, persistence_interval_seconds=3600.0) as gateway:
        await gateway.put("job/a", "# HELP m Help.\n# TYPE m gauge\nm 1.5\n")
        before = await gateway.lines('job="a"')
    async with start(persistence_file=file) as gateway:
        assert await gateway.lines('job="a"') == before
        _, text = await gateway.send("GET", "/metrics")
        assert "# HELP m Help.\n# TYPE m gauge\n" in text
        # The rules hold for what was restored as well.
        assert (await gateway.put("job/b", "# TYPE m counter\nm 1\n"))[0] == 400


async def test_groups_survive_a_kill(tmp_path: Path) -> None:
    flags = (f"--persistence.file={tmp_path / 'groups'}", "--persistence.interval=100ms")
    async with part("pushgateway", *flags, folder=tmp_path) as gateway:
        async with aiohttp.ClientSession() as session, session.put(f"{gateway.url}/metrics/job/a", data=b"m 1\n") as r:
            assert r.status == 200
        for _ in range(600):
            if await asyncio.to_thread((tmp_path / "groups").exists):
                break
            await asyncio.sleep(0.05)
        gateway.kill()
    async with part("pushgateway", *flags, folder=tmp_path) as gateway:
        assert 'm{instance="",job="a"} 1\n' in await fetch(gateway.url + "/metrics")


@pytest.mark.parametrize("spoil", ["cut", "flip", "nonsense", "empty"])
async def test_a_spoiled_file_is_kept_aside_and_said(
    spoil: str, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "groups"
    async with start(persistence_file=str(file)) as gateway:
        await gateway.put("job/a", "m 1\n")
    good = file.read_bytes()
    bad = {"cut": good[:-5], "flip": good[:-5] + b"X" + good[-4:], "nonsense": b"\x00" * 50, "empty": b""}[spoil]
    file.write_bytes(bad)
    with caplog.at_level(logging.ERROR):
        async with start(persistence_file=str(file)) as gateway:
            assert await gateway.lines('job="a"') == []
            assert (await gateway.put("job/b", "m 1\n"))[0] == 200
    assert "persistence file is corrupt" in caplog.text
    (aside,) = [tmp_path / name for name in os.listdir(tmp_path) if ".corrupt-" in name]
    assert aside.read_bytes() == bad
    assert decode(file.read_bytes())[0].labels == (("job", "b"),)


FIRST_VERSION = """\
backup_bytes{instance="a",job="backup",kind="full"} 1500000000
backup_bytes{instance="a",job="backup",kind="⚓\\nline"} NaN
backup_seconds_bucket{instance="a",job="backup",le="1"} 2
backup_seconds_bucket{instance="a",job="backup",le="+Inf"} 3
backup_seconds_sum{instance="a",job="backup"} 7.25
backup_seconds_count{instance="a",job="backup"} 3
backups_total{instance="a",job="backup"} 3
last{instance="",job="a/b"} 1
plain{instance="a",job="backup"} -Inf
push_failure_time_seconds{instance="a",job="backup"} 0
push_failure_time_seconds{instance="",job="a/b"} 1795508539.9242108
push_time_seconds{instance="a",job="backup"} 1795508539.9152138
push_time_seconds{instance="",job="a/b"} 1795508539.9168255
wait_seconds{instance="a",job="backup",quantile="0.5"} 0.1
wait_seconds_sum{instance="a",job="backup"} 4
wait_seconds_count{instance="a",job="backup"} 9
"""


async def test_a_file_of_the_first_version_is_read(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "groups"
    shutil.copy(Path(__file__).parent / "groups-v1", file)
    for _ in range(2):
        async with start(persistence_file=str(file)) as gateway:
            _, text = await gateway.send("GET", "/metrics")
            assert [line for line in text.splitlines() if "job=" in line] == FIRST_VERSION.splitlines()
            for line in ('# HELP backup_bytes Written, by "kind" \\\\ path.', "# TYPE backup_seconds histogram"):
                assert f"{line}\n" in text
            # What was read is written again at the end.
            file.unlink()
            assert (await gateway.put("job/c", "other 1\n"))[0] == 200
            assert (await gateway.send("DELETE", "/metrics/job/c"))[0] == 202


def test_a_file_of_a_newer_version_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "groups"
    file.write_bytes(b"bellbuoy-pushgateway 2 00000000 0\n")
    with pytest.raises(PersistenceError, match="of version 2, this program reads up to 1"):
        load(file, now=0)
    assert file.exists()


async def test_a_disk_that_cannot_be_written_is_counted_and_pushes_go_on(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    async with start(persistence_file=str(folder / "groups"), persistence_interval_seconds=0.0) as gateway:
        folder.rmdir()
        await gateway.put("job/a", "m 1\n")
        for _ in range(100):
            if (
                await gateway.lines("persist_failures_total 0.0") + await gateway.lines("persist_failures_total 0")
                == []
            ):
                break
            await asyncio.sleep(0.05)
        assert await gateway.lines("persist_failures_total") != ["bellbuoy_pushgateway_persist_failures_total 0.0"]
        assert await gateway.lines("m{") == ['m{instance="",job="a"} 1']
        folder.mkdir()


label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,6}", fullmatch=True).filter(lambda name: name != "job")


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    st.dictionaries(label_names, texts, max_size=3),
)
def test_a_groups_path_means_that_group(job: str, labels: dict[str, str]) -> None:
    group = tuple(sorted({**labels, "job": job}.items()))
    assert parse_grouping(path_of(group).removeprefix("metrics/")) == group
