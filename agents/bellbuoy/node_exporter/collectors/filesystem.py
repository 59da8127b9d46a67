"""File systems: what statvfs says of each mount of the machine, without ever waiting for a dead one.

statvfs on an NFS server that is gone blocks in the kernel and cannot be interrupted. So it is asked for by worker
threads. A mount that does not answer within the timeout is stuck: the scrape goes on without it, it is not asked again
until the call returns, and a new worker takes the place of the one that hangs. The threads are daemons: the process
ends even then.
"""

import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bellbuoy.exposition import GAUGE, Page, labels
from bellbuoy.logs import fields
from bellbuoy.node_exporter.machine import Machine
from bellbuoy.node_exporter.options import Options

log = logging.getLogger(__name__)
STUCK = "mountpoint timeout"


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    device: str
    mount_point: str
    fs_type: str
    major: str
    minor: str
    readonly: bool


def parse_mounts(text: str) -> list[Mount]:
    """The mounts of a mountinfo text: `id parent major:minor root point options … - type source super-options`."""
    out = []
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not dash or len(left) < 6 or len(right) < 3:
            continue
        major, _, minor = left[2].partition(":")
        said = {*left[5].split(","), *right[2].split(",")}
        out.append(
            Mount(_unescape(right[1]), _unescape(left[4]), right[0], major, minor, bool(said & {"ro", "emergency_ro"}))
        )
    return out


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


@dataclass
class _Call:
    path: str
    done: threading.Event
    result: os.statvfs_result | None = None
    error: str = ""
    started: bool = False
    abandoned: bool = False


@dataclass(frozen=True)
class Answer:
    """What statvfs said of a path, or why it said nothing."""

    result: os.statvfs_result | None
    error: str = ""


class Workers:
    """Threads that call statvfs, so that no one else has to wait for it longer than the timeout."""

    def __init__(self, count: int, *, timeout_seconds: float, statvfs: Callable[[str], os.statvfs_result]) -> None:
        self._timeout_seconds = timeout_seconds
        self._statvfs = statvfs
        self._count = count
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        self._stuck: dict[str, _Call] = {}

    def ask(self, paths: Iterable[str]) -> dict[str, Answer]:
        """What statvfs says of each path, within one timeout for all of them together."""
        calls: dict[str, _Call] = {}
        with self._lock:
            # A worker that hangs does not count: should it ever come back it is one too many, and ends.
            for _ in range(self._count + len(self._stuck) - self._alive):
                self._alive += 1
                threading.Thread(target=self._work, name="statvfs", daemon=True).start()
            for path in paths:
                if path not in self._stuck and path not in calls:
                    calls[path] = _Call(path, threading.Event())
        for call in calls.values():
            self._calls.put(call)
        deadline = time.monotonic() + self._timeout_seconds
        for call in calls.values():
            call.done.wait(max(0.0, deadline - time.monotonic()))
        out: dict[str, Answer] = {}
        with self._lock:
            for path, call in calls.items():
                if call.done.is_set():
                    out[path] = Answer(call.result, call.error)
                    continue
                call.abandoned = True
                # One that was still behind others in the queue is not to blame: it is asked again at the next scrape.
                if call.started:
                    self._stuck[path] = call
                    log.warning("mount does not answer, it is left out until it does", extra=fields(path=path))
        return {path: out.get(path, Answer(None, STUCK)) for path in paths}

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            with self._lock:
                if call.abandoned:
                    continue
                call.started = True
            try:
                call.result = self._statvfs(call.path)
            except OSError as e:
                # As the reference prints it, whose label values dashboards may know.
                call.error = os.strerror(e.errno or errno.EIO).lower()
            if not self._finish(call):
                return

    def _finish(self, call: _Call) -> bool:
        """Note that a call came back; whether its worker is still needed."""
        with self._lock:
            call.done.set()
            if call.abandoned:
                del self._stuck[call.path]
                log.info("mount answers again", extra=fields(path=call.path))
            needed = self._alive <= self._count + len(self._stuck)
            self._alive -= not needed
            return needed


class Filesystems:
    """`node_filesystem_*`."""

    def __init__(
        self, machine: Machine, options: Options, *, statvfs: Callable[[str], os.statvfs_result] = os.statvfs
    ) -> None:
        self._machine = machine
        self._options = options
        self._workers = Workers(options.stat_workers, timeout_seconds=options.mount_timeout_seconds, statvfs=statvfs)

    def mounts(self) -> list[Mount]:
        """The mounts that are read: named as the machine names them, each device and place once, as a mount that is
        covered by another of the same source would be the same series."""
        seen: dict[tuple[str, str, str], Mount] = {}
        for mount in parse_mounts(self._machine.mounts()):
            point = self._machine.strip_root(mount.mount_point)
            if self._options.mount_points.keeps(point) and self._options.fs_types.keeps(mount.fs_type):
                named = Mount(mount.device, point, mount.fs_type, mount.major, mount.minor, mount.readonly)
                seen.setdefault((mount.device, point, mount.fs_type), named)
        return list(seen.values())

    def __call__(self, page: Page) -> None:
        """Fill the page."""
        device_error = page.family(
            "node_filesystem_device_error",
            GAUGE,
            "Whether an error occurred while getting statistics for the given device.",
        )
        readonly = page.family("node_filesystem_readonly", GAUGE, "Filesystem read-only status.")
        size = page.family("node_filesystem_size_bytes", GAUGE, "Filesystem size in bytes.")
        free = page.family("node_filesystem_free_bytes", GAUGE, "Filesystem free space in bytes.")
        avail = page.family(
            "node_filesystem_avail_bytes", GAUGE, "Filesystem space available to non-root users in bytes."
        )
        files = page.family("node_filesystem_files", GAUGE, "Filesystem total file nodes.")
        files_free = page.family("node_filesystem_files_free", GAUGE, "Filesystem total free file nodes.")
        mount_info = page.family("node_filesystem_mount_info", GAUGE, "Filesystem mount information.")
        purgeable = page.family(
            "node_filesystem_purgeable_bytes",
            GAUGE,
            "Filesystem space available including purgeable space (MacOS specific).",
        )
        mounts = self.mounts()
        paths = [self._machine.root(mount.mount_point) for mount in mounts]
        answers = self._workers.ask(paths)
        for mount, path in zip(mounts, paths, strict=True):
            answer = answers[path]
            text = labels(
                device=mount.device, mountpoint=mount.mount_point, fstype=mount.fs_type, device_error=answer.error
            )
            device_error.add(int(answer.result is None), text)
            readonly.add(int(mount.readonly), text)
            found = answer.result
            if found is None:
                continue
            # In units of the fragment, as df counts: it differs from the block on some FUSE file systems.
            unit = found.f_frsize or found.f_bsize
            size.add(found.f_blocks * unit, text)
            free.add(found.f_bfree * unit, text)
            avail.add(found.f_bavail * unit, text)
            files.add(found.f_files, text)
            files_free.add(found.f_ffree, text)
            purgeable.add(0, text)
            mount_info.add(
                1, labels(device=mount.device, major=mount.major, minor=mount.minor, mountpoint=mount.mount_point)
            )
