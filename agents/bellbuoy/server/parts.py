"""What the API's handlers may ask: the storage, the engine, the managers, and what the server knows of itself."""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from prometheus_client import CollectorRegistry

from bellbuoy.promql import Engine
from bellbuoy.rules import Notifier, RuleManager
from bellbuoy.scrape import ScrapeManager
from bellbuoy.server.options import Options
from bellbuoy.server.query_ledger import QueryLedger
from bellbuoy.server.query_pool import QueryPool
from bellbuoy.tsdb import Storage


@dataclass(frozen=True)
class Replay:
    """How far the log has been read when the storage is opened."""

    done: int = 0
    segments: int = 0
    state: str = "waiting"
    """`waiting`, `in progress` or `done`, as Prometheus says it."""

    def answer(self) -> dict[str, int | str]:
        """The data of `/api/v1/status/walreplay`: the first and the last segment, and the one being read."""
        return {"min": 0, "max": max(0, self.segments - 1), "current": self.done, "state": self.state}


@dataclass
class Parts:
    """All parts of one running server."""

    options: Options
    storage: Storage
    engine: Engine
    queries: QueryPool
    scrape: ScrapeManager
    rules: RuleManager
    notifier: Notifier
    ledger: QueryLedger
    registry: CollectorRegistry
    started: float = field(default_factory=time.time)
    config_yaml: str = ""
    external_labels: Mapping[str, str] = field(default_factory=dict)
    config_time: float = 0.0
    reload_successful: bool = False

    def global_url(self, url: str) -> str:
        """A target's URL as others reach it: this machine's name in place of localhost."""
        split = urlsplit(url)
        if split.hostname not in ("localhost", "127.0.0.1", "::1"):
            return url
        host = socket.gethostname()
        return urlunsplit(split._replace(netloc=f"{host}:{split.port}" if split.port else host))
