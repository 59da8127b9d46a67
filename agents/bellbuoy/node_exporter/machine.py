"""Where a machine's files are, and how they are read.

In a container the host's /proc, /sys and root are mounted elsewhere (`--path.procfs=/host/proc`). Two things there
follow the reader and not the mount: `/proc/net` and `/proc/mounts` are links to the reading process, and would show the
container. `Machine.net` and `Machine.mounts` read those of process 1, which are the host's.
"""

import os
from dataclasses import dataclass

# A file of /proc or /sys is made up as it is read; most fit into one read, and the rest is read in steps of this.
_READ_BYTES = 65536


class NoData(Exception):
    """This machine does not have what the collector reads: its success is 0, and nobody needs to be told."""


def read(path: str) -> str:
    """The text of a small file, by two system calls fewer than `open()` makes; bytes that are no UTF-8 are replaced."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _READ_BYTES)
        if data:
            # A read of /proc may end at a page; only an empty one says that this was all.
            while more := os.read(fd, _READ_BYTES):
                data += more
    finally:
        os.close(fd)
    return data.decode("utf-8", "replace")


def read_attribute(path: str) -> str | None:
    """The stripped text of a one-value file of /sys, or None where the kernel has none for this device.

    Drivers answer a read they have no value for with an error (EINVAL, EOPNOTSUPP, ENODEV and others): each means none.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).decode("utf-8", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Machine:
    """The roots of one machine's files."""

    procfs: str = "/proc"
    sysfs: str = "/sys"
    rootfs: str = "/"
    udev: str = "/run/udev/data"

    def proc(self, name: str) -> str:
        """The text of a file of /proc that is the same for every reader."""
        return read(f"{self.procfs}/{name}")

    def net(self, name: str) -> str:
        """The text of a file of the machine's own `/proc/net`, whichever network namespace reads it."""
        try:
            return read(f"{self.procfs}/1/net/{name}")
        except PermissionError:
            # /proc mounted with hidepid: the reader's own view is all there is.
            return read(f"{self.procfs}/net/{name}")

    def mounts(self) -> str:
        """The machine's mounts, as mountinfo lines."""
        try:
            return read(f"{self.procfs}/1/mountinfo")
        except (FileNotFoundError, PermissionError):
            return read(f"{self.procfs}/self/mountinfo")

    def sys(self, name: str) -> str:
        """The path of a file of /sys."""
        return f"{self.sysfs}/{name}"

    def root(self, path: str) -> str:
        """Where the machine's `path` is for us."""
        return path if self.rootfs == "/" else self.rootfs.rstrip("/") + path

    def strip_root(self, path: str) -> str:
        """The machine's own name of a path that we see below `rootfs`."""
        if self.rootfs == "/" or not (path + "/").startswith(self.rootfs.rstrip("/") + "/"):
            return path
        return path[len(self.rootfs.rstrip("/")) :] or "/"
