"""What the alertmanager knows, on disk: one small file for each of silences, notification log and alerts.

A file is replaced as a whole, so that a crash leaves the old or the new one; it says its version and has a checksum.

    offset  0  magic      "BBAM"
            4  version    1 byte, 1
            5  kind       1 byte: "s" silences, "n" notification log, "a" alerts
            6  reserved   2 bytes, 0
            8  length     8 bytes, little endian, of the body
           16  checksum   32 bytes, SHA-256 of the body
           48  body       JSON

A file that cannot be read is set aside and said in the log; the part goes on without it. One of a later version is an
error: setting it aside would lose what a newer program wrote.
"""

import asyncio
import fcntl
import logging
import os
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from bellbuoy.errors import CannotError
from bellbuoy.http.files import quarantine, write_atomically
from bellbuoy.logs import fields

log = logging.getLogger(__name__)

MAGIC = b"BBAM"
VERSION = 1
_HEADER = struct.Struct("<4sBc2xQ32s")


class StateError(CannotError):
    """A state file that cannot be used; the text names it and says what to do."""


class _DamagedError(ValueError):
    """Bytes that are no state file."""


class LaterVersionError(ValueError):
    """Bytes that a later program wrote."""


def lock_folder(folder: Path, *, flag: str = "--storage.path") -> int:
    """Hold the folder for this process, until the descriptor is closed or the process ends. Raises StateError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as e:
        raise StateError(f"cannot use folder {folder}: {e.strerror}; set {flag} to one that we may write") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        raise StateError(
            f"cannot use folder {folder}: another process holds it; end it, or set {flag} to another"
        ) from e
    return descriptor


def encode(kind: bytes, content: Any) -> bytes:
    """A state file's bytes."""
    body = orjson.dumps(content)
    return _HEADER.pack(MAGIC, VERSION, kind, len(body), sha256(body).digest()) + body


def decode(kind: bytes, data: bytes) -> Any:
    """The content of a state file. Raises ValueError with the reason."""
    if len(data) < _HEADER.size:
        raise _DamagedError(f"it has {len(data)} bytes, its header alone has {_HEADER.size}")
    magic, version, of_kind, length, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise _DamagedError(f"it begins with {magic!r}, not {MAGIC!r}")
    if version > VERSION:
        raise LaterVersionError(f"it has version {version}, this program reads up to {VERSION}")
    if version < 1:
        raise _DamagedError(f"it has version {version}, there was none before 1")
    if of_kind != kind:
        raise _DamagedError(f"it is of kind {of_kind!r}, not {kind!r}")
    body = data[_HEADER.size :]
    if len(body) != length:
        raise _DamagedError(f"its body has {len(body)} bytes, not {length}")
    if sha256(body).digest() != checksum:
        raise _DamagedError("its checksum is wrong")
    return orjson.loads(body)


class StateFile:
    """One file and the content that `dump` gives for it. Changes that come while it is written share the next write.

    `run()` writes what `changed()` reports, `delay_seconds` after the first report; `saved()` waits until all that was
    changed before the call is on disk, and does not wait for the delay.
    """

    def __init__(
        self,
        path: Path,
        *,
        kind: bytes,
        dump: Callable[[], Any],
        load: Callable[[Any], None],
        delay_seconds: float = 0.0,
    ) -> None:
        self._path, self._kind, self._dump, self._load = path, kind, dump, load
        self._delay_seconds = delay_seconds
        self._dirty, self._hurry = asyncio.Event(), asyncio.Event()
        self._wanted = self._written = 0
        self._done = asyncio.Condition()

    def load(self) -> None:
        """Hand the file's content to its owner; a damaged file is set aside. Raises StateError."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as e:
            raise StateError(f"cannot read {self._path}: {e.strerror}; see its owner and mode") from e
        try:
            content = decode(self._kind, data)
            self._load(content)
        except LaterVersionError as e:
            raise StateError(f"cannot use {self._path}: {e}; run the later program, or move the file away") from e
        except (ValueError, KeyError, TypeError) as e:
            quarantine(self._path, reason=str(e))
            return
        log.info("state loaded", extra=fields(path=self._path, bytes=len(data)))

    def changed(self) -> None:
        """The content has changed: write it soon."""
        self._wanted += 1
        self._dirty.set()

    async def saved(self) -> None:
        """Return when every change so far is on disk."""
        wanted = self._wanted
        self._hurry.set()
        async with self._done:
            await self._done.wait_for(lambda: self._written >= wanted)

    async def run(self) -> None:
        """Write changes until cancelled; an error of the disk ends it, and with it the part."""
        while True:
            await self._dirty.wait()
            if self._delay_seconds and not self._hurry.is_set():
                try:
                    async with asyncio.timeout(self._delay_seconds):
                        await self._hurry.wait()
                except TimeoutError:
                    pass
            self._dirty.clear()
            self._hurry.clear()
            await self._write()

    async def close(self) -> None:
        """Write what is not yet written. Called when `run()` has ended."""
        if self._written < self._wanted:
            await self._write()

    async def _write(self) -> None:
        wanted = self._wanted
        data = encode(self._kind, self._dump())
        try:
            await asyncio.to_thread(write_atomically, self._path, data)
        except OSError as e:
            raise StateError(
                f"cannot write {self._path}: {e.strerror}; see the disk's space and the folder's mode"
            ) from e
        async with self._done:
            self._written = max(self._written, wanted)
            self._done.notify_all()
