"""A block of Prometheus's: a folder with samples of some hours, after tsdb/docs/format of Prometheus.

```
01J…/                 its ULID: when it was made, and chance
  meta.json           from when to when, how many series
  index               symbols, series, postings; version 2
  chunks/000001       chunks of up to 120 samples, of numbers or of native histograms
  tombstones          what is deleted
```
Here is what writer and reader share: marks, the table of contents, and deletions. Numbers are big-endian.
"""

import struct
from typing import NamedTuple

from bellbuoy.tsdb.binary import Bytes, crc32c, read_uvarint, read_varint

INDEX_MAGIC, INDEX_VERSION = 0xBAAAD700, 2
CHUNKS_MAGIC, CHUNKS_VERSION = 0x85BD40DD, 1
TOMBSTONES_MAGIC, TOMBSTONES_VERSION = 0x0130BA30, 1
# Series and their references are counted in units of this.
SERIES_ALIGNMENT = 16
# Encodings of chunks: numbers, and native histograms with whole counts or with any.
XOR, HISTOGRAMS, FLOAT_HISTOGRAMS = 1, 2, 3
META, INDEX, CHUNKS, TOMBSTONES = "meta.json", "index", "chunks", "tombstones"
_TOC = struct.Struct(">6Q")


class DamagedError(ValueError):
    """A file of a block that cannot be read; the text says where in it, and what is wrong."""


class TableOfContents(NamedTuple):
    """Where the sections of an index begin; 0 for one that is not there."""

    symbols: int
    series: int
    label_indexes: int
    label_index_table: int
    postings: int
    postings_table: int

    def encode(self) -> bytes:
        """The index's last 52 bytes."""
        body = _TOC.pack(*self)
        return body + checksum(body)

    @classmethod
    def decode(cls, index: Bytes) -> "TableOfContents":
        """That of an index. Raises DamagedError."""
        at = len(index) - _TOC.size - 4
        if at < 5:
            raise DamagedError("it is too short to be an index")
        body = index[at : at + _TOC.size]
        check(body, index[at + _TOC.size :], at)
        return cls(*_TOC.unpack(body))


def checksum(body: Bytes) -> bytes:
    """The four bytes behind a section."""
    return crc32c(body).to_bytes(4, "big")


def check(body: Bytes, sum_: Bytes, at: int) -> None:
    """Raises DamagedError if the section that begins at a place has another checksum."""
    if checksum(body) != bytes(sum_):
        raise DamagedError(f"at offset {at}: the checksum does not fit")


def section(body: bytes) -> bytes:
    """With its length before it and its checksum behind it."""
    return len(body).to_bytes(4, "big") + body + checksum(body)


def read_section(data: Bytes, at: int) -> Bytes:
    """The body of the section at a place. Raises DamagedError."""
    length = int.from_bytes(data[at : at + 4], "big")
    end = at + 4 + length
    if end + 4 > len(data):
        raise DamagedError(f"at offset {at}: the section ends behind the file's end")
    body = data[at + 4 : end]
    check(body, data[end : end + 4], at)
    return body


def encode_tombstones() -> bytes:
    """A file without deletions."""
    return TOMBSTONES_MAGIC.to_bytes(4, "big") + bytes([TOMBSTONES_VERSION]) + checksum(b"")


def decode_tombstones(data: bytes) -> dict[int, list[tuple[int, int]]]:
    """First and last times of what is deleted, by the series' reference. Raises DamagedError."""
    if len(data) < 9 or int.from_bytes(data[:4], "big") != TOMBSTONES_MAGIC or data[4] != TOMBSTONES_VERSION:
        raise DamagedError("at offset 0: it does not begin as a tombstones file of version 1")
    body, at = data[5:-4], 0
    check(body, data[-4:], 5)
    out: dict[int, list[tuple[int, int]]] = {}
    while at < len(body):
        reference, at = read_uvarint(body, at)
        first, at = read_varint(body, at)
        last, at = read_varint(body, at)
        out.setdefault(reference, []).append((first, last))
    return out
