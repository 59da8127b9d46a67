"""Blocks that we write are read by Prometheus's own programs, and blocks that these write come back exactly."""

import asyncio
import contextlib
import json
import shutil
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from bellbuoy.promql import Engine
from bellbuoy.tsdb_tools.errors import ImportDataError
from bench.programs import PROMETHEUS
from tests.peers.programs import Program, fetch, free_port, peer, program, started, until
from tests.tsdb_tools import data
from tests.tsdb_tools.conftest import Folder, tsdb
from tests.tsdb_tools.plain import STALE_BITS

QUERIES = (
    "requests_total",
    'requests_total{job="node",instance=~"host-[1-5].*"}',
    '{Zone!=""}',
    "up == 1",
    "temperature",
    "sum(rate(requests_total[5m]))",
    "sum by (job) (increase(requests_total[1h]))",
    "irate(requests_total[2m])",
    "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[10m])))",
    "avg_over_time(temperature[30m])",
    "max_over_time(temperature[1h]) - min_over_time(temperature[1h])",
    "count_over_time(temperature[1h])",
    "changes(up[1h])",
    'count by (__name__) ({__name__!=""})',
    "topk(3, sum_over_time(temperature[1h]))",
    "quantile(0.5, temperature)",
    "temperature offset 2h",
    'absent(requests_total{job="none"})',
    "requests_total / on (instance) group_left up",
    "stddev_over_time(temperature[1h])",
    "last_over_time(requests_total[3h])",
    "timestamp(up)",
)


@pytest.fixture(scope="module")
def blocks(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blocks") / "out"
    tsdb("export", "--storage.path", folder.path, "--format", "prometheus", "--out", out)
    return out


def metas(blocks: Path) -> list[dict[str, Any]]:
    """What each block says of itself."""
    return [json.loads((one / "meta.json").read_text()) for one in blocks.iterdir()]


async def promtool(*words: str | Path) -> str:
    """What promtool says; it must be content."""
    command = [program("promtool"), *map(str, words)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


def test_blocks_are_two_hours_each_and_come_back_as_they_were(folder: Folder, blocks: Path, tmp_path: Path) -> None:
    assert all(one["minTime"] // 7_200_000 == (one["maxTime"] - 1) // 7_200_000 for one in metas(blocks))
    assert sum(one["stats"]["numSamples"] for one in metas(blocks)) == sum(map(len, folder.samples.values()))
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", blocks)
    assert data.read(tmp_path / "data") == folder.samples


def test_an_import_that_is_done_again_changes_nothing(folder: Folder, blocks: Path, tmp_path: Path) -> None:
    first = min(blocks.iterdir())
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", first)
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", blocks)
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", blocks)
    assert data.read(tmp_path / "data") == folder.samples


def test_what_is_exported_can_be_narrowed(folder: Folder, tmp_path: Path) -> None:
    middle = (folder.start + folder.end) // 2
    tsdb(
        *("export", "--storage.path", folder.path, "--format", "prometheus", "--out", tmp_path / "out"),
        *("--match", 'up{job="node"}', "--match", '{__name__=~"up|temperature",instance=~"host-[12]:.*"}'),
        *("--start", f"{middle / 1000:.3f}", "--end", f"{(middle + 600_000) / 1000:.3f}"),
    )
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", tmp_path / "out")

    def wanted(labels: dict[str, str]) -> bool:
        return (labels["__name__"] == "up" and labels["job"] == "node") or (
            labels["__name__"] in ("up", "temperature") and labels["instance"] in ("host-1:9100", "host-2:9100")
        )

    want = {
        labels: [one for one in found if middle <= one[0] <= middle + 600_000]
        for labels, found in folder.samples.items()
        if wanted(dict(labels))
    }
    assert data.read(tmp_path / "data") == {labels: found for labels, found in want.items() if found}


@pytest.mark.peers
async def test_promtool_lists_and_analyzes_them(folder: Folder, blocks: Path) -> None:
    listed = (await promtool("tsdb", "list", blocks)).splitlines()[1:]
    assert sorted(line.split()[0] for line in listed) == sorted(one["ulid"] for one in metas(blocks))
    for one in metas(blocks):
        said = await promtool("tsdb", "analyze", blocks, one["ulid"])
        assert f"Series: {one['stats']['numSeries']}\n" in said


PEERS = ["Debian's", *(["the newest"] if PROMETHEUS.is_built() else [])]


@dataclass(frozen=True)
class Peer:
    """A Prometheus, and how many digits of its values are ours; 0: all."""

    program: Program
    digits: int


@pytest.fixture(params=PEERS)
async def peer_on_blocks(request: pytest.FixtureRequest, blocks: Path, tmp_path: Path) -> AsyncIterator[Peer]:
    shutil.copytree(blocks, tmp_path / "theirs")
    (tmp_path / "none.yml").write_text("{}")
    # Sums of version 2 differ from those of version 3 in their last digits.
    path, digits = (program("prometheus"), 12) if request.param == "Debian's" else (str(PROMETHEUS.path()), 0)
    port = free_port()
    command = [
        path, f"--web.listen-address=127.0.0.1:{port}", f"--config.file={tmp_path / 'none.yml'}",
        f"--storage.tsdb.path={tmp_path / 'theirs'}", "--storage.tsdb.retention.time=10y",
    ]  # fmt: skip
    async with started(command, name="prometheus", port=port, folder=tmp_path, ready="/-/ready") as it:
        yield Peer(it, digits)


def parsed(answer: dict[str, Any], *, digits: int) -> list[tuple[Any, Any]]:
    """The series, sorted, with their times and values; values as they are written if `digits` is 0."""

    def value(time: float, text: str) -> tuple[float, str]:
        return time, f"{float(text):.{digits}g}" if digits else text

    return sorted(
        (sorted(one["metric"].items()), [value(*pair) for pair in one.get("values") or [one["value"]]])
        for one in answer["result"]
    )


@pytest.mark.peers
async def test_a_prometheus_that_has_them_answers_as_our_engine(folder: Folder, peer_on_blocks: Peer) -> None:
    # Version 2 counts a sample at a window's first edge, and extrapolates otherwise where a counter begins: so between
    # two samples, and an hour after the first.
    at, start = folder.end - 600_007, folder.start // 1000 * 1000 + 3_700_407
    digits, base = peer_on_blocks.digits, f"{peer_on_blocks.program.url}/api/v1"
    differing = []
    with data.opened(folder.path) as storage:
        engine = Engine(storage)
        for query in QUERIES:
            theirs = [
                json.loads(await fetch(f"{base}/{asked}"))["data"]
                for asked in (
                    f"query?query={quote(query)}&time={at / 1000}",
                    f"query_range?query={quote(query)}&start={start / 1000}&end={at / 1000}&step=307",
                )
            ]
            ours = [
                json.loads(one.to_json())
                for one in (engine.instant(query, at), engine.range(query, start, at, 307_000))
            ]
            there = [parsed(one, digits=digits) for one in theirs]
            if not there[1] or there != [parsed(one, digits=digits) for one in ours]:
                differing.append(query)
    assert differing == []


@pytest.mark.peers
async def test_what_a_prometheus_scraped_comes_back_exactly(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "targets.json").write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"]}]))
    itself = {"job_name": "itself", "file_sd_configs": [{"files": [str(tmp_path / "targets.json")]}]}
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [itself]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [
        program("prometheus"), f"--web.listen-address=127.0.0.1:{port}", "--web.enable-admin-api",
        f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'theirs'}",
    ]  # fmt: skip
    async with started(command, name="prometheus", port=port, folder=tmp_path, ready="/-/ready") as it:

        async def count() -> bool:
            answer = json.loads(await fetch(f"{it.url}/api/v1/query?query=count_over_time(up[5m])"))
            return any(float(one["value"][1]) >= 15 for one in answer["data"]["result"])

        await until("15 scrapes", count)
        # Its series end with it.
        (tmp_path / "targets.json").write_text("[]")

        async def ended() -> bool:
            return not json.loads(await fetch(f"{it.url}/api/v1/query?query=up"))["data"]["result"]

        await until("the series end", ended)
        name = (await post(f"{it.url}/api/v1/admin/tsdb/snapshot"))["data"]["name"]
        everything = quote('{__name__!=""}[1h]')
        matrix = json.loads(await fetch(f"{it.url}/api/v1/query?query={everything}"))
    tsdb("import", "--storage.path", tmp_path / "ours", "prometheus", tmp_path / "theirs" / "snapshots" / name)
    ours = data.read(tmp_path / "ours")
    want = {
        tuple(sorted(one["metric"].items())): [(round(t * 1000), float(v)) for t, v in one["values"]]
        for one in matrix["data"]["result"]
    }
    assert len(want) > 300
    found = {
        labels: [(t, struct.unpack(">d", v.to_bytes(8, "big"))[0]) for t, v in samples]
        for labels, samples in data.without_stale(ours).items()
    }
    # A NaN is not equal to itself; as text it is.
    assert {k: repr(v) for k, v in found.items()} == {k: repr(v) for k, v in want.items()}
    assert all(samples[-1][1] == STALE_BITS for samples in ours.values())


@pytest.mark.peers
async def test_what_was_deleted_in_a_prometheus_is_left_out(folder: Folder, blocks: Path, tmp_path: Path) -> None:
    shutil.copytree(blocks, tmp_path / "theirs")
    (tmp_path / "none.yml").write_text("{}")
    files = [f"--config.file={tmp_path / 'none.yml'}", f"--storage.tsdb.path={tmp_path / 'theirs'}"]
    middle = (folder.start + folder.end) // 2
    async with peer("prometheus", *files, "--web.enable-admin-api", folder=tmp_path) as it:
        selector = quote('up{job="node"}')
        times = f"start={folder.start / 1000}&end={middle / 1000}"
        await post(f"{it.url}/api/v1/admin/tsdb/delete_series?match[]={selector}&{times}")
    tsdb("import", "--storage.path", tmp_path / "data", "prometheus", tmp_path / "theirs")
    want = {}
    for labels, samples in folder.samples.items():
        gone = dict(labels)["__name__"] == "up" and dict(labels)["job"] == "node"
        want[labels] = [one for one in samples if not gone or one[0] > middle]
    assert data.read(tmp_path / "data") == {labels: samples for labels, samples in want.items() if samples}


async def post(url: str) -> Any:
    """What a POST answers, if anything."""
    async with aiohttp.ClientSession() as session, session.post(url) as response:
        assert response.status in (200, 204), await response.text()
        text = await response.text()
        return json.loads(text) if text else None


def one_block(blocks: Path, tmp_path: Path) -> Path:
    """A copy of a block, to be damaged."""
    return Path(shutil.copytree(min(blocks.iterdir()), tmp_path / "in" / "block"))


def flip(path: Path, at: int) -> None:
    """Another bit at a place; from the end if it is negative."""
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def refused(tmp_path: Path) -> str:
    """Why the blocks cannot be imported."""
    with pytest.raises(ImportDataError) as e:
        tsdb("import", "--storage.path", tmp_path / "data", "prometheus", tmp_path / "in")
    return str(e.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("file", "at", "reason"),
    [
        ("chunks/000001", 0, "at offset 0: it does not begin as a file of chunks of version 1"),
        ("chunks/000001", 20, "at offset 8: the chunk's checksum does not fit"),
        ("index", 0, "at offset 0: it does not begin as an index"),
        ("index", 20, "at offset 5: the checksum does not fit"),
        ("index", -10, "the checksum does not fit"),
        ("tombstones", 0, "at offset 0: it does not begin as a tombstones file of version 1"),
        ("tombstones", -1, "at offset 5: the checksum does not fit"),
    ],
)
def test_damage_is_said_with_file_offset_and_cure(
    blocks: Path, tmp_path: Path, file: str, at: int, reason: str
) -> None:
    flip(one_block(blocks, tmp_path) / file, at)
    said = refused(tmp_path)
    assert said.startswith(f"cannot import in/block/{file}: ")
    assert reason in said
    assert said.endswith("copy the block anew, or take it out of the folder to import the others")


def test_a_byte_that_is_changed_anywhere_is_noticed_and_imports_nothing_wrong(
    folder: Folder, blocks: Path, tmp_path: Path
) -> None:
    block = one_block(blocks, tmp_path)
    for number, name in enumerate(("index", "chunks/000001") * 10):
        whole = (block / name).read_bytes()
        flip(block / name, number * 7919 % len(whole))
        # A series that is passed over, for want of its mark, would be the one thing that no checksum tells.
        with contextlib.suppress(ImportDataError):
            tsdb("import", "--storage.path", tmp_path / f"data-{number}", "prometheus", tmp_path / "in")
        for labels, samples in data.read(tmp_path / f"data-{number}").items():
            assert set(samples) <= set(folder.samples[labels])
        (block / name).write_bytes(whole)


def test_files_that_are_cut_off_are_refused(blocks: Path, tmp_path: Path) -> None:
    block = one_block(blocks, tmp_path)
    for name in ("index", "chunks/000001", "tombstones", "meta.json"):
        whole = (block / name).read_bytes()
        for length in (0, 3, len(whole) // 2, len(whole) - 1):
            (block / name).write_bytes(whole[:length])
            assert refused(tmp_path).startswith(f"cannot import in/block/{name}: "), (name, length)
        (block / name).write_bytes(whole)


def test_a_folder_without_blocks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert refused(tmp_path).startswith("cannot import in: no folder in it has a meta.json; name one with blocks")
    assert not (tmp_path / "data").exists()
