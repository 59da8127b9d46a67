"""Runs queries on threads: so many at a time, each with an end, and none for a client that has left.

A query is plain code that asks `cancelled()` now and then. The pool answers by raising `QueryTimeout` when the time
is up, waiting included, and `QueryCanceled` when the client is gone; the thread ends at its next look.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bellbuoy.promql import QueryCanceled, QueryTimeout
from bellbuoy.server.query_cost import Cost

T = TypeVar("T")
# How often we look whether the client is still there.
LOOK_SECONDS = 0.1


class QueryPool:
    """The threads and their queue."""

    def __init__(self, *, concurrency: int, timeout_seconds: float, registry: CollectorRegistry) -> None:
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="query")
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout_seconds = timeout_seconds
        self._running = Gauge("bellbuoy_queries_running", "Queries that run now.", registry=registry)
        self._waiting = Gauge("bellbuoy_queries_waiting", "Queries that wait for a thread.", registry=registry)
        self._seconds = Histogram(
            "bellbuoy_query_duration_seconds", "Time of a query, waiting included.", registry=registry
        )
        self._ended = Counter(
            "bellbuoy_queries_aborted", "Queries that ended early, by reason.", ["reason"], registry=registry
        )

    async def run(
        self,
        request: web.Request,
        work: Callable[[Callable[[], bool]], T],
        *,
        timeout_seconds: float | None = None,
        cost: Cost | None = None,
    ) -> T:
        """What `work(cancelled)` returns; `cost` is told. Raises what it raises, QueryTimeout or QueryCanceled."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        limit = self._timeout_seconds if timeout_seconds is None else min(timeout_seconds, self._timeout_seconds)
        end = start + limit
        with self._waiting.track_inprogress():
            try:
                await asyncio.wait_for(self._slots.acquire(), limit)
            except TimeoutError:
                self._ended.labels("timeout").inc()
                raise QueryTimeout("query timed out in query queue") from None
        gone = threading.Event()
        if cost is not None:
            cost.queue_seconds = loop.time() - start
            work = _metered(work, cost)
        future = loop.run_in_executor(self._executor, work, gone.is_set)
        # The slot is the thread's: it is free when the thread is, even if nobody waits any more.
        future.add_done_callback(lambda _: self._slots.release())
        try:
            with self._running.track_inprogress():
                while True:
                    done, _ = await asyncio.wait([future], timeout=min(LOOK_SECONDS, max(0.0, end - loop.time())))
                    if done:
                        return future.result()
                    if request.transport is None or request.transport.is_closing():
                        self._ended.labels("client gone").inc()
                        raise QueryCanceled("query was canceled in query execution")
                    if loop.time() >= end:
                        self._ended.labels("timeout").inc()
                        raise QueryTimeout("query timed out in expression evaluation")
        finally:
            gone.set()
            if not future.done():
                future.add_done_callback(_forget)
            self._seconds.observe(loop.time() - start)

    async def close(self) -> None:
        """Wait for what runs."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)


def _metered(work: Callable[[Callable[[], bool]], T], cost: Cost) -> Callable[[Callable[[], bool]], T]:
    def run(cancelled: Callable[[], bool]) -> T:
        start = time.thread_time()
        try:
            return work(cancelled)
        finally:
            cost.cpu_seconds += time.thread_time() - start

    return run


def _forget(future: "asyncio.Future[T]") -> None:
    if not future.cancelled():
        future.exception()
