"""The targets: real scrapes, recorded once a second, replayed as many targets on loopback addresses.

`recordings/` holds a node_exporter's 812 scrapes of 976 to 980 series, a Prometheus's /metrics with 40 busy histograms
added (1,007 series), and a constant body as kube-state-metrics gives it (1,015 series). `replay/` serves them; what a
client gets depends on the target and the second only, so that all who scrape them see the same.
"""

import itertools
import lzma
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchmarkError
from bench.processes import Process
from bench.programs import REPLAY

RECORDINGS = Path(__file__).resolve().parent / "recordings"
# Of four targets, two are nodes.
_MIX = ("node", "app", "node", "ksm")
_READY_SECONDS = 120
# Before each body: when it was scraped, in Unix seconds, and how long it is.
_SCRAPE_HEADER = struct.Struct("<dI")


def scrapes(recording: Path) -> Iterator[tuple[float, bytes]]:
    """Each scrape of a recording: when it was, and the body."""
    with lzma.open(recording) as file:
        while header := file.read(_SCRAPE_HEADER.size):
            at, length = _SCRAPE_HEADER.unpack(header)
            body = file.read(length)
            if len(body) < length:
                raise BenchmarkError(f"cannot read {recording}: it ends within a body; fetch it anew")
            yield at, body


@dataclass(frozen=True)
class Targets:
    """So many targets at one port of many addresses."""

    count: int
    port: int
    scrapes: int | None = None
    """How many of each recording they show before they begin again; None for all."""

    def scrape_configs(self, *, compression: bool) -> list[dict[str, Any]]:
        """One job a recording, as prometheus.yml has them."""
        addresses: dict[str, list[str]] = {name: [] for name in dict.fromkeys(_MIX)}
        for i in range(self.count):
            addresses[_MIX[i % len(_MIX)]].append(f"127.0.{1 + i // 250}.{1 + i % 250}:{self.port}")
        return [
            {
                "job_name": name,
                "metrics_path": f"/{name}",
                "static_configs": [{"targets": targets}],
                # On by default, and before 2.49 no setting.
                **({} if compression else {"enable_compression": False}),
            }
            for name, targets in addresses.items()
            if targets
        ]

    def serve(self, folder: Path) -> Process:
        """The process that is the targets."""
        files = []
        for name in dict.fromkeys(_MIX):
            path = folder / f"{name}.rec"
            with path.open("wb") as file:
                for at, body in itertools.islice(scrapes(RECORDINGS / f"{name}.rec.xz"), self.scrapes):
                    file.write(_SCRAPE_HEADER.pack(at, len(body)) + body)
            files.append(str(path))
        command = [str(REPLAY.path()), "--targets", str(self.count), "--port", str(self.port), *files]
        return Process(command, log=folder / "replay.log")

    @staticmethod
    def wait(process: Process) -> None:
        """Until all targets answer: bodies are compressed first."""
        process.wait_for_line("ready", seconds=_READY_SECONDS)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
