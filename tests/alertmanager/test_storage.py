"""State on disk: durable when promised, whole after a crash, set aside when damaged."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellbuoy.alertmanager import Options
from bellbuoy.alertmanager.storage import StateError, decode, encode
from tests.alertmanager.conftest import START, LoopClock, Start, running

CONFIG = "route: {receiver: r, group_wait: 1s}\nreceivers: [{name: r}]\n"
REAL_TIME = True


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_what_is_written_is_read(content: Any) -> None:
    assert decode(b"s", encode(b"s", content)) == content


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_no_damage_goes_unseen(body: bytes, at: int, change: int) -> None:
    data = bytearray(encode(b"s", body.hex()))
    data[at % len(data)] ^= change
    # The two reserved bytes say nothing yet.
    if at % len(data) not in (6, 7):
        with pytest.raises(ValueError, match=r"\w"):
            decode(b"s", bytes(data))
    with pytest.raises(ValueError, match=r"\w"):
        decode(b"s", bytes(data[:-1]))


async def test_files_of_the_first_version_are_read(start: Start, tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "state-v1", tmp_path / "data")
    # The moment at which they were written.
    clock = LoopClock(start=START + 60 * 10**9)
    async with start(CONFIG, clock=clock, retention_seconds=1e9) as ours:
        (silence,) = await ours.get("/api/v2/silences")
        assert [one["name"] for one in silence["matchers"]] == ["alertname"]
        assert {one["labels"]["alertname"] for one in await ours.get("/api/v2/alerts")} == {"Quiet", "Slow"}
        (tally,) = await ours.get("/api/v1/bellbuoy/receivers")
        assert tally["notifications"] == 1


async def test_a_damaged_file_is_set_aside_and_the_rest_goes_on(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with start(CONFIG) as ours:
        await ours.silence(alertname="x")
        await ours.fire("y", ends_in=600)
    path = tmp_path / "data" / "silences"
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.ERROR):
        async with start(CONFIG) as ours:
            assert await ours.get("/api/v2/silences") == []
            assert len(await ours.get("/api/v2/alerts")) == 1
    assert "set aside" in caplog.text
    assert len(list(path.parent.glob("silences.corrupt-*"))) == 1


async def test_a_file_of_a_later_version_is_not_touched(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "data" / "nflog"
    path.parent.mkdir()
    data = bytearray(encode(b"n", {}))
    data[4] = 2
    path.write_bytes(data)
    with pytest.raises(StateError, match="run the later program"):
        async with start(CONFIG):
            pass
    assert path.read_bytes() == bytes(data)


async def test_two_cannot_have_one_folder(start: Start) -> None:
    async with start(CONFIG):
        with pytest.raises(StateError, match="another process holds it"):
            async with start(CONFIG):
                pass


async def test_a_full_disk_ends_the_part_with_a_word(start: Start, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot use folder"):
        async with running(
            Options(config_file=tmp_path / "x", storage_path=Path("/proc/nowhere"), listen="127.0.0.1:0")
        ):
            pass


PROGRAM = """
import asyncio, sys
from pathlib import Path
from bellbuoy.alertmanager import Options, run
options = Options(config_file=Path(sys.argv[1]), storage_path=Path(sys.argv[2]), listen="127.0.0.1:0")
asyncio.run(run(options, asyncio.Event(), listening=lambda address: print(address, flush=True)))
"""


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG)
    keys: set[str] = set()
    for turn in range(3):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, config, tmp_path / "data", stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        url = "http://" + (await child.stdout.readline()).decode().strip()

        async def add(session: aiohttp.ClientSession, n: int, url: str = url) -> None:
            silence = {
                "matchers": [{"name": "n", "value": str(n), "isRegex": False}],
                "startsAt": "2026-01-01T00:00:00Z",
                "endsAt": "2099-01-01T00:00:00Z",
                "createdBy": "test",
                "comment": "x" * 1000,
            }
            while True:
                async with session.post(f"{url}/api/v2/silences", json=silence) as response:
                    keys.add((await response.json())["silenceID"])

        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/api/v2/silences") as response:
                assert {one["id"] for one in await response.json()} >= keys, f"turn {turn}"
            adding = [asyncio.create_task(add(session, n)) for n in range(4)]
            await asyncio.sleep(0.7)
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()
            results = await asyncio.gather(*adding, return_exceptions=True)
            assert all(isinstance(one, aiohttp.ClientError) for one in results), results
    assert len(keys) > 10
