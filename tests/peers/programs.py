"""Programs that tests start, ours and Prometheus's: found, run on a free port, waited for, ended.

The peers are Debian's packages, which `make setup` installs. A test that finds none of them fails and says so: a peer
that is left out quietly proves nothing.
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-pushgateway": "prometheus-pushgateway",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
START_SECONDS = 60.0


class MissingProgramError(Exception):
    """A peer is not installed."""


def program(name: str) -> str:
    """The path of a peer's program."""
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(
            f"cannot find {name}: run `make setup`, which installs Debian's package {PACKAGES[name]} "
            f"(apt-get install --no-install-recommends {PACKAGES[name]})"
        )
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@dataclass
class Program:
    """A program that runs and answers at `url`."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    output: Path

    def log(self) -> str:
        """What it wrote so far."""
        return self.output.read_text(errors="replace")

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(command: Sequence[str], *, name: str, url: str, output: Path) -> Iterator[Program]:
    """The program, started; it is told to end, and killed if it does not."""
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield Program(name, process, url, output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def answers(program: Program, path: str) -> None:
    """Wait until GET of the path is 200; raises with the program's output if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(program.url + path) as response:
                    if response.status == 200:
                        return
            if program.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{program.name} does not answer {path}; it wrote:\n{program.log()}")
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def started(command: Sequence[str], *, url: str, folder: Path, ready: str = "/metrics") -> AsyncIterator[Program]:
    """A program that answers."""
    name = Path(command[0]).name
    with running(command, name=name, url=url, output=folder / f"{name}-{url.rpartition(':')[2]}.log") as it:
        await answers(it, ready)
        yield it


@contextlib.asynccontextmanager
async def part(name: str, *arguments: str, folder: Path) -> AsyncIterator[Program]:
    """One of our parts, ready, at a free port; `name` is the command line's, such as `node-exporter`."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "bellbuoy", name, f"--web.listen-address={address}", *arguments]
    output = folder / f"{name}-{address.rpartition(':')[2]}.log"
    with running(command, name=name, url=f"http://{address}", output=output) as it:
        await answers(it, "/-/ready")
        yield it


async def fetch(url: str, *, accept: str = "text/plain;version=0.0.4") -> str:
    """The text of a page."""
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": accept}) as response:
        assert response.status == 200, await response.text()
        return await response.text()
