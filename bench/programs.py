"""Programs in Go that a benchmark needs: the reference and the targets, each built once a machine from a pinned module.

A program lies in a cache folder whose name is a hash of its module's files, so a changed pin or source builds anew and
an old clone still finds its own. It appears whole or not at all: it is built beside its place and renamed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchmarkError

_HERE = Path(__file__).resolve().parent
# Debug symbols stay in, for profiles.
_FLAGS = ("-mod=readonly", "-buildvcs=false")


@dataclass(frozen=True)
class Program:
    """A folder with go.mod and go.sum, and the one program that is built from it."""

    name: str
    folder: Path
    package: str
    """As go.mod knows it; `.` is the folder's own."""

    def path(self) -> Path:
        """The built program; builds it first if need be, which for the reference takes minutes."""
        built = self._place()
        if not built.exists():
            with _locked(built.with_name("build.lock")):
                if not built.exists():
                    self._build(built)
        return built

    def is_built(self) -> bool:
        """Whether `path` has nothing to build."""
        return self._place().exists()

    def _place(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bellbuoy" / "peers"
        digest = hashlib.sha256(repr((_FLAGS, self.package)).encode())
        for file in sorted(self.folder.iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return cache / f"{self.name}-{digest.hexdigest()[:12]}"

    def _build(self, built: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise BenchmarkError(f"cannot build {self.name}: there is no Go toolchain; get it from https://go.dev/dl")
        print(f"building {self.name} (minutes the first time on a machine)", file=sys.stderr)
        began = time.monotonic()
        fresh = built.with_name(f".{built.name}.{os.getpid()}")
        environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
        command = [go, "-C", str(self.folder), "build", *_FLAGS, "-o", str(fresh), self.package]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            fresh.unlink(missing_ok=True)
            said = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("go: downloading"))
            raise BenchmarkError(f"cannot build {self.name}: {' '.join(command)}:\n{said}")
        fresh.rename(built)
        print(f"built {self.name} in {time.monotonic() - began:.0f} s", file=sys.stderr)


PROMETHEUS = Program("prometheus", _HERE / "prometheus", "github.com/prometheus/prometheus/cmd/prometheus")
REPLAY = Program("replay", _HERE / "replay", ".")
TSDB = Program("tsdb", _HERE / "tsdb", ".")
_VICTORIA = "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"
VICTORIA = Program("victoria-metrics", _HERE / "victoria", _VICTORIA)
VICTORIA_STORAGE = Program("victoria-storage", _HERE / "victoria", ".")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process builds at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
