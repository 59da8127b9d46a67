"""The cluster's programs, built from the Go modules that `modules/*/go.mod` and go.sum pin, once a machine.

A module's programs lie in a cache folder whose name is a hash of all that decides what they are, so a changed pin
builds anew and an old clone still finds its own. A folder appears whole or not at all: it is built beside its place
and renamed. containerd, runc and the CNI plugins come from Debian instead: see `machine`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.local import machine, paths
from deploy.local.shell import LocalClusterError, locked, run, say

_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Module:
    """A folder under modules/ and the programs that are built from it."""

    name: str
    """The folder's name."""
    programs: dict[str, str]
    """Program -> the Go package that it is."""
    requirement: str = ""
    """The module whose version is the programs' version; empty if they are our own."""

    @property
    def folder(self) -> Path:
        return paths.MODULES / self.name

    @property
    def version(self) -> str:
        """As go.mod pins it: `v1.37.2`."""
        if not self.requirement:
            return "v1"
        found = re.search(rf"^\s*(?:require )?{re.escape(self.requirement)} (v\S+)", self._go_mod, re.MULTILINE)
        if found is None:
            raise LocalClusterError(f"cannot read {self.folder}/go.mod: it does not require {self.requirement}")
        return found[1]

    @property
    def _go_mod(self) -> str:
        return (self.folder / "go.mod").read_text()

    @property
    def flags(self) -> list[str]:
        """The same for all programs of a module, else Go's own cache is not shared between them."""
        linker = "-s -w"
        if self.name == "kubernetes":
            major, minor = self.version.removeprefix("v").split(".")[:2]
            stamps = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
            linker += "".join(f" -X {_VERSION}.{key}={value}" for key, value in stamps.items())
        return ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={linker}"]

    @property
    def key(self) -> str:
        """A hash of the pins, the sources and the flags."""
        digest = hashlib.sha256(repr((self.flags, sorted(self.programs.items()))).encode())
        for file in sorted(self.folder.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    @property
    def built(self) -> Path:
        """Where the programs lie once they are built."""
        return paths.cache() / "binaries" / f"{self.name}-{self.version}-{self.key}"


_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
ETCD = Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, "go.etcd.io/etcd/server/v3")
KUBERNETES = Module("kubernetes", {name: f"k8s.io/kubernetes/cmd/{name}" for name in _COMMANDS}, "k8s.io/kubernetes")
COREDNS = Module("coredns", {"coredns": "bellbuoy.io/local/coredns"}, "github.com/coredns/coredns")
PAUSE = Module("pause", {"pause": "bellbuoy.io/local/pause"})
MODULES = (PAUSE, ETCD, COREDNS, KUBERNETES)


def path(program: str) -> Path:
    """Where a built program lies; raises if it is not built."""
    for module in MODULES:
        if program in module.programs:
            found = module.built / program
            if not found.exists():
                raise LocalClusterError(f"{program} is not built yet: run `python -m deploy.local binaries`")
            return found
    raise LocalClusterError(f"BUG: no module builds {program}")


def build_all() -> None:
    """Build what is missing; minutes when cold, nothing when warm."""
    for module in MODULES:
        if module.built.is_dir():
            continue
        with locked(paths.cache() / "binaries.lock", why="building the cluster's programs"):
            if not module.built.is_dir():
                _build(module)


def _build(module: Module) -> None:
    go = str(machine.go())
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
    title = f"{module.name} {module.version}"
    began = time.monotonic()
    packages = list(module.programs.values())
    with _Progress(title) as progress:
        progress.show("fetching modules")
        # Stale is what must be compiled: with it, progress has a goal.
        form = "{{if .Stale}}{{.ImportPath}}{{end}}"
        stale = run(
            go, "-C", module.folder, "list", "-deps", "-f", form, *module.flags, *packages, environment=environment
        )
        progress.goal = len(stale.split())

        fresh = module.built.with_name(f".{module.built.name}.{os.getpid()}")
        fresh.mkdir(parents=True)
        try:
            for program, package in _one_run_each(module, fresh):
                command = [go, "-C", str(module.folder), "build", "-v", *module.flags, "-o", program, *package]
                _compile(command, environment=environment, progress=progress)
            fresh.rename(module.built)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    say(f"{title}: built in {time.monotonic() - began:.0f} s")


def _one_run_each(module: Module, folder: Path) -> list[tuple[str, list[str]]]:
    """What to give `go build -o`: a folder for many packages that are named like their programs, else a file."""
    if len(module.programs) > 1:
        return [(f"{folder}/", list(module.programs.values()))]
    return [(str(folder / program), [package]) for program, package in module.programs.items()]


def _compile(command: list[str], *, environment: dict[str, str], progress: "_Progress") -> None:
    said: list[str] = []
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.fullmatch(r"[\w./~-]+\n", line):
                progress.step()
            elif not line.startswith("go: downloading"):
                said.append(line)
    if process.returncode:
        raise LocalClusterError(f"cannot build {' '.join(command[5:])}:\n{''.join(said[-30:])}")


class _Progress:
    """One line that changes, on a terminal; a line every 15 seconds elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.goal = 0
        self._done = 0
        self._began = time.monotonic()
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            sys.stderr.write("\r\033[K")

    def step(self) -> None:
        self._done += 1
        if time.monotonic() - self._shown > (0.2 if self._terminal else 15):
            self.show(f"{min(self._done, self.goal)} of {self.goal} packages")

    def show(self, text: str) -> None:
        self._shown = time.monotonic()
        seconds = self._shown - self._began
        line = f"{self.title}: {text}, {int(seconds // 60)}:{int(seconds % 60):02d}"
        sys.stderr.write(f"\r\033[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
