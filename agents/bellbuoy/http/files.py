"""Files that survive a crash: replaced whole, on disk before the name points to them; unreadable ones set aside.

For small state that is written as one piece: configuration caches, silences, a pushgateway's groups; not time series.
"""

import logging
import os
import time
from pathlib import Path

from bellbuoy.logs import fields

log = logging.getLogger(__name__)


def write_atomically(path: Path, body: bytes, *, mode: int = 0o600) -> None:
    """Replace the file's content: after a crash it is the old one or the new one, never a mixture.

    Returns when the new one is durable. One writer a path: the temporary name is fixed, so a crash leaves at most one.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's names durable: a rename is lost in a crash before this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def quarantine(path: Path, *, reason: str) -> Path:
    """Set an unreadable file aside as `NAME.corrupt-TIME`, say so in the log, and return its new path."""
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
    path.rename(aside)
    log.error("file cannot be read and is set aside", extra=fields(path=path, aside=aside, reason=reason))
    return aside
