"""The server put together: opens the storage, keeps scraping and rules at what the configuration says, ends in order.

`Server.open()` replays the log on a thread while the health pages already answer. `apply()` takes a configuration
that has been read and checked; whatever does not differ goes on untouched. `close()` stops what writes before what is
written to.
"""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from bellbuoy._core import Scraper
from bellbuoy.configuration import resolve_path
from bellbuoy.http import Health
from bellbuoy.logs import fields
from bellbuoy.promql import Engine, EngineOptions
from bellbuoy.rules import Notifier, NotifierOptions, RuleManager
from bellbuoy.scrape import ScrapeManager
from bellbuoy.server.archiving import ArchiveTask
from bellbuoy.server.config import Loaded
from bellbuoy.server.metrics import CoreStats, ServerMetrics
from bellbuoy.server.notifications import RELOAD_FAILED, STARTING, STOPPING, Notifications
from bellbuoy.server.options import START_TIMESTAMPS, Options
from bellbuoy.server.parts import Parts, Replay
from bellbuoy.server.query_ledger import QueryLedger
from bellbuoy.server.query_log import QueryLog
from bellbuoy.server.query_pool import QueryPool
from bellbuoy.tsdb import Storage

log = logging.getLogger(__name__)


class Server:
    """One server. Its methods run in the loop, one after the other."""

    def __init__(self, options: Options, *, registry: CollectorRegistry, health: Health) -> None:
        self.options, self._registry, self._health = options, registry, health
        self._metrics = ServerMetrics(registry)
        self._parts: Parts | None = None
        self._scraper: Scraper | None = None
        self._archive: ArchiveTask | None = None
        self._configured = False
        self.replay = Replay()
        self.notifications = Notifications(most_listeners=options.notification_listeners)
        self.notifications.add(STARTING)
        self._query_log = QueryLog(registry)
        # The first task that failed by itself: the part ends with its error.
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Applying is one at a time: a reload and a signal may come together.
        self._applying = asyncio.Lock()

    def _failed(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)

    @property
    def parts(self) -> Parts:
        """What the API may ask; only once `waiting()` gives no reason."""
        if self._parts is None:
            raise RuntimeError("BUG: the storage is not open yet")
        return self._parts

    def waiting(self) -> str:
        """Why the API does not answer yet; empty when it does."""
        return "" if self._parts is not None else self._health.reason

    def _opening(self, what: str, done: int, count: int) -> None:
        """The core's word on how far it is, for the health page, the log and `status/walreplay`."""
        at = f"{what} {done + 1} of {count}" if count else f"{what}s"
        self._health.set_waiting(f"the storage is being opened: {at}")
        if what == "log segment":
            self.replay = Replay(done, count, "in progress")
            log.info("reading the log", extra=fields(segment=done + 1, segments=count))

    async def open(self) -> None:
        """Open the storage. Raises StorageError, with what to do."""
        self._health.set_waiting("the storage is being opened")
        options, loop = self.options, asyncio.get_running_loop()
        start = time.monotonic()
        options.storage_path.mkdir(parents=True, exist_ok=True)
        storage = await asyncio.to_thread(
            partial(
                Storage,
                str(options.storage_path),
                retention_seconds=options.retention_seconds,
                retention_bytes=options.retention_bytes,
                exemplars=options.max_exemplars,
                progress=lambda *said: loop.call_soon_threadsafe(self._opening, *said),
            )
        )
        self.replay = Replay(self.replay.segments, self.replay.segments, "done")
        for loss in storage.losses():
            log.warning("the storage was damaged", extra=fields(loss=loss))
        log.info(
            "storage is open",
            extra=fields(path=options.storage_path, seconds=round(time.monotonic() - start, 3), **storage.stats()),
        )
        engine = Engine(
            storage,
            EngineOptions(
                lookback_seconds=options.query.lookback_seconds,
                max_samples=options.query.max_samples,
                timeout_seconds=options.query.timeout_seconds,
            ),
        )
        self._scraper = Scraper(storage, threads=options.scrape_threads)
        notifier = Notifier(
            NotifierOptions(queue_alerts=options.notify_queue, external_url=options.rules.external_url),
            registry=self._registry,
            failed=self._failed,
        )
        self._parts = Parts(
            options=options,
            storage=storage,
            engine=engine,
            queries=QueryPool(
                concurrency=options.query.concurrency,
                timeout_seconds=options.query.timeout_seconds,
                registry=self._registry,
            ),
            scrape=ScrapeManager(
                self._scraper,
                registry=self._registry,
                failed=self._failed,
                start_timestamps=START_TIMESTAMPS in self.options.features,
            ),
            rules=RuleManager(
                engine=engine,
                storage=storage,
                options=options.rules,
                send=notifier.send,
                registry=self._registry,
                failed=self._failed,
            ),
            notifier=notifier,
            ledger=QueryLedger(self._query_log),
            registry=self._registry,
        )
        self.notifications.remove(STARTING)
        if options.archive is not None:
            self._archive = ArchiveTask(
                options.archive, storage, options.storage_path, registry=self._registry, failed=self._failed
            )
        self._registry.register(CoreStats("storage", storage.stats))
        self._registry.register(CoreStats("scraper", self._scraper.stats))
        self._health.set_waiting("no configuration yet")

    async def apply(self, loaded: Loaded) -> None:
        """Run by this configuration from now on."""
        async with self._applying:
            parts, config = self.parts, loaded.config
            external = config.global_.external_labels
            self._query_log.open(self._query_log_path(loaded))
            await parts.notifier.apply(config.alerting, base=loaded.base, external_labels=external)
            await parts.scrape.apply(config.scrape_configs, base=loaded.base, handed=loaded.handed)
            await parts.rules.apply(loaded.groups, external_labels=external)
            parts.config_yaml, parts.config_time, parts.reload_successful = loaded.yaml(), time.time(), True
            parts.external_labels = external
            self._metrics.reloaded(successful=True)
            self.notifications.remove(RELOAD_FAILED)
            if not self._configured:
                self._configured = True
                self._health.set_ready()

    def refused(self, error: Exception) -> None:
        """A configuration came that cannot be used; the last one stays."""
        self._metrics.reloaded(successful=False)
        self.notifications.add(RELOAD_FAILED)
        if self._parts is not None:
            self._parts.reload_successful = False
        if not self._configured:
            self._health.set_waiting(f"the configuration cannot be used: {error}")

    def _query_log_path(self, loaded: Loaded) -> Path | None:
        """Where the configuration, or else the flag, wants the query log."""
        if loaded.config.global_.query_log_file:
            return Path(resolve_path(loaded.config.global_.query_log_file, loaded.base or Path()))
        return self.options.query_log_file

    def stopping(self) -> None:
        """The end begins: who listens to notifications is told so, and let go."""
        self.notifications.add(STOPPING)
        self.notifications.end()

    async def close(self) -> None:
        """Stop everything; what was appended is durable afterwards."""
        self._query_log.close()
        if self._parts is None:
            return
        parts, self._parts = self._parts, None
        self._health.set_waiting("stopping")
        await parts.rules.stop()
        await parts.scrape.stop()
        await parts.notifier.stop()
        await parts.queries.close()
        if self._archive is not None:
            await self._archive.stop()
        if self._scraper is not None:
            await asyncio.to_thread(self._scraper.close)
        await asyncio.to_thread(parts.storage.close)
        log.info("storage is closed", extra=fields(path=self.options.storage_path))
