"""The servers that are compared: how each is started on a prometheus.yml, and what each says of itself.

Samples are counted by each server's own counter of what it appended, those it adds to a scrape (`up` and the like)
included: Bellbuoy and Prometheus add the same five, VictoriaMetrics a few more. The reference is Prometheus 3.16, built
from its pinned module, unless another program of it is given.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchmarkError
from bench.processes import Process
from bench.programs import PROMETHEUS, VICTORIA

_ANSWER_SECONDS = 120
_READY_SECONDS = 60


@dataclass(frozen=True)
class Kind:
    """A program that scrapes by a prometheus.yml and answers the Prometheus API."""

    name: str
    storage_flag: str
    appended: str
    """Its counter of samples that it stored; a metric's name."""
    command: tuple[str, ...]
    config_flag: str = "config.file"
    listen_flag: str = "web.listen-address"
    ready: str = "/-/ready"
    # On by default, and in Prometheus before 2.49 no setting.
    plain: Mapping[str, Any] = field(default_factory=lambda: {"enable_compression": False})
    """What a scrape configuration says to be shown bodies as they are."""
    features: tuple[str, ...] = ()
    """Flags that let it store all that it can."""

    def start(
        self,
        folder: Path,
        *,
        configuration: str,
        port: int,
        features: bool = False,
        storage: Path | None = None,
        flags: Sequence[str] = (),
    ) -> "Server":
        """A server with an empty storage, or on one that is there; it is ready soon."""
        folder.mkdir(parents=True)
        file, storage = folder / "prometheus.yml", storage or folder / "data"
        file.write_text(configuration)
        command = [
            *self.command,
            f"--{self.config_flag}={file}",
            f"--{self.storage_flag}={storage}",
            f"--{self.listen_flag}=127.0.0.1:{port}",
            *(self.features if features else ()),
            *flags,
        ]
        return Server(self, Process(command, log=folder / "log"), f"http://127.0.0.1:{port}", storage)


OURS = Kind(
    "bellbuoy",
    "storage.path",
    "bellbuoy_storage_samples_appended_total",
    (str(Path(sys.executable).with_name("bellbuoy")), "server"),
)


def theirs(program: Path | None = None) -> Kind:
    """Prometheus: this program of it, or the pinned one, which is built first if need be."""
    command = (str(program or PROMETHEUS.path()),)
    features = ("--enable-feature=exemplar-storage,metadata-wal-records",)
    counter = "prometheus_tsdb_head_samples_appended_total"
    return Kind("prometheus", "storage.tsdb.path", counter, command, features=features)


def victoria() -> Kind:
    """VictoriaMetrics, single-node; it is built first if need be. Raises BenchmarkError where that fails."""
    more = (
        # It has not all that a prometheus.yml may say.
        "--promscrape.config.strictParse=false",
        "--promscrape.fileSDCheckInterval=1s",
        # What was scraped last is asked for.
        "--search.latencyOffset=0s",
        "--search.disableCache",
        "--loggerLevel=WARN",
        "--retentionPeriod=15d",
    )
    return Kind(
        "victoriametrics",
        "storageDataPath",
        "vm_rows_inserted_total",
        (str(VICTORIA.path()), *more),
        config_flag="promscrape.config",
        listen_flag="httpListenAddr",
        ready="/health",
        plain={"disable_compression": True},
    )


@dataclass(frozen=True)
class Server:
    """A server that runs; leaving the block ends it."""

    kind: Kind
    process: Process
    url: str
    storage: Path

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.__exit__(None, None, None)

    def wait_until_ready(self) -> None:
        """Until it says so."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            self.process.check()
            try:
                self._get(self.kind.ready)
            except (OSError, BenchmarkError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def wait_until_scraping(self) -> None:
        """Until it has stored something: Prometheus takes five seconds to hear of its targets."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self.samples():
            self.process.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(
                    f"cannot measure {self.kind.name}: it stored nothing within {_READY_SECONDS} s, "
                    f"or /metrics has no {self.kind.appended}; see {self.process.log}"
                )
            time.sleep(0.1)

    def samples(self) -> int:
        """How many it has stored so far; a counter that is not there yet has counted none."""
        text = self._get("/metrics")
        values = re.findall(rf"^{self.kind.appended}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return round(sum(float(value) for value in values))

    def query(self, expression: str, *, at: float) -> float:
        """An instant query's one value; 0 if there is none."""
        form = urllib.parse.urlencode({"query": expression, "time": f"{at:.3f}"})
        result = json.loads(self._get(f"/api/v1/query?{form}"))["data"]["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def _get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.url + path, timeout=_ANSWER_SECONDS) as answer:
                body: bytes = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            raise BenchmarkError(f"cannot ask {self.kind.name} for {path}: {error.code}: {said}") from error
        except TimeoutError as error:
            raise BenchmarkError(f"cannot ask {self.kind.name} for {path}: no answer in {_ANSWER_SECONDS} s") from error
        return body.decode()
