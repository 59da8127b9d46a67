"""A program that runs for a benchmark, and what it uses: processor time, memory, disk, as the kernel counts them.

All its threads and all processes below it count. What it writes goes to a file, whose end is shown if it fails.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.errors import BenchmarkError

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 30


class Process:
    """A running program; leaving the block ends it."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        with log.open("wb") as file:
            # Its own session: an interrupt at the terminal is ours to hand on, in order.
            try:
                self._process = subprocess.Popen(
                    self.command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
            except OSError as error:
                raise BenchmarkError(
                    f"cannot start {self.command[0]}: {error.strerror}; is it the right file?"
                ) from error

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise, with what it said, if it has ended."""
        code = self._process.poll()
        if code is not None:
            said = "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])
            raise BenchmarkError(f"cannot go on: {self.command[0]} ended with exit code {code}:\n{said}")

    def wait_for_line(self, line: str, *, seconds: float) -> None:
        """Until it has printed just that line."""
        deadline = time.monotonic() + seconds
        while line not in self.log.read_text(errors="replace").splitlines():
            self.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"cannot go on: {self.command[0]} did not say {line!r} within {seconds:g} s")
            time.sleep(0.05)

    def processor_seconds(self) -> float:
        """User and system time so far; of ended children as well, once they were waited for."""
        ticks = 0
        for pid in self._tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # utime, stime, cutime, cstime are fields 14 to 17; the split begins at the third.
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / _TICKS

    def resident_bytes(self) -> int:
        """Memory in RAM, mapped files included."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in self._tree())

    def peak_bytes(self) -> int:
        """The most memory in RAM that it ever had."""
        total = 0
        for pid in self._tree():
            status = Path(f"/proc/{pid}/status").read_text()
            total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
        return total

    def _tree(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(int(child) for child in children.read_text().split())
        return found


def disk_bytes(folder: Path) -> int:
    """Blocks that its files take: preallocated but unwritten space does not count, what a page rounds up does."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(parent) / file).lstat().st_blocks * 512
            except FileNotFoundError:  # A log's segment, dropped meanwhile.
                continue
    return total
