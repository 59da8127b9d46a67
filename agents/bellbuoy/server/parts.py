"""What the API's handlers may ask: the storage, the engine, the managers, and what the server knows of itself."""

import socket
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from bellbuoy.promql import Engine
from bellbuoy.rules import Notifier, RuleManager
from bellbuoy.scrape import ScrapeManager
from bellbuoy.server.options import Options
from bellbuoy.server.query_pool import QueryPool
from bellbuoy.tsdb import Storage


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
    started: float = field(default_factory=time.time)
    config_yaml: str = ""
    config_time: float = 0.0
    reload_successful: bool = False

    def global_url(self, url: str) -> str:
        """A target's URL as others reach it: this machine's name in place of localhost."""
        split = urlsplit(url)
        if split.hostname not in ("localhost", "127.0.0.1", "::1"):
            return url
        host = socket.gethostname()
        return urlunsplit(split._replace(netloc=f"{host}:{split.port}" if split.port else host))
