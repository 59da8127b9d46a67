"""A node's cgroups: one folder in each v1 hierarchy, under which the kubelet makes those of its pods."""

import os
import time
from pathlib import Path

from deploy.local.machine import CGROUPS
from deploy.local.shell import LocalClusterError


def hierarchies() -> list[Path]:
    """The mounted hierarchies; links such as `cpu,cpuacct` left out."""
    return sorted(folder for folder in CGROUPS.iterdir() if folder.is_dir() and not folder.is_symlink())


def create(name: str) -> None:
    """The folder in every hierarchy. A new cpuset is empty, and a process cannot enter it, until it is filled."""
    for hierarchy in hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        (CGROUPS / "cpuset" / name / file).write_text((CGROUPS / "cpuset" / file).read_text())


def existing(name: str) -> list[Path]:
    return [hierarchy / name for hierarchy in hierarchies() if (hierarchy / name).is_dir()]


def remove(name: str, *, seconds: float = 20) -> None:
    """The folders and all below. Killed processes hold theirs until the kernel has buried them: hence the waiting."""
    deadline = time.monotonic() + seconds
    while left := existing(name):
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise LocalClusterError(f"cannot remove the cgroup {folder}: {error.strerror}") from error
        time.sleep(0.05)
