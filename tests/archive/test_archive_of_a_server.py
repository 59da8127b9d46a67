"""A server archives in the background: it says when that fails, tries again, and stops when it is told."""

import asyncio
import logging
import time
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from bellbuoy import cli, server
from bellbuoy.archive import ArchiveOptions
from bellbuoy.server.archiving import ArchiveTask
from tests.archive.conftest import Bucket, Source, read_archive


class Running:
    """A task, and what its metrics say."""

    def __init__(self, source: Source, url: str) -> None:
        self.registry = CollectorRegistry()
        self.failures: list[BaseException] = []
        options = ArchiveOptions(url, interval_seconds=0.02, retry_seconds=0.01, retry_max_seconds=0.02)
        self.task = ArchiveTask(
            options, source.storage, source.folder, registry=self.registry, failed=self.failures.append
        )

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(f"bellbuoy_archive_{name}") or 0.0

    async def until(self, name: str, least: float) -> None:
        deadline = time.monotonic() + 20
        while self.value(name) < least:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_it_writes_what_is_finished_and_counts_it(source: Source, tmp_path: Path) -> None:
    source.rows(0, 3)
    running = Running(source, f"file://{tmp_path / 'out'}")
    await running.until("blocks_total", 1)
    source.rows(3, 7)
    await running.until("blocks_total", 3)
    await running.until("last_success_timestamp_seconds", 1)
    await running.task.stop()
    assert read_archive(tmp_path / "out") == source.finished()
    assert running.value("bytes_total") == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert running.value("failures_total") == 0
    assert running.failures == []


async def test_it_tries_again_and_logs_changes_of_state_only(
    source: Source, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source.rows(0, 3)
    (tmp_path / "out").write_text("in the way")
    running = Running(source, f"file://{tmp_path / 'out'}")
    await running.until("failures_total", 4)
    assert running.value("last_success_timestamp_seconds") == 0
    (tmp_path / "out").unlink()
    await running.until("last_success_timestamp_seconds", 1)
    await running.task.stop()
    said = [record.getMessage() for record in caplog.records if record.name == "bellbuoy.server.archiving"]
    assert said == [
        "the archive is on", "the archive cannot be written", "the archive is written again", "blocks are archived",
    ]  # fmt: skip


async def test_it_stops_in_the_middle(source: Source, tmp_path: Path) -> None:
    source.rows(0, 40)
    running = Running(source, f"file://{tmp_path / 'out'}")
    await running.until("blocks_total", 1)
    await running.task.stop()
    assert running.failures == []
    assert len(list((tmp_path / "out").iterdir())) < 19
    assert not (source.folder / "archive.part").exists()


async def test_a_whole_server_archives_to_a_bucket_and_shows_no_keys(
    source: Source, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source.rows(0, 5)
    source.storage.close()
    (tmp_path / "prometheus.yml").write_text("{}")
    words = [
        *(
            "--web.listen-address",
            "127.0.0.1:0",
            "--config.file",
            tmp_path / "prometheus.yml",
            "--storage.path",
            source.folder,
        ),
        *("--storage.retention", "100y", "--storage.archive.url", f"s3://{bucket.name}/server"),
        *("--storage.archive.endpoint", bucket.endpoint, "--storage.archive.region", "us-east-1"),
        *("--storage.archive.credentials-file", bucket.credentials(tmp_path / "keys")),
    ]
    options = server.options(cli.parser("server").parse_args(["server", *map(str, words)]))
    stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(server.run(options, stop, listening=bound.set_result))
    said = ""
    try:
        async with aiohttp.ClientSession() as session:
            deadline = time.monotonic() + 20
            while "bellbuoy_archive_blocks_total 2.0" not in said:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
                async with session.get(f"http://{await bound}/metrics") as response:
                    said = await response.text()
            for page in ("flags", "config", "runtimeinfo"):
                async with session.get(f"http://{await bound}/api/v1/status/{page}") as response:
                    said += await response.text()
    finally:
        stop.set()
        await task
    assert f"s3://{bucket.name}/server" in said
    for secret in (bucket.key, bucket.secret):
        assert secret not in said + caplog.text
