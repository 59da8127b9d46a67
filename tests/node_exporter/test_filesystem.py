"""A mount that does not answer never holds up a scrape, and comes back when it does."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bellbuoy.exposition import Page, parse
from bellbuoy.node_exporter.collectors.filesystem import Filesystems, Mount, parse_mounts
from bellbuoy.node_exporter.machine import Machine
from bellbuoy.node_exporter.options import Options

MOUNTINFO = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /data\\040one rw,nosuid shared:2 master:1 - nfs4 server:/export rw,hard
24 22 0:22 / /ro rw - ext4 /dev/sdb1 rw,emergency_ro
25 22 0:23 / /dead rw - nfs server:/dead rw
26 22 0:24 / /proc rw - proc proc rw
27 22 0:25 / /dead rw - nfs server:/dead rw
a line of another shape
"""


class Disk:
    """statvfs for paths; those in `hanging` wait until they are let go."""

    def __init__(self) -> None:
        self.hanging: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()

    def statvfs(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        if path in self.hanging:
            self.hanging[path].wait()
        if path in self.broken:
            raise PermissionError(13, "Permission denied")
        return os.statvfs_result((4096, 1024, 100, 50, 40, 10, 5, 5, 0, 255))


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    for event in made.hanging.values():
        event.set()


def collector(tmp_path: Path, disk: Disk, *, timeout: float = 0.3, workers: int = 2) -> Filesystems:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mountinfo").write_text(MOUNTINFO)
    options = Options(mount_timeout_seconds=timeout, stat_workers=workers)
    return Filesystems(Machine(procfs=str(tmp_path)), options, statvfs=disk.statvfs)


def errors(collect: Filesystems) -> dict[str, str]:
    page = Page()
    collect(page)
    samples = parse(page.text())["node_filesystem_device_error"].samples
    return {dict(s.labels)["mountpoint"]: dict(s.labels)["device_error"] for s in samples}


def test_mountinfo_is_read() -> None:
    mounts = parse_mounts(MOUNTINFO)
    assert len(mounts) == 6
    assert mounts[1] == Mount("server:/export", "/data one", "nfs4", "0", "21", readonly=False)
    assert mounts[2].readonly


def test_sizes_are_in_fragments_and_each_mount_is_shown_once(tmp_path: Path, disk: Disk) -> None:
    page = Page()
    collector(tmp_path, disk)(page)
    families = parse(page.text())
    sizes = {dict(s.labels)["mountpoint"]: s.value for s in families["node_filesystem_size_bytes"].samples}
    assert sizes == dict.fromkeys(["/", "/data one", "/ro", "/dead"], 1024 * 100.0)
    ro = {dict(s.labels)["mountpoint"]: s.value for s in families["node_filesystem_readonly"].samples}
    assert ro == {"/": 0, "/data one": 0, "/ro": 1, "/dead": 0}


def test_a_dead_mount_is_left_out_and_not_asked_again_until_it_answers(tmp_path: Path, disk: Disk) -> None:
    disk.hanging["/dead"] = threading.Event()
    collect = collector(tmp_path, disk)
    start = time.monotonic()
    assert errors(collect) == {"/": "", "/data one": "", "/ro": "", "/dead": "mountpoint timeout"}
    assert time.monotonic() - start < 2
    start = time.monotonic()
    assert errors(collect)["/dead"] == "mountpoint timeout"
    assert time.monotonic() - start < 0.25, "the second scrape does not wait for it"
    assert disk.asked.count("/dead") == 1
    disk.hanging.pop("/dead").set()
    deadline = time.monotonic() + 10
    while errors(collect)["/dead"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_more_dead_mounts_than_workers_leave_the_others_alone(tmp_path: Path, disk: Disk) -> None:
    for path in ("/dead", "/ro"):
        disk.hanging[path] = threading.Event()
    collect = collector(tmp_path, disk, workers=1)
    errors(collect)
    errors(collect)
    found = errors(collect)
    assert (found["/"], found["/data one"]) == ("", "")
    assert (found["/dead"], found["/ro"]) == ("mountpoint timeout", "mountpoint timeout")


def test_an_error_is_a_label(tmp_path: Path, disk: Disk) -> None:
    disk.broken.add("/ro")
    assert errors(collector(tmp_path, disk))["/ro"] == "permission denied"
