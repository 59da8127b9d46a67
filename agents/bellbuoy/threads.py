"""Work that takes its thread, done beside an event loop which hears signals meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def until_stopped(work: Callable[[Callable[[], bool]], T], stop: asyncio.Event) -> T:
    """What `work(stopped)` returns, on a thread of its own; it is waited for, and `stopped` tells it when to end."""
    told = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, told.is_set))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    told.set()
    return await running
