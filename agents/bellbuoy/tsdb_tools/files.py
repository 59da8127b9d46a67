"""The files of a data folder, with what each has and what of it is whole.

They are looked at and not opened as a storage: no lock, no log that is replayed, nothing set aside. So it works
beside a server, and on a folder that a server refuses. Files that a server deletes meanwhile are left out; their
samples are in others.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bellbuoy.tsdb import StorageError, inspect_file
from bellbuoy.tsdb_tools.errors import DamagedError

# Kind, folder, ending: blocks first, and the catalog last, so that it knows all that the others refer to.
NUMBERED = (("block", "blocks", "block"), ("chunks", "chunks", "chunks"), ("log", "wal", "wal"))
SINGLE = (("tombstones", "tombstones"), ("catalog", "catalog"))
IDS = ("groups", "sets", "series")
LATE = -(2**63)
# A server's write is done by then, and what was half written is whole.
SECOND_LOOK_SECONDS = 1.0
# Who has not written for so long is not writing.
WRITING_SECONDS = 10.0


@dataclass(frozen=True)
class Damage:
    """A place that is not whole."""

    at: int
    """Byte of the file."""
    reason: str


@dataclass(frozen=True)
class DataFile:
    """One file and its facts, as `bellbuoy._core.inspect_file` names them."""

    kind: str
    path: Path
    number: int
    """Of its name; 0 where the name has none."""
    bytes: int
    facts: Mapping[str, int]
    ids: Mapping[str, frozenset[int]]
    damage: tuple[Damage, ...]

    @property
    def late(self) -> bool:
        """Whether it is a block of samples that came after their two hours were written."""
        return self.facts.get("end") == LATE

    def times(self) -> tuple[int, int] | None:
        """A regular block's span; of other files the first and the last sample. None when there are no samples."""
        if self.kind == "block" and self.facts and not self.late:
            return self.facts["start"], self.facts["end"]
        return (self.facts["first"], self.facts["last"]) if "first" in self.facts else None


def find(folder: Path) -> list[tuple[str, Path]]:
    """Kind and path of each file, in order. Raises DamagedError when it is no data folder."""
    found = [
        (kind, path)
        for kind, below, ending in NUMBERED
        for path in sorted((folder / below).glob(f"*.{ending}"))
        if re.fullmatch(r"\d+", path.stem)
    ]
    found += [(kind, folder / name) for kind, name in SINGLE if (folder / name).is_file()]
    if not found:
        raise DamagedError(
            f"cannot look at {folder}: it is no data folder; name the one of --storage.path of the server"
        )
    return found


def set_aside(folder: Path) -> list[Path]:
    """Copies of damaged files that a server kept."""
    return sorted(path for path in folder.rglob("*.damaged") if path.is_file())


def look(kind: str, path: Path, *, deep: bool = False) -> DataFile | None:
    """The file's facts; None when it is there no more."""
    try:
        size = path.stat().st_size
        facts: dict[str, Any] = inspect_file(kind, str(path), deep=deep)
    except (StorageError, OSError) as e:
        if not path.exists():
            return None
        size, facts = 0, {"ids": {}, "damage": [(0, str(e))]}
    ids = {name: frozenset(numbers) for name, numbers in facts.pop("ids").items()}
    damage = tuple(Damage(at, reason) for at, reason in facts.pop("damage"))
    number = int(path.stem) if path.stem.isdecimal() else 0
    return DataFile(kind, path, number, size, facts, ids, damage)


def read(folder: Path, *, deep: bool = False) -> Iterator[DataFile]:
    """All files, one after the other."""
    for kind, path in find(folder):
        if (file := look(kind, path, deep=deep)) is not None:
            yield file


def settle(files: list[DataFile]) -> list[DataFile]:
    """The files, looked at again where a server may have been writing: damage is what is still there."""
    now = time.time()
    fresh = [
        file for file in files if file.damage and file.kind != "block" and now - _changed(file.path) < WRITING_SECONDS
    ]
    if not fresh:
        return files
    time.sleep(SECOND_LOOK_SECONDS)
    again = {file.path: look(file.kind, file.path, deep=True) for file in fresh}
    out = []
    for file in files:
        second = again.get(file.path, file)
        if second is not None:
            before = {one.at for one in file.damage}
            out.append(replace(second, damage=tuple(one for one in second.damage if one.at in before)))
    return out


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
