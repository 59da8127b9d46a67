"""The targets: real scrapes, recorded once a second, replayed as many targets on loopback addresses.

`recordings/` holds a node_exporter's 812 scrapes of 976 to 980 series, a Prometheus's /metrics with 40 busy histograms
added (1,007 series), and a constant body as kube-state-metrics gives it (1,015 series). `replay/` serves them; what a
client gets depends on the target and the second only, so that all who scrape them see the same.
"""

import itertools
import json
import lzma
import socket
import struct
import zlib
from collections.abc import Iterator, Mapping
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
# Pods that one Deployment has; of so many one is replaced at a time.
_PODS = 35
# Every action of relabeling that costs something: of targets, and of each series once it is known.
_RELABELINGS = [
    {"source_labels": ["__address__"], "regex": r"127\.0\.(\d+)\.\d+:\d+", "target_label": "subnet"},
    {"source_labels": ["__address__"], "modulus": 8, "target_label": "part", "action": "hashmod"},
]
_METRIC_RELABELINGS = [
    {"source_labels": ["__name__"], "regex": "go_gc_.*|node_scrape_collector_.*", "action": "drop"},
    {"source_labels": ["device"], "regex": "(.+)", "target_label": "dev"},
    {"regex": "device", "action": "labeldrop"},
]
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


def shaped(body: bytes, *, series: int | None, openmetrics: bool) -> bytes:
    """A body's first series; and as OpenMetrics, each bucket with an exemplar that changes with its count."""
    out, left = [], series
    for line in body.splitlines():
        if line.startswith(b"#"):
            # OpenMetrics has another word for it.
            out.append(
                line.removesuffix(b" untyped") + b" unknown" if openmetrics and line.endswith(b" untyped") else line
            )
            continue
        if left is not None:
            if left == 0:
                break
            left -= 1
        if openmetrics and b"_bucket{" in line:
            line += b' # {trace_id="%016x"} 0.25' % zlib.crc32(line)
        out.append(line)
    return b"\n".join([*out, b"# EOF", b""] if openmetrics else [*out, b""])


@dataclass(frozen=True)
class Targets:
    """So many targets at one port of many addresses."""

    count: int
    port: int
    scrapes: int | None = None
    """How many of each recording they show before they begin again; None for all."""
    series: int | None = None
    """How many of a body they show; None for all."""
    openmetrics: bool = False
    """With exemplars, and scraped with relabeling."""

    def _jobs(self) -> dict[str, list[tuple[int, str]]]:
        """Number and address of each target, by its recording."""
        jobs: dict[str, list[tuple[int, str]]] = {name: [] for name in dict.fromkeys(_MIX)}
        for i in range(self.count):
            jobs[_MIX[i % len(_MIX)]].append((i, f"127.0.{1 + i // 250}.{1 + i % 250}:{self.port}"))
        return {name: targets for name, targets in jobs.items() if targets}

    def scrape_configs(self, *, plain: Mapping[str, Any], pods: Path | None = None) -> list[dict[str, Any]]:
        """One job a recording, as prometheus.yml has them; with `pods`, a folder, from the files that are there."""

        def discovery(name: str, targets: list[tuple[int, str]]) -> dict[str, Any]:
            if pods is not None:
                return {"file_sd_configs": [{"files": [str(pods / f"{name}.json")], "refresh_interval": "1s"}]}
            return {"static_configs": [{"targets": [address for _, address in targets]}]}

        more = {"relabel_configs": _RELABELINGS, "metric_relabel_configs": _METRIC_RELABELINGS}
        return [
            {
                "job_name": name,
                "metrics_path": f"/{name}",
                **discovery(name, targets),
                **(more if self.openmetrics else {}),
                **plain,
            }
            for name, targets in self._jobs().items()
        ]

    def write_pods(self, folder: Path, turn: int) -> None:
        """Each target as a pod; with each turn one of 35 has another name."""
        for name, targets in self._jobs().items():
            groups = []
            for i, address in targets:
                # How often this one was replaced by then.
                times = (turn + _PODS - 1 - i % _PODS) // _PODS
                groups.append({"targets": [address], "labels": {"pod": f"pod-{i}-{times}"}})
            fresh = folder / f".{name}.json"
            fresh.write_text(json.dumps(groups))
            fresh.rename(folder / f"{name}.json")

    def serve(self, folder: Path) -> Process:
        """The process that is the targets."""
        files = []
        for name in dict.fromkeys(_MIX):
            path = folder / f"{name}.rec"
            with path.open("wb") as file:
                for at, body in itertools.islice(scrapes(RECORDINGS / f"{name}.rec.xz"), self.scrapes):
                    shown = shaped(body, series=self.series, openmetrics=self.openmetrics)
                    file.write(_SCRAPE_HEADER.pack(at, len(shown)) + shown)
            files.append(str(path))
        command = [str(REPLAY.path()), "--targets", str(self.count), "--port", str(self.port)]
        command += [*(["--openmetrics"] if self.openmetrics else []), *files]
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
