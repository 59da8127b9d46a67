"""How programs are run, how the user is told, and how a failure reads."""

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class LocalClusterError(Exception):
    """What went wrong and what helps, for the user; the command line prints it without a trace."""


def run(*arguments: str | Path, stdin: bytes | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The program's standard output; a failure carries what it wrote to standard error."""
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(command, input=stdin, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise LocalClusterError(f"cannot run {command[0]}: it is not installed") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LocalClusterError(f"cannot run {' '.join(command)}: exit code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def say(text: str) -> None:
    """One line of progress, on standard error: standard output is for what a command was asked for."""
    print(text, file=sys.stderr, flush=True)


def wait_for(
    what: str, condition: Callable[[], T | None], *, seconds: float, check: Callable[[], None] | None = None
) -> T:
    """The condition's first true value. `check` is called in between, to raise if waiting has become pointless."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if check:
            check()
        if time.monotonic() > deadline:
            raise LocalClusterError(f"cannot wait for {what} any longer than {seconds:g} s")
        time.sleep(0.05)


@contextmanager
def locked(path: Path, *, why: str) -> Iterator[None]:
    """One process at a time: the file is locked until the block ends, or the process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is {why}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def last_lines(path: Path, count: int = 12) -> str:
    """The end of a log, indented, for an error message."""
    if not path.exists():
        return f"  ({path} was not written)"
    lines = path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines)
