"""Tasks that run until they are cancelled: one that ends by itself has met a bug, and its owner is told.

The server's owner ends the process then, since a part that is silently missing is worse than a restart.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)
Failed = Callable[[BaseException], None]


def log_failure(error: BaseException) -> None:
    """What happens to a failure that has no other owner."""
    log.error("BUG: a task failed", exc_info=error)


def endless(work: Coroutine[Any, Any, None], *, name: str, failed: Failed) -> "asyncio.Task[None]":
    """Start the work; `failed` hears of any exception but cancellation."""
    task = asyncio.create_task(work, name=name)

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failed(error)

    task.add_done_callback(ended)
    return task
