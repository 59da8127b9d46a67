"""Processes that outlive the one that started them, known by their number and their start time.

Numbers are used again; together with the start time they are not, so that nothing of another's is ever killed.
"""

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.shell import wait_for


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty if there is none. The second may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True)
class Process:
    """One process, once."""

    pid: int
    started: int
    """Clock ticks since the machine's start."""

    @classmethod
    def of(cls, pid: int) -> "Process":
        fields = _stat(pid)
        if not fields:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(pid, int(fields[19]))

    @classmethod
    def read(cls, file: Path) -> "Process":
        return cls(**json.loads(file.read_text()))

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)))

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        fields = _stat(self.pid)
        return bool(fields) and int(fields[19]) == self.started and fields[0] not in "ZX"

    def kill(self) -> None:
        """End it and wait until it has."""
        if self.alive:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        wait_for(f"process {self.pid} to end", lambda: not self.alive, seconds=30)


def children(pid: int) -> list[int]:
    """Numbers of the processes that it started and that are still there."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def with_argument(text: str, *, programs: tuple[str, ...]) -> list[Process]:
    """Processes of these programs with the text in an argument: those that were started and not yet noted down."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(arguments[0]).name in programs and any(text in argument for argument in arguments[1:]):
                found.append(Process.of(int(folder.name)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def memory_bytes(pid: int) -> int:
    """Resident memory of one process; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
