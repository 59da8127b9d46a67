"""Programs that tests start, ours and Prometheus's: found, run on a free port, waited for, ended.

The peers are Debian's packages, which `make setup` installs. A test that finds none of them fails and says so: a peer
that is left out quietly proves nothing.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp

T = TypeVar("T")

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-pushgateway": "prometheus-pushgateway",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
# Debian's would keep state from run to run, and share it.
STATELESS = {"prometheus-pushgateway": ("--persistence.file=",)}
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
async def started(command: Sequence[str], *, name: str, port: int, folder: Path, ready: str) -> AsyncIterator[Program]:
    """A program that answers at a port of 127.0.0.1."""
    with running(command, name=name, url=f"http://127.0.0.1:{port}", output=folder / f"{name}-{port}.log") as it:
        await answers(it, ready)
        yield it


@contextlib.asynccontextmanager
async def peer(name: str, *arguments: str, folder: Path, ready: str = "/-/ready") -> AsyncIterator[Program]:
    """A program of the reference, ready, at a free port."""
    port = free_port()
    command = [program(name), f"--web.listen-address=127.0.0.1:{port}", *STATELESS.get(name, ()), *arguments]
    async with started(command, name=name, port=port, folder=folder, ready=ready) as it:
        yield it


@contextlib.asynccontextmanager
async def part(name: str, *arguments: str, folder: Path) -> AsyncIterator[Program]:
    """One of our parts, ready, at a free port; `name` is the command line's, such as `node-exporter`."""
    port = free_port()
    command = [sys.executable, "-m", "bellbuoy", name, f"--web.listen-address=127.0.0.1:{port}", *arguments]
    async with started(command, name=name, port=port, folder=folder, ready="/-/ready") as it:
        yield it


@contextlib.asynccontextmanager
async def prometheus(config: Mapping[str, Any], *, folder: Path) -> AsyncIterator[Program]:
    """The reference's server with this configuration."""
    place = folder / "prometheus"
    place.mkdir()
    (place / "prometheus.yml").write_text(json.dumps(config))
    files = [f"--config.file={place / 'prometheus.yml'}", f"--storage.tsdb.path={place / 'data'}"]
    async with peer("prometheus", *files, folder=folder) as it:
        yield it


async def check_metrics(text: str) -> list[str]:
    """What promtool has to say of a page of metrics, line by line."""
    command = [program("promtool"), "check", "metrics"]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate(text.encode())
    complaints = [line for line in said.decode().splitlines() if line.strip()]
    if process.returncode and not complaints:
        complaints = [f"exit code {process.returncode}"]
    # The names are node_exporter's own and those of every client library: promtool would have some of them otherwise,
    # in the original as well.
    return [line for line in complaints if not line.startswith(("node_", "process_"))]


async def until(what: str, condition: Callable[[], Awaitable[T]], *, seconds: float = 60.0) -> T:
    """The condition's first true value; programs tell nobody when they are done."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.1)
    return found


async def query(at: Program, expr: str) -> list[dict[str, Any]]:
    """The result of an instant query, of a server of ours or of the reference's."""
    answer = json.loads(await fetch(f"{at.url}/api/v1/query?query={quote(expr)}"))
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


async def fetch(url: str, *, accept: str = "text/plain;version=0.0.4") -> str:
    """The text of a page."""
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": accept}) as response:
        assert response.status == 200, await response.text()
        return await response.text()


async def found_by(at: Program, expr: str) -> list[dict[str, Any]]:
    """The first result of an instant query that is not empty."""
    return await until(f"{at.name} finds {expr}", lambda: query(at, expr))
