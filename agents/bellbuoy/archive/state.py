"""What of a data folder is in which archive: a file beside the blocks, `archive.json`.

The archive's own listing would not tell it: blocks are merged and numbered anew, windows can be without a sample, and
a name may be that of a file which another server wrote. It is written before a file gets its name there (`writing`)
and after it: who is killed in between deletes that file and writes it again.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bellbuoy.archive.errors import ArchiveError

FILE = "archive.json"
VERSION = 1


@dataclass
class State:
    """Of one archive."""

    windows: dict[str, str] = field(default_factory=dict)
    """The file of each two hours, by their start in milliseconds; empty where there was no sample."""
    late: dict[str, list[str]] = field(default_factory=dict)
    """The files with the samples of each block of late ones, by its number."""
    writing: str = ""
    """The file that is being written."""
    deleting: list[str] = field(default_factory=list)
    """Files that others have replaced."""


class StateFile:
    """The states of all archives of a data folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self._path, self._url = folder / FILE, url
        self._all: dict[str, Any] = {}
        self.state = State()
        try:
            read = json.loads(self._path.read_bytes())
            if read["version"] != VERSION:
                raise ArchiveError(
                    f"cannot read {self._path}: it has version {read['version']}; use the newer Bellbuoy that wrote it"
                )
            self._all = dict(read["archives"])
            if url in self._all:
                self.state = State(**self._all[url])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ArchiveError(
                f"cannot read {self._path}: {e}; put back a copy, or move it away: all blocks are then written anew, "
                "under other names"
            ) from e

    def save(self) -> None:
        """Make it durable."""
        self._all[self._url] = asdict(self.state)
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump({"version": VERSION, "archives": self._all}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path)
        except OSError as e:
            raise ArchiveError(
                f"cannot write {self._path}: {(e.strerror or str(e)).lower()}; free space on its disk"
            ) from e
