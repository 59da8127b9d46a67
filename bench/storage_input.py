"""Rows for the storages: the scrapes of recordings as arrays, in one file that both map.

```text
length of a header, u64 LE | header, JSON: [{columns: [labels, …], rows, offset}, …] | spaces | rows of f64 LE
```
Column i of each row is series i of the recording; where a scrape has not got it, the row has a stale marker. What is
imported here counts as memory of ours, so it is little.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STALE_BITS = 0x7FF0000000000002
NAN_BITS = 0x7FF8000000000001
INTERVAL_MILLISECONDS = 15_000
# Targets that lie side by side are so many rows (seconds) apart: prime to the recordings' length.
STRIDE = 37


@dataclass(frozen=True)
class Recording:
    """Series, and their values a second apart."""

    columns: Sequence[dict[str, str]]
    rows: NDArray[np.float64]


def write(path: Path, recordings: Sequence[Recording]) -> None:
    """One file of all of them."""

    def header(offset: int) -> bytes:
        entries = []
        for one in recordings:
            entries.append({"columns": one.columns, "rows": len(one.rows), "offset": offset})
            offset += one.rows.nbytes
        return json.dumps(entries).encode()

    # Room for offsets of more digits.
    start = -(-(8 + len(header(0)) + 20 * len(recordings)) // 8) * 8
    text = header(start)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(b" " * (start - file.tell()))
        for one in recordings:
            file.write(one.rows.astype("<f8", copy=False).tobytes())


def read(path: Path) -> list[Recording]:
    """The file's rows, mapped."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    recordings = []
    for entry in entries:
        shape = (entry["rows"], len(entry["columns"]))
        rows = np.asarray(np.memmap(path, "<f8", "r", entry["offset"], shape))
        recordings.append(Recording(entry["columns"], rows))
    return recordings
