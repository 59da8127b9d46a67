"""`down` leaves the machine as it was, also when the cluster was killed."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.local import binaries, cgroups, paths
from deploy.local import cluster as local
from deploy.local.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "test-down"
# What an ordinary kubelet, containerd or CNI plugin would write to the machine.
PLACES = (
    "/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/etc/cni/net.d", "/etc/kubelet.json",
    "/tmp/hostpath_pv", "/run/containerd", "/run/bellbuoy", "/usr/libexec/kubernetes",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """All that a cluster could leave behind."""

    links: frozenset[str]
    routes: frozenset[str]
    mounts: frozenset[str]
    groups: frozenset[str]
    places: frozenset[str]
    forwarding: str

    @classmethod
    def now(cls) -> "Machine":
        """Without what other clusters of this machine come and go with."""
        others = [c.addresses for c in local.existing() if c.name != NAME and c.nodes]
        prefixes = tuple(name for a in others for name in (a.bridge, a.link(0)[:-1], a.cgroup(0)[:-1]))
        routes = run("ip", "route").splitlines()
        groups = {path.name for hierarchy in cgroups.hierarchies() for path in hierarchy.iterdir() if path.is_dir()}
        return cls(
            links=frozenset(p.name for p in Path("/sys/class/net").iterdir() if not p.name.startswith(prefixes)),
            routes=frozenset(r for r in routes if not any(a.block[:-6] in r for a in others)),
            mounts=frozenset(Path("/proc/self/mounts").read_text().splitlines()),
            groups=frozenset(name for name in groups if not name.startswith(prefixes)),
            places=frozenset(place for place in PLACES if Path(place).exists()),
            forwarding=Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        )


def processes() -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != "self":
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"/{NAME}/" in command:
                found.append(command)
    return found


@pytest.fixture
def before() -> "Iterator[Machine]":
    binaries.build_all()
    local.down(NAME)
    yield Machine.now()
    local.down(NAME)


def test_nothing_is_left_after_down(before: Machine) -> None:
    started = local.up(name=NAME, nodes=2)
    number = started.number
    assert Machine.now() != before
    assert processes()
    assert local.down(NAME)
    assert Machine.now() == before
    assert not processes()
    assert not started.folder.exists()
    again = local.up(name=NAME, nodes=1)
    assert again.number == number


def test_nothing_is_left_after_a_node_was_killed(before: Machine) -> None:
    started = local.up(name=NAME, nodes=1)
    started.processes["node-0.unshare"].kill()
    assert not local.get(NAME).running
    assert local.down(NAME)
    assert Machine.now() == before
    assert not processes()


@pytest.mark.parametrize("after_seconds", [0.3, 1.5, 4.0])
def test_nothing_is_left_after_up_was_killed_halfway(before: Machine, after_seconds: float) -> None:
    command = [sys.executable, "-m", "deploy.local", "up", f"--name={NAME}"]
    with subprocess.Popen(command, cwd=paths.CHECKOUT, stderr=subprocess.DEVNULL) as starting:
        deadline = time.monotonic() + 20
        while local.find(NAME) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after_seconds)
        starting.kill()
    assert local.down(NAME)
    assert Machine.now() == before
    assert not processes()


def test_two_clusters_live_side_by_side(before: Machine) -> None:
    other = f"{NAME}-other"
    try:
        first = local.up(name=NAME, nodes=1)
        second = local.up(name=other, nodes=1)
        assert first.number != second.number
        for each in (first, second):
            assert each.kubectl("get", "nodes", "--output=name") == "node/node-0\n"
    finally:
        local.down(other)
        local.down(NAME)
    assert Machine.now() == before
