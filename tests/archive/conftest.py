"""Storages whose blocks are finished, archives as others read them, and a bucket of a server that speaks S3."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pyarrow import fs

from bellbuoy.archive import ArchiveOptions, Archiver, Done
from bellbuoy.archive.progress import Progress
from bellbuoy.tsdb import LabelSets, Storage

HOUR = 3_600_000
START = 1_700_006_400_000
Samples = Counter[tuple[str, str, int]]
"""How often each sample is there: metric, label, time."""


class Source:
    """A storage that is filled hour by hour."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = Storage(str(folder), retention_seconds=1e11)
        self.written: Samples = Counter()
        self.hours = 0

    def rows(self, first: int, last: int) -> None:
        """A row each ten minutes of these hours; then what is settled becomes blocks."""
        self.hours = last
        writer = self.storage.writer("rules")
        labels = LabelSets.from_dicts([{"__name__": f"metric_{i}", "of": str(i)} for i in range(4)])
        for at in range(START + first * HOUR, START + last * HOUR, 600_000):
            writer.append(at, labels, np.arange(4.0) + at % 1000)
            self.written |= {(f"metric_{i}", str(i), at): 1 for i in range(4)}
        self.storage.compact()

    def late(self, *hours: float) -> None:
        """Samples of a series of its own and of one that has rows, in a block of late ones; and a row, since blocks are
        made when time goes on."""
        for hour in hours:
            at = START + round(hour * HOUR)
            for name, of in (("late", "x"), ("metric_0", "0")):
                labels = LabelSets.from_dicts([{"__name__": name, "of": of}])
                # The value says nothing: where there is a sample at the time, this one does not count.
                self.storage.append(labels, np.array([at]), np.array([-1.0]))
                self.written[name, of, at] = 1
        self.hours = max(self.hours + 2, round(max(hours)) + 2)
        self.rows(self.hours, self.hours + 1)
        self.storage.compact(everything=True)

    def finished(self) -> Samples:
        """What lies in blocks: all that archives have."""
        blocks = self.storage.blocks()
        end = max(one["end"] for one in blocks)
        return Counter({one: count for one, count in self.written.items() if one[2] < end})


def archive(source: Source, url: str) -> Done:
    """One pass."""
    return Archiver(ArchiveOptions(url), source.folder).run(source.storage, Progress("archive"))


def read_archive(files: Path | str, **options: str) -> Samples:
    """What Polars finds in all files of an archive together."""
    frame = pl.scan_parquet(
        f"{files}/*.parquet", missing_columns="insert", extra_columns="ignore", storage_options=options or None
    ).collect()
    rows = frame.select("__name__", "of", pl.col("timestamp").dt.epoch("ms")).rows()
    return Counter((name, of, at) for name, of, at in rows)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    out = Source(tmp_path / "data")
    yield out
    out.storage.close()


@dataclass(frozen=True)
class Bucket:
    """A bucket, and who may write to it."""

    endpoint: str
    name: str
    key: str
    secret: str

    def credentials(self, path: Path) -> Path:
        """A file of its keys."""
        path.write_text(f"[default]\naws_access_key_id = {self.key}\naws_secret_access_key = {self.secret}\n")
        return path


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """Of moto's server, which is what boto3's users test against."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        out = Bucket(f"http://127.0.0.1:{port}", "metrics", "AKIAEXAMPLE", "secret-of-the-bucket")
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        files = fs.S3FileSystem(
            access_key=out.key,
            secret_key=out.secret,
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        files.create_dir(out.name)
        yield out
    finally:
        server.kill()
        server.wait()
        log.close()
