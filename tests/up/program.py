"""The real program as a subprocess, as someone at a terminal runs it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# The machine may be busy with other tests: nothing here takes long by itself.
PATIENCE_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, without a webhook that its owner may have."""
    return {key: value for key, value in os.environ.items() if key != "SLACK_WEBHOOK_URL"} | dict(more)


def run_to_end(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`bellbuoy ARGUMENTS`, which must end by itself."""
    command = [sys.executable, "-m", "bellbuoy", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(more), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def wait_for(what: str, condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
    """The condition's first true value. An address that does not answer yet counts as false."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


@dataclass
class Program:
    """A running `bellbuoy`; in a `with` block, it is ended at its end."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    logged: str = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bellbuoy", *self.arguments],
            env=environment(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in ("printed", "logged")]
        for one in self._readers:
            one.start()
        return self

    def _read(self, name: str) -> None:
        stream = self.process.stdout if name == "printed" else self.process.stderr
        with stream or contextlib.nullcontext(()) as lines:
            for line in lines:
                setattr(self, name, getattr(self, name) + line)

    def end(self) -> int:
        """Tell it to end, as a service manager does; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, once all that it said has been read."""
        status = self.process.wait(PATIENCE_SECONDS)
        for one in self._readers:
            one.join()
        return status

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        if error is not None:
            error.add_note(f"printed:\n{self.printed}\nlogged:\n{self.logged}")


@dataclass
class Up(Program):
    """`bellbuoy up` on free ports."""

    server: str = ""
    alertmanager: str = ""

    @classmethod
    def on(cls, manifests: Path, data: Path, **environment: str) -> Self:
        """With these manifests and this data folder."""
        parts = ("server", "alertmanager", "pushgateway", "node-exporter")
        ports = dict(zip(parts, free_ports(len(parts)), strict=True))
        arguments = ["up", "--manifests", str(manifests), "--data", str(data)]
        for part, port in ports.items():
            arguments += [f"--{part}.port", str(port)]
        base = "http://127.0.0.1:"
        return cls(
            arguments, environment, server=f"{base}{ports['server']}", alertmanager=f"{base}{ports['alertmanager']}"
        )

    def api(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer of the server's API."""
        return fetch(f"{self.server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")["data"]

    def query(self, expression: str, **parameters: str | float) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found: list[dict[str, Any]] = self.api("query", query=expression, **parameters)["result"]
        return found


def fetch(url: str) -> Any:
    """JSON from an address."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@contextlib.contextmanager
def slack() -> Iterator[str]:
    """A server in Slack's shape; the URL of its webhook."""
    command = [sys.executable, "-m", "tests.slack_server", "--port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=EXAMPLES.parent)
    try:
        yield (process.stdout.readline() if process.stdout is not None else "").strip()
    finally:
        process.terminate()
        process.communicate()
