"""The targets: real scrapes, recorded once a second, replayed as many targets on loopback addresses.

`recordings/` holds a node_exporter's 812 scrapes of 978 series, a Prometheus's /metrics with 40 busy histograms added
(1,000 series), and a constant body as kube-state-metrics gives it (1,015 series). `replay/` serves them; what a client
gets depends on the target and the second only, so that all who scrape them see the same.
"""

import lzma
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import Process
from bench.programs import REPLAY

_RECORDINGS = Path(__file__).resolve().parent / "recordings"
# Of four targets, two are nodes.
_MIX = ("node", "app", "node", "ksm")
_READY_SECONDS = 120


@dataclass(frozen=True)
class Targets:
    """So many targets at one port of many addresses."""

    count: int
    port: int

    def scrape_configs(self, *, compression: bool) -> list[dict[str, Any]]:
        """One job a recording, as prometheus.yml has them."""
        addresses: dict[str, list[str]] = {name: [] for name in dict.fromkeys(_MIX)}
        for i in range(self.count):
            addresses[_MIX[i % len(_MIX)]].append(f"127.0.{1 + i // 250}.{1 + i % 250}:{self.port}")
        return [
            {
                "job_name": name,
                "metrics_path": f"/{name}",
                "enable_compression": compression,
                "static_configs": [{"targets": targets}],
            }
            for name, targets in addresses.items()
            if targets
        ]

    def serve(self, folder: Path) -> Process:
        """The process that is the targets."""
        files = []
        for name in dict.fromkeys(_MIX):
            file = folder / f"{name}.rec"
            file.write_bytes(lzma.decompress((_RECORDINGS / f"{name}.rec.xz").read_bytes()))
            files.append(str(file))
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
