"""Reads a block of Prometheus's: its index from end to end, and the chunks of some thousand series at a time.

All files are mapped, every checksum is looked at. What is deleted in it is left out. Chunks of numbers are decoded side
by side, those of native histograms by the core, one after the other.
"""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bellbuoy.archive.source import Ints, Samples
from bellbuoy.tsdb import Histograms, LabelSets, decode_histogram_chunk, xor
from bellbuoy.tsdb.binary import CutOffError, crc32c_of_each, read_uvarint, read_varint
from bellbuoy.tsdb_tools import block_format as form
from bellbuoy.tsdb_tools.errors import ImportDataError

# How many samples are decoded side by side, and handed over at once.
BATCH_SAMPLES = 250_000
# As many samples as one of a histogram counts for.
HISTOGRAM_WEIGHT = 20


@dataclass
class _Batch:
    """Chunks that are decoded together: whose they are, in which file and where, and their bytes."""

    labels: list[dict[str, str]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    places: list[tuple[Path, int]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    deleted: list[list[tuple[int, int]]] = field(default_factory=list)
    samples: int = 0


class BlockReader:
    """A block's samples. Raises ImportDataError, which names the file and the offset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = read_meta(path)
        self._index = _mapped(path / form.INDEX)
        segments = sorted(one for one in (path / form.CHUNKS).iterdir() if one.name.isdecimal())
        self._segments = [(one, _mapped(one)) for one in segments]
        for one, data in self._segments:
            if int.from_bytes(data[:4], "big") != form.CHUNKS_MAGIC or data[4:5] != bytes([form.CHUNKS_VERSION]):
                raise damaged(one, "at offset 0: it does not begin as a file of chunks of version 1")
        tombstones = path / form.TOMBSTONES
        try:
            self._deleted = form.decode_tombstones(tombstones.read_bytes()) if tombstones.exists() else {}
        except (form.DamagedError, CutOffError) as e:
            raise damaged(tombstones, str(e)) from e

    def samples(self) -> Iterator[Samples]:
        """All of them, series by series, in batches."""
        batch = _Batch()
        for reference, labels, chunks in self._series():
            deleted = self._deleted.get(reference, [])
            for place in chunks:
                path, at, encoding, body, sum_ = self._chunk(place)
                if encoding not in (form.XOR, form.HISTOGRAMS, form.FLOAT_HISTOGRAMS):
                    raise damaged(path, f"at offset {at}: a chunk has the unknown encoding {encoding}")
                if not batch.labels or batch.labels[-1] is not labels:
                    batch.labels.append(labels)
                batch.owners.append(len(batch.labels) - 1)
                batch.places.append((path, at))
                batch.bodies.append(body)
                batch.sums.append(sum_)
                batch.deleted.append(deleted)
                samples = int.from_bytes(body[1:3], "big")
                batch.samples += samples * (1 if encoding == form.XOR else HISTOGRAM_WEIGHT)
            if batch.samples >= BATCH_SAMPLES:
                yield _decode(batch)
                batch = _Batch()
        if batch.bodies:
            yield _decode(batch)

    def _series(self) -> Iterator[tuple[int, dict[str, str], list[int]]]:
        """Reference, labels and the places of the chunks of each series."""
        path, index = self.path / form.INDEX, self._index
        if int.from_bytes(index[:4], "big") != form.INDEX_MAGIC:
            raise damaged(path, "at offset 0: it does not begin as an index")
        if index[4] != form.INDEX_VERSION:
            raise ImportDataError(
                f"cannot import {path}: it has version {index[4]}, and we read version {form.INDEX_VERSION}; "
                "let a Prometheus of version 2 rewrite the block: start it on the folder, and wait for its compaction"
            )
        at = 0
        try:
            toc = form.TableOfContents.decode(index)
            symbols = _symbols(bytes(form.read_section(index, toc.symbols)))
            end = min((one for one in toc if one > toc.series), default=len(index))
            at = toc.series
            while toc.series and (at := -(-at // form.SERIES_ALIGNMENT) * form.SERIES_ALIGNMENT) < end:
                length, start = read_uvarint(index, at)
                if not length:
                    at += 1
                    continue
                body = bytes(index[start : start + length])
                form.check(body, index[start + length : start + length + 4], at)
                yield at // form.SERIES_ALIGNMENT, *_entry(body, symbols)
                at = start + length + 4
        except form.DamagedError as e:
            raise damaged(path, str(e)) from e
        except (CutOffError, IndexError, UnicodeDecodeError) as e:
            raise damaged(path, f"at offset {at}: what stands there is no series") from e

    def _chunk(self, place: int) -> tuple[Path, int, int, bytes, int]:
        """File and offset of a chunk, its encoding, its encoding and data, its checksum."""
        number, at = place >> 32, place & 0xFFFFFFFF
        if number >= len(self._segments):
            raise damaged(self.path / form.CHUNKS, f"file {number + 1:06}, which the index names, is not there")
        path, data = self._segments[number]
        try:
            length, start = read_uvarint(data, at)
        except CutOffError as e:
            raise damaged(path, str(e)) from e
        end = start + 1 + length
        if end + 4 > len(data) or length < 2:
            raise damaged(path, f"at offset {at}: the chunk does not fit into the file")
        return path, at, data[start], bytes(data[start:end]), int.from_bytes(data[end : end + 4], "big")


def read_meta(path: Path) -> dict[str, object]:
    """A block's meta.json. Raises ImportDataError."""
    try:
        meta = json.loads((path / form.META).read_bytes())
    except ValueError as e:
        raise damaged(path / form.META, str(e)) from e
    if not isinstance(meta, dict) or not {"minTime", "maxTime", "ulid"} <= meta.keys():
        raise damaged(path / form.META, "it has not the fields ulid, minTime and maxTime")
    if meta.get("version") != 1:
        raise ImportDataError(
            f"cannot import {path / form.META}: it has version {meta.get('version')}, and we read version 1"
        )
    return meta


def damaged(path: Path, reason: str) -> ImportDataError:
    """A file of a block that is not what it should be."""
    return ImportDataError(
        f"cannot import {path}: {reason}; copy the block anew, or take it out of the folder to import the others"
    )


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""
        return memoryview(whole)


def _symbols(body: bytes) -> list[str]:
    out, at = [], 4
    for _ in range(int.from_bytes(body[:4], "big")):
        length, at = read_uvarint(body, at)
        out.append(body[at : at + length].decode())
        at += length
    return out


def _entry(body: bytes, symbols: list[str]) -> tuple[dict[str, str], list[int]]:
    """Labels and the places of chunks."""
    count, at = read_uvarint(body, 0)
    labels = {}
    for _ in range(count):
        name, at = read_uvarint(body, at)
        value, at = read_uvarint(body, at)
        labels[symbols[name]] = symbols[value]
    count, at = read_uvarint(body, at)
    places: list[int] = []
    for number in range(count):
        # Their times are passed over: the chunks say them again.
        _, at = read_uvarint(body, at)
        _, at = read_uvarint(body, at)
        place, at = read_varint(body, at) if number else read_uvarint(body, at)
        places.append(places[-1] + place if number else place)
    return labels, places


def _decode(batch: _Batch) -> Samples:
    data = np.frombuffer(b"".join(batch.bodies), np.uint8)
    ends = np.cumsum([len(body) for body in batch.bodies])
    starts = ends - np.array([len(body) for body in batch.bodies])
    wrong = np.flatnonzero(crc32c_of_each(data, starts, ends) != np.array(batch.sums, np.uint32))
    if len(wrong):
        path, at = batch.places[int(wrong[0])]
        raise damaged(path, f"at offset {at}: the chunk's checksum does not fit")
    chunks = _decode_chunks(batch, data, starts, ends)
    # Chunks of one series follow each other.
    owners = np.array(batch.owners, np.int64)
    last = np.flatnonzero(np.diff(owners, append=-1))
    offsets: Ints = np.concatenate([np.zeros(1, np.int64), chunks.offsets[1:][last]])
    samples = Samples(LabelSets.from_dicts(batch.labels), offsets, chunks.timestamps, chunks.values, chunks.histograms)
    if any(batch.deleted):
        kept = np.ones(len(chunks.timestamps), np.bool_)
        for number, intervals in enumerate(batch.deleted):
            part = slice(chunks.offsets[number], chunks.offsets[number + 1])
            for first, until in intervals:
                kept[part] &= (chunks.timestamps[part] < first) | (chunks.timestamps[part] > until)
        samples = samples.at(kept)
    return samples


def _decode_chunks(batch: _Batch, data: NDArray[np.uint8], starts: Ints, ends: Ints) -> Samples:
    """The samples of each chunk as of a series."""
    numbers = np.flatnonzero(data[starts] == form.XOR)

    def refused(number: int, reason: str) -> ImportDataError:
        path, at = batch.places[number]
        return damaged(path, f"at offset {at}: the chunk cannot be read: {reason}")

    try:
        decoded = xor.decode(data, starts[numbers] + 1, ends[numbers])
    except xor.ChunkError as e:
        raise refused(int(numbers[e.index]), str(e)) from e
    empty = LabelSets.from_dicts([{}])
    found = Samples(empty.take(np.zeros(len(numbers), np.int64)), *decoded, Histograms([]))
    if len(numbers) == len(starts):
        return found
    parts = [found]
    native = np.flatnonzero(data[starts] != form.XOR)
    for number in native.tolist():
        body = batch.bodies[number]
        try:
            times, values, histograms = decode_histogram_chunk(body[0], body[1:])
        except ValueError as e:
            raise refused(number, str(e)) from e
        parts.append(Samples(empty, np.array([0, len(times)]), times, values, histograms))
    return Samples.join(parts).take(np.argsort(np.concatenate([numbers, native])))
