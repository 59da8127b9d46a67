"""A cluster's life: up, down, and what it is in between.

A cluster is a folder. `cluster.json`, written before anything else is made, has the number from which all names and
addresses follow, so `down` finds everything to remove, whenever and however the cluster stopped. With an owner (the
process of a test run), a cluster is abandoned once the owner is gone, and the next one removes it.
"""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local import archive, binaries, certificates, cgroups, components, machine, network, paths
from deploy.local.addresses import API_PORT, NUMBERS, Addresses, node_name
from deploy.local.node import NodeSpec
from deploy.local.processes import Process, children, with_argument
from deploy.local.shell import LocalClusterError, last_lines, locked, run, say, wait_for

DEFAULT_NAME = "bellbuoy"


@dataclass(frozen=True)
class Cluster:
    """One that is up, coming up, or has left something behind."""

    name: str
    nodes: int
    """0: only etcd and the API server, on loopback."""
    number: int
    """Decides names and addresses; 0 without nodes."""
    owner: Process | None = None
    """The process with which the cluster should end."""

    @property
    def folder(self) -> Path:
        return paths.clusters() / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.conf"

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.number)

    @property
    def processes(self) -> dict[str, Process]:
        """By name: the nodes' first processes and what started them, or the quick mode's two programs."""
        return {file.stem: Process.read(file) for file in sorted((self.folder / "processes").glob("*.json"))}

    @property
    def running(self) -> bool:
        """Whether it came up and all of its processes are there."""
        processes = self.processes
        return (self.folder / "up").exists() and bool(processes) and all(p.alive for p in processes.values())

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl of the cluster's own version, as admin."""
        content = None if stdin is None else stdin.encode()
        return run(binaries.path("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments, stdin=content)

    def command_in(self, index: int, command: Sequence[str]) -> list[str]:
        """A command line that runs the command in the node's namespaces."""
        process = self.processes.get(f"{node_name(index)}.init")
        if process is None or not process.alive:
            raise LocalClusterError(f'cannot enter {node_name(index)} of cluster "{self.name}": it is not running')
        return ["nsenter", f"--target={process.pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--", *command]

    def load(self, images: Path) -> None:
        """Import an archive of images into every node, at once."""
        command = ["ctr", "--namespace=k8s.io", "images", "import", "-"]
        started = []
        for index in range(self.nodes):
            with images.open("rb") as file:
                started.append(
                    subprocess.Popen(
                        self.command_in(index, command), stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                    )
                )
        said = [process.communicate()[0].decode(errors="replace") for process in started]
        for index, process in enumerate(started):
            if process.returncode:
                raise LocalClusterError(f"cannot load {images} into {node_name(index)}: {said[index].strip()}")

    def log(self, component: str, *, index: int = 0) -> Path:
        """A program's log file, on this machine."""
        place = self.folder / node_name(index) if self.nodes else self.folder
        return place / "logs" / f"{component}.log"

    def save(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "cluster.json").write_text(json.dumps(asdict(self), indent=1))


def existing() -> list[Cluster]:
    """All that have a folder, running or not."""
    found = []
    for file in sorted(paths.clusters().glob("[!.]*/cluster.json")):
        fields = json.loads(file.read_text())
        owner = Process(**fields.pop("owner")) if fields["owner"] else fields.pop("owner")
        found.append(Cluster(**fields, owner=owner))
    return found


def find(name: str) -> Cluster | None:
    return next((cluster for cluster in existing() if cluster.name == name), None)


def get(name: str) -> Cluster:
    """The cluster; raises if there is none."""
    cluster = find(name)
    if cluster is None:
        others = ", ".join(other.name for other in existing()) or "none"
        raise LocalClusterError(f'there is no cluster "{name}" (there are: {others}); start it with `up --name {name}`')
    return cluster


def up(*, name: str = DEFAULT_NAME, nodes: int = 2, owner: Process | None = None) -> Cluster:
    """Bring a cluster up, or say that it is; nothing stays if that fails. Zero nodes is the quick mode."""
    if nodes:
        machine.require_nodes()
    binaries.build_all()
    with _lock(name):
        cluster = find(name)
        if cluster and cluster.running:
            if cluster.nodes != nodes:
                raise LocalClusterError(
                    f'cluster "{name}" is already up with {cluster.nodes} nodes, not {nodes}: take it down first'
                )
            say(f'cluster "{name}" is already up; nothing was changed')
            return cluster
        if cluster:
            say(f'cluster "{name}" was left behind by a crash: removing it first')
            _remove(cluster)
        cluster = _reserve(name=name, nodes=nodes, owner=owner)
        try:
            _start_nodes(cluster) if nodes else _start_control_plane(cluster)
        except BaseException:
            _remove(cluster)
            raise
        (cluster.folder / "up").touch()
    return cluster


def down(name: str) -> bool:
    """Remove everything of a cluster, in whatever state it is; False if there was nothing."""
    with _lock(name):
        cluster = find(name)
        if cluster:
            _remove(cluster)
    return cluster is not None


def remove_abandoned() -> None:
    """Take down the clusters whose owner is gone."""
    for cluster in existing():
        if cluster.owner and not cluster.owner.alive:
            say(f'cluster "{cluster.name}" was abandoned by process {cluster.owner.pid}: removing it')
            down(cluster.name)


def _lock(name: str) -> AbstractContextManager[None]:
    return locked(paths.clusters() / f".{name}.lock", why=f'at work on cluster "{name}"')


def _reserve(*, name: str, nodes: int, owner: Process | None) -> Cluster:
    """Write down a cluster with a number that nobody uses."""
    if not nodes:
        cluster = Cluster(name=name, nodes=0, number=0, owner=owner)
        cluster.save()
        return cluster
    with locked(paths.clusters() / ".numbers.lock", why="choosing addresses"):
        taken = {cluster.number for cluster in existing()}
        for number in NUMBERS:
            if number not in taken and network.is_free(Addresses(number)):
                cluster = Cluster(name=name, nodes=nodes, number=number, owner=owner)
                cluster.save()
                return cluster
    raise LocalClusterError("no range of addresses is free; take clusters down that you do not need: see `status`")


def _start_control_plane(cluster: Cluster) -> None:
    """The quick mode: etcd and API server as plain processes, on free ports of loopback."""
    folder, ports = cluster.folder, _free_ports()
    authority = certificates.create_control_plane(folder / "pki", hosts=["127.0.0.1"])
    server = f"https://127.0.0.1:{ports[2]}"
    authority.kubeconfig(cluster.kubeconfig, client="admin", server=server, name=cluster.name)
    started = components.quick_control_plane(
        etcd_program=str(binaries.path("etcd")),
        api_server_program=str(binaries.path("kube-apiserver")),
        folder=folder,
        ports=ports,
    )
    for component in started:
        _spawn(cluster, component.name, list(component.command), log=cluster.log(component.name))
    _wait_until_ready(cluster, address="127.0.0.1", port=ports[2])


def _free_ports() -> tuple[int, int, int]:
    """Held together while they are chosen, so that they differ; then free for the programs."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    first, second, third = (opened.getsockname()[1] for opened in sockets)
    for opened in sockets:
        opened.close()
    return first, second, third


def _start_nodes(cluster: Cluster) -> None:
    addresses = cluster.addresses
    _write_identities(cluster)
    images = _system_images()
    network.create(addresses)
    for index in range(cluster.nodes):
        name = node_name(index)
        spec = NodeSpec(
            number=cluster.number,
            index=index,
            nodes=cluster.nodes,
            cluster=str(cluster.folder),
            binaries=str(paths.cache() / "binaries"),
            programs={p: f"{m.built.name}/{p}" for m in binaries.MODULES for p in m.programs},
            images=images.name,
        )
        spec.write(cluster.folder / f"{name}.json")
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        command = ["unshare", *namespaces, sys.executable, "-m", "deploy.local.node", f"{cluster.folder}/{name}.json"]
        outer = _spawn(cluster, f"{name}.unshare", command, log=cluster.log("init", index=index))
        inner = Process.of(wait_for(f"{name} to start", lambda: children(outer.pid), seconds=20)[0])  # noqa: B023
        inner.write(cluster.folder / "processes" / f"{name}.init.json")
        network.connect(addresses, index, pid=inner.pid)
    _wait_until_ready(cluster, address=addresses.node(0), port=API_PORT)
    for manifest in ("storage.yaml", "dns.yaml"):
        text = (paths.MANIFESTS / manifest).read_text().replace("${DNS}", addresses.dns)
        cluster.kubectl("apply", "--filename=-", stdin=text)
    check = _Check(cluster)
    wait_for("all nodes to be Ready", lambda: _ready_nodes(cluster) == cluster.nodes, seconds=120, check=check)
    wait_for("the default service account", lambda: _has_account(cluster), seconds=60, check=check)
    cluster.kubectl(
        "--namespace=kube-system", "wait", "--for=condition=Available", "--timeout=120s", "deployment/coredns"
    )
    wait_for("an answer of the cluster's DNS", lambda: _resolves(addresses.dns), seconds=60, check=check)


def _write_identities(cluster: Cluster) -> None:
    addresses, folder = cluster.addresses, cluster.folder
    authority = certificates.create_control_plane(
        folder / "pki", hosts=["127.0.0.1", addresses.node(0), addresses.api_service]
    )
    certificates.create_controllers(authority)
    clients = ["admin", "kube-controller-manager", "kube-scheduler", "kube-proxy"]
    for index in range(cluster.nodes):
        certificates.create_node(authority, name=node_name(index), address=addresses.node(index))
        clients.append(f"kubelet-{node_name(index)}")
    for client in clients:
        authority.kubeconfig(folder / f"{client}.conf", client=client, server=addresses.api, name=cluster.name)


def _system_images() -> Path:
    """The archive with the images that the cluster itself needs: static programs of ours, and nothing else."""
    folder = paths.cache() / "binaries"
    archived = folder / f"images-{binaries.PAUSE.key}-{binaries.COREDNS.key}.tar"
    with locked(folder / ".images.lock", why="packing the cluster's own images"):
        if not archived.exists():
            images = []
            for program, name in (("pause", components.PAUSE_IMAGE), ("coredns", "bellbuoy.io/local/coredns:v1")):
                layer = archive.write_layer(folder / f".{program}.layer", [(program, binaries.path(program))])
                images.append(archive.Image(name=name, layers=[layer], entrypoint=[f"/{program}"]))
            archive.write_archive(archived, images)
            for image in images:
                image.layers[0].file.unlink()
    return archived


def _spawn(cluster: Cluster, name: str, command: list[str], *, log: Path) -> Process:
    """Start a process that stays when we end, and note it down."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        started = subprocess.Popen(
            command, cwd=paths.CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    process = Process.of(started.pid)
    process.write(cluster.folder / "processes" / f"{name}.json")
    _STARTED.append(started)
    return process


# Kept until they have ended: Python complains of a process that it forgets while it runs.
_STARTED: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class _Check:
    """Raises, with the end of its log, if a process of the cluster has ended."""

    cluster: Cluster

    def __call__(self) -> None:
        for name, process in self.cluster.processes.items():
            if not process.alive:
                node, _, _ = name.partition(".")
                log = self.cluster.folder / node / "logs" / "init.log" if self.cluster.nodes else self.cluster.log(name)
                raise LocalClusterError(
                    f"cannot start the cluster: {node} has ended; its last lines:\n{last_lines(log)}"
                )


def _wait_until_ready(cluster: Cluster, *, address: str, port: int) -> None:
    context = ssl.create_default_context(cafile=str(cluster.folder / "pki" / "ca.crt"))
    context.load_cert_chain(cluster.folder / "pki" / "admin.crt", cluster.folder / "pki" / "admin.key")

    def ready() -> bool:
        connection = http.client.HTTPSConnection(address, port, context=context, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    wait_for("the API server to be ready", ready, seconds=120, check=_Check(cluster))


def _ready_nodes(cluster: Cluster) -> int:
    form = '{range .items[*].status.conditions[?(@.type=="Ready")]}{.status} {end}'
    return cluster.kubectl("get", "nodes", f"--output=jsonpath={form}").split().count("True")


def _has_account(cluster: Cluster) -> bool:
    found = cluster.kubectl(
        "--namespace=default", "get", "serviceaccount", "default", "--ignore-not-found", "--output=name"
    )
    return bool(found)


def _resolves(server: str) -> bool:
    """Whether the DNS service answers for the API server's name, through kube-proxy's rules."""
    name = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + b"\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)
        try:
            sender.sendto(query, (server, 53))
            answer = sender.recv(512)
        except OSError:
            return False
    return answer[:2] == query[:2] and answer[3] & 0x0F == 0 and answer[7] > 0


def _remove(cluster: Cluster) -> None:
    """End and remove everything; each step finds nothing to do if it was done before."""
    noted = list(cluster.processes.values())
    programs = ("unshare", Path(sys.executable).name, "etcd", "kube-apiserver")
    for process in [*noted, *with_argument(f"{cluster.folder}/", programs=programs)]:
        process.kill()
    # A killed program's last threads may take a moment longer.
    for started in [one for one in _STARTED if one.pid in {process.pid for process in noted}]:
        started.wait(30)
        _STARTED.remove(started)
    for index in range(cluster.nodes):
        cgroups.remove(cluster.addresses.cgroup(index))
    if cluster.nodes:
        network.remove(cluster.addresses)
    _discard(cluster.folder)


def _discard(folder: Path) -> None:
    """Delete the folder, in the background: unpacked images are tens of thousands of files, which can take a minute.

    It is renamed first, so that its name is free and nothing finds a cluster in it. What an interrupted deletion left
    is deleted with it.
    """
    folder.rename(folder.with_name(f".deleting-{folder.name}-{time.time_ns()}"))
    rest = [str(path) for path in folder.parent.glob(".deleting-*")]
    nowhere = subprocess.DEVNULL
    subprocess.run(["setsid", "--fork", "rm", "-rf", *rest], stdin=nowhere, stdout=nowhere, stderr=nowhere, check=True)
