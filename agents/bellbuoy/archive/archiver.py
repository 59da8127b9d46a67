"""Writes each finished block of a storage to its archive, once.

```
 20260131T100000Z-20260131T120000Z.parquet         two hours of a regular block, whether it was merged meanwhile or not
 20260131T071502Z-20260131T113000Z-late.parquet    a block of samples that came when their two hours were written
```
A span is written as its block has it, and never again. What comes late is in a file of its own, without the samples
that another block has already: who reads all files has every sample once. When late blocks were merged before all of
them were written, the merged one's file replaces theirs. Deletions do not reach what is written.

A pass is of one thread; it may end anywhere, be it by a kill, and the next one goes on.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bellbuoy import optional
from bellbuoy.archive.block_source import BlockSource
from bellbuoy.archive.errors import ArchiveError
from bellbuoy.archive.options import ArchiveOptions
from bellbuoy.archive.progress import Progress
from bellbuoy.archive.state import StateFile
from bellbuoy.tsdb import Storage, StorageError

WINDOW_MS = 2 * 3_600_000
LATE = -(2**63)
# Blocks may be merged while they are read; then the pass begins anew.
TRIES = 10
# Nobody has so many files of one name.
NAMES = 1000
Block = dict[str, Any]


@dataclass
class Done:
    """What a pass wrote."""

    files: int = 0
    bytes: int = 0


class Archiver:
    """The archive of one data folder."""

    def __init__(self, options: ArchiveOptions, folder: Path) -> None:
        self._options, self._folder = options, folder

    def run(self, storage: Storage, progress: Progress, *, written: Callable[[int], None] = lambda _: None) -> Done:
        """Write what is finished and not there yet; `written` is told the bytes of each file.

        Raises ArchiveError, InterruptedByUserError, StorageError.
        """
        parquet = optional.load(
            "bellbuoy.archive.parquet", extra="parquet", otherwise=ArchiveError, cannot="write an archive"
        )
        store = optional.load(
            "bellbuoy.archive.store", extra="parquet", otherwise=ArchiveError, cannot="write an archive"
        )
        with _folder_for(self._folder / "archive.part") as part:
            state = StateFile(self._folder, self._options.url)
            work = _Pass(storage, state, store.open_store(self._options), parquet, part, progress, written)
            for _ in range(TRIES):
                try:
                    work.run()
                except KeyError:
                    continue
                return work.done
        raise ArchiveError("cannot write the archive: blocks were merged each time that they were read; try again")


@contextmanager
def _folder_for(path: Path) -> Iterator[Path]:
    """A folder for what is not whole yet; what a kill left there is deleted."""
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    except OSError as e:
        raise ArchiveError(f"cannot write {path}: {(e.strerror or str(e)).lower()}; free space on its disk") from e
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _Pass:
    """One look at all blocks."""

    def __init__(
        self,
        storage: Storage,
        file: StateFile,
        store: Any,
        parquet: Any,
        folder: Path,
        progress: Progress,
        written: Callable[[int], None],
    ) -> None:
        self._storage, self._file, self._store, self._parquet = storage, file, store, parquet
        self._folder, self._progress, self._written, self.done = folder, progress, written, Done()

    def run(self) -> None:
        """Raises KeyError when a block is gone; StorageError after all others, when one cannot be read."""
        state = self._file.state
        if state.writing:
            # It was cut off, perhaps just before it was written down; its block may be another by now.
            state.deleting.append(state.writing)
            state.writing = ""
            self._file.save()
        self._delete()
        blocks = self._storage.blocks()
        regular = sorted((one for one in blocks if one["end"] != LATE), key=lambda one: one["start"])
        late = sorted((one for one in blocks if one["end"] == LATE), key=lambda one: one["number"])
        damaged: StorageError | None = None
        for block in regular:
            for start in range(block["start"] // WINDOW_MS * WINDOW_MS, block["end"], WINDOW_MS):
                if str(start) not in state.windows:
                    source = BlockSource(self._storage, block["number"], start, start + WINDOW_MS - 1)
                    try:
                        state.windows[str(start)] = self._write(source, _name(start, start + WINDOW_MS)) or ""
                    except StorageError as e:
                        damaged = damaged or e
                        continue
                    self._file.save()
        written: list[Block] = list(regular)
        for block in late:
            try:
                if str(block["number"]) not in state.late:
                    self._write_late(block, written)
            except StorageError as e:
                damaged = damaged or e
            written.append(block)
        self._forget(regular, late)
        if damaged is not None:
            # One bad block costs itself; it is said at each pass until it is whole or gone.
            raise damaged

    def _write_late(self, block: Block, written: list[Block]) -> None:
        state = self._file.state
        known = [str(source) for source in block["sources"] if str(source) in state.late]
        files = [name for source in known for name in state.late[source]]
        if known and len(known) == len(block["sources"]):
            state.late[str(block["number"])] = files
        else:
            first, last = block["first"], block["last"]
            others = [one["number"] for one in written if one["first"] <= last and one["last"] >= first]
            source = BlockSource(self._storage, block["number"], first, last, without=others)
            name = self._write(source, f"{_name(first, last)}-late")
            state.late[str(block["number"])] = [name] if name else []
            state.deleting += files
        self._file.save()
        self._delete()

    def _write(self, source: BlockSource, base: str) -> str | None:
        """Write a file, unless there is nothing to be written; its name. The state is saved by the caller."""
        if source.start > source.end or not source.has_samples():
            return None
        state = self._file.state
        part = self._folder / f"{base}.parquet"
        before = self._progress.samples
        try:
            self._parquet.write(source, part, self._progress)
            size = part.stat().st_size
        except OSError as e:
            raise ArchiveError(
                f"cannot write {part}: {(e.strerror or str(e)).lower()}; free space there for two hours of samples"
            ) from e
        name = self._free(base)
        state.writing = name
        self._file.save()
        self._store.put(part, name, check=lambda: self._progress.done(0, name))
        part.unlink()
        state.writing = ""
        self.done.files += 1
        self.done.bytes += size
        self._written(size)
        self._progress.say(f"{name}: {self._progress.samples - before:,} samples, {size:,} bytes")
        return name

    def _free(self, base: str) -> str:
        """The first name that nobody has."""
        for number in range(1, NAMES):
            name = f"{base}.parquet" if number == 1 else f"{base}-{number}.parquet"
            if not self._store.exists(name):
                return name
        raise ArchiveError(f"cannot write {base}.parquet: {NAMES} such files are there; give each server a prefix")

    def _delete(self) -> None:
        state = self._file.state
        while state.deleting:
            self._store.delete(state.deleting[0])
            del state.deleting[0]
            self._file.save()

    def _forget(self, regular: list[Block], late: list[Block]) -> None:
        """What is of no block any more; of merged blocks the sources may be asked for until these are deleted."""
        state = self._file.state
        oldest = min((one["start"] for one in regular), default=None)
        numbers = {str(one["number"]) for one in late}
        windows = {at: name for at, name in state.windows.items() if oldest is None or int(at) > oldest - WINDOW_MS}
        kept = {number: names for number, names in state.late.items() if number in numbers}
        if (windows, kept) != (state.windows, state.late):
            state.windows, state.late = windows, kept
            self._file.save()


def _name(start: int, end: int) -> str:
    return f"{_time(start)}-{_time(end)}"


def _time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError, OSError):
        # Samples may have any timestamps, past the calendar's end, too.
        return str(milliseconds)
