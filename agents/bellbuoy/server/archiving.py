"""The archive of a running server: finished blocks are written to it in the background.

Queries do not need it and nothing waits for it. A pass that fails is tried again after a while, longer each time; the
log says when it begins to fail and when it works again, the metrics say the rest.
"""

import asyncio
import io
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from bellbuoy.archive import ArchiveError, ArchiveOptions, Archiver, Done
from bellbuoy.archive.errors import InterruptedByUserError
from bellbuoy.archive.progress import Progress
from bellbuoy.logs import fields
from bellbuoy.tsdb import Storage, StorageError

log = logging.getLogger(__name__)


class ArchiveTask:
    """Writes to the archive until it is stopped; what it writes then is cut off, and written after the next start."""

    def __init__(
        self,
        options: ArchiveOptions,
        storage: Storage,
        folder: Path,
        *,
        registry: CollectorRegistry,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._options, self._storage, self._failed = options, storage, failed
        self._archiver = Archiver(options, folder)
        self._stop, self._told = asyncio.Event(), threading.Event()
        self._files = Counter(
            "bellbuoy_archive_blocks", "Blocks written to the archive, a file each.", registry=registry
        )
        self._bytes = Counter("bellbuoy_archive_bytes", "Bytes of Parquet written to the archive.", registry=registry)
        self._failures = Counter(
            "bellbuoy_archive_failures", "Times that writing to the archive failed.", registry=registry
        )
        self._success = Gauge(
            "bellbuoy_archive_last_success_timestamp_seconds",
            "When all finished blocks were last known to be in the archive.",
            registry=registry,
        )
        self._task = asyncio.get_running_loop().create_task(self._work(), name="archive")

    async def stop(self) -> None:
        """End, within the time of one piece of work."""
        self._stop.set()
        self._told.set()
        await self._task

    async def _work(self) -> None:
        failures = 0
        log.info("the archive is on", extra=fields(url=self._options.url))
        while not self._stop.is_set():
            try:
                done = await asyncio.to_thread(self._run)
            except (ArchiveError, StorageError) as e:
                failures += 1
                self._failures.inc()
                if failures == 1:
                    log.warning("the archive cannot be written", extra=fields(url=self._options.url, error=e))
            except InterruptedByUserError:
                return
            except BaseException as e:
                # A mistake of ours: the server ends by it.
                self._failed(e)
                raise
            else:
                self._success.set_to_current_time()
                if failures:
                    log.info("the archive is written again", extra=fields(url=self._options.url, failures=failures))
                failures = 0
                if done.files:
                    log.info("blocks are archived", extra=fields(files=done.files, bytes=done.bytes))
            await self._wait(failures)

    def _run(self) -> Done:
        # It tells of each file; a server's log has a line for a pass.
        progress = Progress("archive", stopped=self._told.is_set, out=io.StringIO())
        written = Done()

        def count(size: int) -> None:
            written.files += 1
            written.bytes += size
            self._files.inc()
            self._bytes.inc(size)

        self._archiver.run(self._storage, progress, written=count)
        return written

    async def _wait(self, failures: int) -> None:
        seconds = self._options.interval_seconds
        if failures:
            # The exponent has a bound, as the float has.
            seconds = min(self._options.retry_max_seconds, self._options.retry_seconds * 2.0 ** min(failures - 1, 60))
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
