"""Twenty minutes of pods that come and go: the server's memory must not grow. `make soak` runs it.

A real server scrapes real targets over HTTP, each second; file discovery replaces one of them every few seconds by a
pod of another name at another address. Rules are evaluated beside it, queries are asked, and each minute a snapshot
closes the files being written, so that retention, which is of minutes here, has some to delete. What is held is as much
at all times after the first minutes, and so must be the memory, mapped files included. Memory is looked at by a clock
of its own, and of each minute that counts which a tenth of the looks was below: it does not depend on when in a minute
queries take some for a moment, nor on one lucky look, and moves when the server holds more. The rest is shown too.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchmarkError
from bench.processes import Process, disk_bytes
from bench.replay import Targets, free_port
from bench.scratch import scratch

_ANSWER_SECONDS = 60
_ADDRESSES = 250
"""More than there are pods at a time: an address is another pod's only after minutes."""
_RETENTION = "3m"
_LOOK_SECONDS = 0.25
_RULES = {
    "groups": [
        {
            "name": "soak",
            "interval": "1s",
            "rules": [
                {"record": "pod:scraped:sum", "expr": "sum by (pod) (scrape_samples_scraped)"},
                {"record": "job:rate:sum", "expr": 'sum by (job, le) (rate({__name__=~".+_bucket"}[30s]))'},
                {"alert": "EachPod", "expr": "up == 1", "for": "5s", "labels": {"severity": "none"}},
            ],
        }
    ]
}
_QUERIES = (
    "up",
    "count by (__name__) ({job='app'})",
    "topk(5, sum by (pod) (rate(prometheus_http_requests_total[30s])))",
    "sum by (pod) (count_over_time({job='app'}[1m]))",
    "{pod=~'pod-.*3'}",
)


@dataclass(frozen=True)
class Reading:
    """The server in one minute."""

    seconds: float
    resident: Sequence[int]
    """Its memory, in bytes, as often as it was looked at."""
    disk: int
    numbers: dict[str, int]

    @property
    def low(self) -> float:
        """Of its memory: a tenth of the looks saw less."""
        return float(sorted(self.resident)[len(self.resident) // 10])


class Looks(threading.Thread):
    """How much memory a program has, looked at again and again whatever else is done."""

    def __init__(self, process: Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._resident: list[int] = []
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                seen = self._process.resident_bytes()
            except OSError:  # It has ended, which `Process.check` reports.
                return
            self._resident.append(seen)

    def taken(self) -> list[int]:
        """Since the last time, in bytes."""
        seen, self._resident = self._resident, []
        return seen

    def end(self) -> None:
        self._ended.set()


class Pods(threading.Thread):
    """Which pods there are, as file discovery reads it; one of them is replaced at an interval."""

    def __init__(self, file: Path, *, count: int, port: int, every_seconds: float) -> None:
        super().__init__(daemon=True)
        self._file, self._port, self._every_seconds = file, port, every_seconds
        self._numbers = itertools.count(count)
        self._pods = list(range(count))
        self.replaced = 0
        self._ended = threading.Event()
        self._write()

    def run(self) -> None:
        while not self._ended.wait(self._every_seconds):
            self._pods.pop(0)
            self._pods.append(next(self._numbers))
            self.replaced += 1
            self._write()

    def end(self) -> None:
        self._ended.set()

    def _write(self) -> None:
        targets = [
            {
                "targets": [f"127.0.1.{1 + number % _ADDRESSES}:{self._port}"],
                "labels": {"pod": f"pod-{number}", "instance": f"pod-{number}:8080"},
            }
            for number in self._pods
        ]
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(targets))
        fresh.replace(self._file)


class Soaked:
    """The server that is watched."""

    def __init__(self, folder: Path, configuration: dict[str, object]) -> None:
        self._folder, self._port = folder, free_port()
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        command = [
            *(sys.executable, "-m", "bellbuoy", "server"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--storage.retention={_RETENTION}",
            "--web.enable-admin-api",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self.process = Process(command, log=folder / "server.log")

    def ask(self, path: str, *, method: str = "GET", **parameters: str) -> str:
        form = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}{form}", method=method)
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            body: bytes = answer.read()
        return body.decode()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            self.process.check()
            try:
                self.ask("/-/ready")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def load(self) -> None:
        """What people and Grafana ask, once."""
        for query in _QUERIES:
            self.ask("/api/v1/query", query=query)
        now = time.time()
        span = {"start": f"{now - 120:.0f}", "end": f"{now:.0f}", "step": "5"}
        self.ask("/api/v1/query_range", query="sum by (pod) (rate(prometheus_http_requests_total[30s]))", **span)
        for path in (
            "/api/v1/targets",
            "/api/v1/metadata",
            "/api/v1/labels",
            "/api/v1/label/pod/values",
            "/api/v1/rules",
        ):
            self.ask(path)
        self.ask("/api/v1/series", **{"match[]": "up"})

    def snapshot(self) -> None:
        """Closes the files being written; the snapshot itself is not kept."""
        name = json.loads(self.ask("/api/v1/admin/tsdb/snapshot", method="POST"))["data"]["name"]
        shutil.rmtree(self._folder / "data" / "snapshots" / name)

    def reading(self, seconds: float, resident: Sequence[int]) -> Reading:
        numbers = {}
        for line in self.ask("/metrics").splitlines():
            name, _, value = line.partition(" ")
            if name.startswith("bellbuoy_"):
                numbers[name.removeprefix("bellbuoy_")] = int(float(value))
        disk = disk_bytes(self._folder / "data")
        return Reading(seconds=seconds, resident=resident, disk=disk, numbers=numbers)


def growth(readings: Sequence[Reading]) -> float:
    """By how much memory grew over the readings, as a part of its mean: along the line that fits best."""
    times = [one.seconds for one in readings]
    sizes = [one.low for one in readings]
    slope = statistics.linear_regression(times, sizes).slope
    return slope * (times[-1] - times[0]) / statistics.fmean(sizes)


def _line(reading: Reading, replaced: int) -> str:
    mib = 1 << 20
    shown = (
        "storage_series",
        "storage_groups",
        "storage_column_sets",
        "storage_columns",
        "storage_chunks",
        "storage_chunk_files",
    )
    numbers = "  ".join(f"{name.removeprefix('storage_')} {reading.numbers.get(name, 0)}" for name in shown)
    least, middle, most = min(reading.resident), statistics.median(reading.resident), max(reading.resident)
    parts = [
        f"{reading.seconds / 60:4.1f} min",
        f"RSS {reading.low / mib:.1f} MiB ({least / mib:.1f}, {middle / mib:.1f}, {most / mib:.1f})",
        f"disk {reading.disk / mib:.1f}",
        f"replaced {replaced}",
        numbers,
    ]
    return "  ".join(parts)


def soak(folder: Path, *, minutes: float, warm_up: float, pods: int, every_seconds: float) -> list[Reading]:
    """Readings of each minute after the warm-up."""
    targets = Targets(_ADDRESSES, free_port(), 240)
    rules, discovered = folder / "rules.yml", folder / "pods.json"
    rules.write_text(json.dumps(_RULES))
    coming_and_going = Pods(discovered, count=pods, port=targets.port, every_seconds=every_seconds)
    configuration: dict[str, object] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "app",
                "metrics_path": "/app",
                "file_sd_configs": [{"files": [str(discovered)], "refresh_interval": "1s"}],
            }
        ],
    }
    readings: list[Reading] = []
    with targets.serve(folder) as replay:
        targets.wait(replay)
        server = Soaked(folder, configuration)
        with server.process:
            server.wait_until_ready()
            looks = Looks(server.process)
            coming_and_going.start()
            looks.start()
            began = time.monotonic()
            try:
                for minute in itertools.count(1):
                    while time.monotonic() < began + 60 * minute:
                        server.process.check()
                        server.load()
                        time.sleep(1)
                    server.snapshot()
                    reading = server.reading(time.monotonic() - began, looks.taken())
                    print(_line(reading, coming_and_going.replaced), flush=True)
                    if minute > warm_up:
                        readings.append(reading)
                    if minute >= minutes:
                        break
            finally:
                coming_and_going.end()
                looks.end()
    if not readings[-1].numbers["storage_samples_appended_total"]:
        raise BenchmarkError("cannot say anything: the server stored nothing")
    return readings


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="how long (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=5, help="minutes that do not count (default: %(default)s)")
    parser.add_argument("--pods", type=int, default=20, help="of about 1,000 series each (default: %(default)s)")
    parser.add_argument(
        "--replace-seconds", type=float, default=3, help="one pod is replaced so often (default: %(default)s)"
    )
    parser.add_argument("--most", type=float, default=0.05, help="by what part memory may grow (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the storage and logs, and say where")
    chosen = parser.parse_args(arguments)
    with scratch("bellbuoy-soak-", keep=chosen.keep) as folder:
        try:
            readings = soak(
                folder,
                minutes=chosen.minutes,
                warm_up=chosen.warm_up,
                pods=chosen.pods,
                every_seconds=chosen.replace_seconds,
            )
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    grown = growth(readings)
    span = (readings[-1].seconds - readings[0].seconds) / 60
    samples = readings[-1].numbers["storage_samples_appended_total"]
    print(f"{samples} samples, on {os.cpu_count()} processors; RSS grew by {grown:+.2%} in the last {span:.0f} minutes")
    if grown > chosen.most:
        print(f"that is more than {chosen.most:.0%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
