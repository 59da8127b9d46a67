"""The first process of a node: it makes the node's own view of the machine, starts the programs, keeps them running.

`cluster` starts it inside fresh mount, network, process, host name and IPC namespaces; when it ends, by a signal or by
an error, the kernel ends all that runs in them, which is how `down` works even after a crash. It runs alone and
single-threaded: a program that dies is started again after a second, and orphans are reaped, as an init must.

What the node may write, it finds in a place of its own: bind mounts into the cluster's folder for what is big (images,
volumes), and a layer in memory over /etc and /var for the rest, so that not even an empty folder is left behind.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from deploy.local import cgroups, components
from deploy.local.addresses import Addresses, node_name
from deploy.local.components import Component, Layout
from deploy.local.shell import LocalClusterError, last_lines, run, say, wait_for

# The kubelet insists on these settings, which are the whole machine's. It is shown plain files in their stead.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
# Where the controller manager makes volumes.
VOLUMES = Path("/tmp/hostpath_pv")
# How soon a dead program or a new volume is noticed. A volume's pod needs longer than this to be scheduled and started.
TURN_SECONDS = 0.2
# Under the node's folder -> where the node sees it.
OWN_FOLDERS = {
    "kubelet": "/var/lib/kubelet",
    "containerd": "/var/lib/containerd",
    "log": "/var/log/pods",
    "tmp": "/tmp",
}


@dataclass(frozen=True)
class NodeSpec:
    """What the first process is told, as a JSON file in the cluster's folder."""

    number: int
    index: int
    nodes: int
    cluster: str
    """The cluster's folder on this machine."""
    binaries: str
    """The folder of built programs on this machine."""
    programs: Mapping[str, str]
    """Program -> its path below `binaries`."""
    images: str
    """The archive with the images that the cluster itself needs, below `binaries`."""

    @classmethod
    def read(cls, path: Path) -> "NodeSpec":
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self), indent=1))

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.number)

    @property
    def layout(self) -> Layout:
        return Layout({name: f"/run/bellbuoy/binaries/{path}" for name, path in self.programs.items()})


def mount_own_view(spec: NodeSpec) -> None:
    """Everything that the node may change becomes its own, before anything is started."""
    cluster = Path(spec.cluster)
    own = cluster / node_name(spec.index)
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "proc", "proc", "/proc")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    # First what lies on the machine: the mounts below may hide where it lies.
    here = Path("/run/bellbuoy")
    own.mkdir(exist_ok=True)
    for name, source in {"cluster": cluster, "node": own, "binaries": Path(spec.binaries)}.items():
        (here / name).mkdir(parents=True)
        run("mount", "--bind", source, here / name)
    for folder in ("etc", "var"):
        upper, work = here / "layer" / folder / "upper", here / "layer" / folder / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        run(
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            f"lowerdir=/{folder},upperdir={upper},workdir={work}",
            f"/{folder}",
        )
    for name, target in OWN_FOLDERS.items():
        (here / "node" / name).mkdir(exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", here / "node" / name, target)
    Path("/tmp").chmod(0o1777)
    # One folder for all nodes, so that a volume follows its pod from node to node.
    shared = here / "cluster" / "volumes"
    shared.mkdir(exist_ok=True)
    VOLUMES.mkdir(exist_ok=True)
    run("mount", "--bind", shared, VOLUMES)
    settings = here / "settings"
    settings.mkdir()
    for name, value in KERNEL_SETTINGS.items():
        copy = settings / name.replace("/", "_")
        copy.write_text(f"{value}\n")
        run("mount", "--bind", copy, f"/proc/sys/{name}")
    Path("/run/lock").mkdir()
    run("mount", "--make-rshared", "/")


def set_up_network(spec: NodeSpec) -> None:
    """Name and addresses; the cable is put in by the process that started us."""
    addresses, index = spec.addresses, spec.index
    socket.sethostname(node_name(index))
    run("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    wait_for("the node's cable", lambda: "eth0" in Path("/proc/net/dev").read_text(), seconds=20)
    run("ip", "address", "add", f"{addresses.node(index)}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", addresses.gateway)
    for other in range(spec.nodes):
        if other != index:
            run("ip", "route", "add", addresses.node_pods(other), "via", addresses.node(other))


def write_configuration(spec: NodeSpec) -> None:
    """Into the node's own /etc."""
    addresses, index, layout = spec.addresses, spec.index, spec.layout
    files = {
        "/etc/hostname": node_name(index) + "\n",
        "/etc/hosts": f"127.0.0.1 localhost\n{addresses.node(index)} {node_name(index)}\n",
        "/etc/resolv.conf": "",
        "/etc/containerd.toml": components.containerd_config(),
        "/etc/cni/net.d/10-bellbuoy.conflist": json.dumps(components.network_config(addresses, index=index)),
        "/etc/kubelet.json": json.dumps(components.kubelet_config(layout, addresses, index=index)),
        "/etc/kube-proxy.json": json.dumps(components.proxy_config(layout, addresses)),
    }
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Replaced, not written through: some of them may be mounts or links of the machine's.
        path.unlink(missing_ok=True)
        path.write_text(content)


class Programs:
    """The node's programs: started, and started again when they die."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[int, Component] = {}
        logs.mkdir(exist_ok=True)

    def start(self, component: Component) -> None:
        """Run it with its output in a log named after it."""
        log = str(self._logs / f"{component.name}.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [(os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)]
        command = list(component.command)
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setsid=True)
        self._running[pid] = component

    def check(self) -> None:
        """Raise if one has died: while the node comes up, that is an error of the cluster."""
        pid, status = os.waitpid(-1, os.WNOHANG) if self._running else (0, 0)
        component = self._running.pop(pid, None)
        if component:
            log = self._logs / f"{component.name}.log"
            code = os.waitstatus_to_exitcode(status)
            raise LocalClusterError(f"{component.name} ended with exit code {code}; its last lines:\n{last_lines(log)}")

    def revive(self) -> None:
        """Reap whatever has ended; start again what is ours."""
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            pid, status = ended
            component = self._running.pop(pid, None)
            if component:
                say(f"{component.name} ended with exit code {os.waitstatus_to_exitcode(status)}: starting it again")
                time.sleep(1)
                self.start(component)


class Volumes:
    """Makes each new volume writable for everybody, once, as other clusters' provisioners do.

    The controller manager makes them for root alone, and a kubelet does not apply a pod's fsGroup to a folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[str] = set()

    def open_new(self) -> None:
        names = set(os.listdir(self._folder))
        for name in names - self._known:
            # It may be gone already: claims are deleted as well.
            with suppress(FileNotFoundError):
                (self._folder / name).chmod(0o777)
        self._known = names


def answers(program: str, *arguments: str) -> bool:
    """Whether the program succeeds."""
    return subprocess.run([program, *arguments], capture_output=True, check=False).returncode == 0


def bring_up(spec: NodeSpec) -> NoReturn:
    """Start everything in the order in which it can work, then stay."""
    layout, addresses = spec.layout, spec.addresses
    programs = Programs(layout.node / "logs")
    programs.start(components.containerd())
    if spec.index == 0:
        for component in components.control_plane(layout, addresses):
            programs.start(component)
    socket_file = Path(components.CONTAINERD_SOCKET)
    wait_for("containerd", lambda: socket_file.exists() and answers("ctr", "version"), seconds=60, check=programs.check)
    run("ctr", "--namespace=k8s.io", "images", "import", Path("/run/bellbuoy/binaries") / spec.images)
    # The others wait too: a kubelet that cannot reach its API server backs off for longer than this takes.
    ready = [layout.programs["kubectl"], f"--kubeconfig={layout.cluster}/admin.conf", "get", "--raw=/readyz"]
    wait_for("the API server", lambda: answers(*ready), seconds=120, check=programs.check)
    started = components.workers(layout, addresses, index=spec.index)
    for component in [*(components.controllers(layout) if spec.index == 0 else []), *started]:
        programs.start(component)
    volumes = Volumes(VOLUMES)
    while True:
        programs.revive()
        volumes.open_new()
        time.sleep(TURN_SECONDS)


def main(spec_file: Path) -> NoReturn:
    spec = NodeSpec.read(spec_file)
    cgroups.create(spec.addresses.cgroup(spec.index))
    mount_own_view(spec)
    write_configuration(spec)
    set_up_network(spec)
    bring_up(spec)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except LocalClusterError as problem:
        sys.exit(f"{node_name(NodeSpec.read(Path(sys.argv[1])).index)}: {problem}")
