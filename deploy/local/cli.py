"""The command line: `python -m deploy.local COMMAND`.

Progress goes to standard error; standard output has what was asked for, such as the path of a kubeconfig.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.local import binaries, cluster, images, machine
from deploy.local.addresses import node_name
from deploy.local.processes import memory_bytes, tree
from deploy.local.shell import LocalClusterError, say


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m deploy.local", description="A real Kubernetes on this machine, without a container engine."
    )
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=cluster.DEFAULT_NAME, help="the cluster's name (default: %(default)s)")
    inside = argparse.ArgumentParser(add_help=False)
    inside.add_argument("--node", type=int, default=0, metavar="INDEX", help="which node (default: %(default)s)")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("setup", help="install Debian's packages and build the programs, if they are missing")
    commands.add_parser("packages", help="install Debian's packages, if they are missing")
    commands.add_parser("binaries", help="build the cluster's programs, if they are missing")
    commands.add_parser("check", help="say what this machine lacks to run nodes")

    up = commands.add_parser("up", parents=[named], help="start a cluster; prints the path of its kubeconfig")
    size = up.add_mutually_exclusive_group()
    size.add_argument("--nodes", type=int, default=2, help="how many nodes (default: %(default)s)")
    size.add_argument("--control-plane-only", action="store_true", help="etcd and API server on loopback, no nodes")
    commands.add_parser("down", parents=[named], help="remove a cluster and everything of it, also after a crash")
    commands.add_parser("status", help="all clusters, their processes and their memory")
    commands.add_parser("kubeconfig", parents=[named], help="print the path of the cluster's kubeconfig")
    kubectl = commands.add_parser("kubectl", parents=[named], help="run the cluster's own kubectl as admin")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    enter = commands.add_parser("exec", parents=[named, inside], help="run a command in a node's namespaces")
    enter.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="the command (default: bash)")
    load = commands.add_parser("load", parents=[named], help="import an archive of images into every node")
    load.add_argument("archive", type=Path, metavar="IMAGES.tar")
    logs = commands.add_parser("logs", parents=[named, inside], help="print a program's log")
    logs.add_argument("program", nargs="?", help="such as kubelet; without it, the logs that there are")

    build = commands.add_parser("images", help="pack the images of Bellbuoy's parts; prints the archive's path")
    build.add_argument("action", choices=["build"])
    build.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(images.PARTS)} (default: all)")
    build.add_argument("--load", metavar="NAME", help="import them into this cluster as well")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is one message, and exit code 1."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except LocalClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "setup":
            machine.install_packages()
            binaries.build_all()
            say("the local cluster's programs are ready")
        case "packages":
            machine.install_packages()
        case "binaries":
            binaries.build_all()
        case "check":
            machine.require_nodes()
            say("nodes can run on this machine")
        case "up":
            _up(options)
        case "down":
            removed = cluster.down(options.name)
            say(f'cluster "{options.name}" is removed' if removed else f'there is no cluster "{options.name}"')
        case "status":
            _status()
        case "kubeconfig":
            print(cluster.get(options.name).kubeconfig)
        case "kubectl":
            config = cluster.get(options.name).kubeconfig
            command = [str(binaries.path("kubectl")), f"--kubeconfig={config}", *_plain(options.arguments)]
            return subprocess.run(command, check=False).returncode
        case "exec":
            inner = _plain(options.arguments) or ["bash"]
            command = cluster.get(options.name).command_in(options.node, inner)
            return subprocess.run(command, check=False).returncode
        case "load":
            cluster.get(options.name).load(options.archive)
        case "logs":
            return _logs(cluster.get(options.name), program=options.program, index=options.node)
        case "images":
            built = images.build(options.parts or list(images.PARTS))
            print(built)
            if options.load:
                cluster.get(options.load).load(built)
    return 0


def _plain(arguments: list[str]) -> list[str]:
    return arguments[1:] if arguments[:1] == ["--"] else arguments


def _up(options: argparse.Namespace) -> None:
    nodes = 0 if options.control_plane_only else options.nodes
    if nodes < 1 and not options.control_plane_only:
        raise LocalClusterError("--nodes must be 1 or more; for none, say --control-plane-only")
    began = time.monotonic()
    started = cluster.up(name=options.name, nodes=nodes)
    what = f"{nodes} node{'s' if nodes > 1 else ''}" if nodes else "API server on loopback"
    say(f'cluster "{options.name}": {what}, ready after {time.monotonic() - began:.1f} s')
    print(started.kubeconfig)


def _status() -> None:
    for found in cluster.existing():
        state = "running" if found.running else "not running; `down` removes what is left"
        kind = f"{found.nodes} nodes on {found.addresses.block}" if found.nodes else "control plane only"
        print(f"{found.name}: {state}; {kind}; KUBECONFIG={found.kubeconfig}")
        for name, process in found.processes.items():
            if name.endswith(".unshare"):
                continue
            used = sum(memory_bytes(pid) for pid in tree(process.pid))
            print(f"  {name}: process {process.pid}, {used >> 20} MiB with all below it")


def _logs(found: cluster.Cluster, *, program: str | None, index: int) -> int:
    folder = found.log("any", index=index).parent
    known = sorted(file.stem for file in folder.glob("*.log"))
    if program is None:
        print("\n".join(known))
        return 0
    if program not in known:
        raise LocalClusterError(f'no log of "{program}" on {node_name(index)}; there are: {", ".join(known)}')
    with found.log(program, index=index).open("rb") as log:
        sys.stdout.buffer.write(log.read())
    return 0
