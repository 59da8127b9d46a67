"""Writes a block of Prometheus's. Chunks go to disk as they come; the index is made of the series at the end.

What is held meanwhile is the series: their labels as numbers of symbols, and where their chunks lie.
"""

import json
import os
import secrets
import shutil
import time
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bellbuoy.archive.source import Floats, Ints, Samples, is_histogram
from bellbuoy.tsdb import STALE_BITS, encode_histogram_chunks, xor
from bellbuoy.tsdb.binary import crc32c_of_each, uvarint, varint
from bellbuoy.tsdb_tools import block_format as form

# Prometheus's own.
CHUNK_SAMPLES = 120
SEGMENT_BYTES = 512 << 20
# How many samples are encoded side by side: each takes some 200 bytes meanwhile.
ENCODE_SAMPLES = 250_000
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Prometheus takes a folder of this name for a block that was never finished, and removes it.
_UNFINISHED = ".tmp-for-creation"

Labels = tuple[int, ...]
_Row = tuple[int, int, int, int]
"""Of a chunk: the series' number, the first and the last time, the place."""


def ulid(milliseconds: int, chance: bytes) -> str:
    """A name that sorts by time: 48 bits of it, and 80 bits of chance."""
    number = milliseconds << 80 | int.from_bytes(chance, "big")
    return "".join(_CROCKFORD[number >> 5 * at & 31] for at in reversed(range(26)))


class BlockWriter:
    """A block that is being written into a folder of blocks. It has its name, and others read it, when it is whole."""

    def __init__(self, blocks: Path) -> None:
        self.ulid = ulid(time.time_ns() // 1_000_000, secrets.token_bytes(10))
        self.path = blocks / self.ulid
        self._place = blocks / f"{self.ulid}{_UNFINISHED}"
        (self._place / form.CHUNKS).mkdir(parents=True)
        self._segments = _Segments(self._place / form.CHUNKS)
        self._symbols: dict[str, int] = {}
        # Of each series the first and last time and the place of each of its chunks, in turn.
        self._series: dict[Labels, array[int]] = {}
        self._waiting: list[Samples] = []
        self.samples = self.histograms = self.chunks = 0
        self._first, self._last = 2**63 - 1, -(2**63)

    def add(self, samples: Samples) -> None:
        """Later samples than what was added before, of each series; of any series in any order."""
        if not len(samples.timestamps):
            return
        self._waiting.append(samples)
        self.samples += len(samples.timestamps)
        self.histograms += int(is_histogram(samples.values).sum())
        self._first = min(self._first, int(samples.timestamps.min()))
        self._last = max(self._last, int(samples.timestamps.max()))
        if sum(len(one.timestamps) for one in self._waiting) >= ENCODE_SAMPLES:
            self._encode()

    def _encode(self) -> None:
        """Small metrics together: chunks that are encoded side by side cost less."""
        series = [self._of(labels) for one in self._waiting for labels in one.labels.to_dicts()]
        samples = Samples.join(self._waiting)
        self._waiting = []
        counts = np.diff(samples.offsets)
        if not len(samples.histograms):
            rows = self._numbers(np.arange(len(counts)), counts, samples.timestamps, samples.values)
        else:
            owners = np.repeat(np.arange(len(counts)), counts)
            native = _are_of_histograms(owners, samples.values)
            starts = np.flatnonzero(np.diff(owners, prepend=-1) | np.diff(native, prepend=False))
            lengths, of_numbers = np.diff(starts, append=len(owners)), ~native[starts]
            rows = self._numbers(
                owners[starts][of_numbers], lengths[of_numbers], samples.timestamps[~native], samples.values[~native]
            )
            for at, length in zip(starts[~of_numbers].tolist(), lengths[~of_numbers].tolist(), strict=True):
                rows += self._native(int(owners[at]), samples, slice(at, at + length))
            # Of a series, chunks of both kinds follow each other in time.
            rows.sort()
        for owner, first, last, place in rows:
            series[owner].extend((first, last, place))
        self.chunks += len(rows)

    def _numbers(self, owners: Ints, counts: Ints, times: Ints, values: Floats) -> list[_Row]:
        """Write runs of numbers, which are so long, each of one series."""
        pieces = -(-counts // CHUNK_SAMPLES)
        run = np.repeat(np.arange(len(counts)), pieces)
        number = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        offsets = np.append((np.cumsum(counts) - counts)[run] + number * CHUNK_SAMPLES, len(times))
        out: list[_Row] = []
        at = 0
        while at < len(run):
            end = max(at + 1, int(np.searchsorted(offsets, offsets[at] + ENCODE_SAMPLES, side="right")) - 1)
            part = slice(offsets[at], offsets[end])
            encoded = xor.encode(offsets[at : end + 1] - offsets[at], times[part], values[part])
            firsts, lasts = times[offsets[at:end]], times[offsets[at + 1 : end + 1] - 1]
            places = self._segments.write(encoded, np.full(end - at, form.XOR, np.uint8))
            out += zip(owners[run[at:end]].tolist(), firsts.tolist(), lasts.tolist(), places, strict=True)
            at = end
        return out

    def _native(self, owner: int, samples: Samples, part: slice) -> list[_Row]:
        """Write a run of histograms of one series, with the stale markers between them."""
        times = samples.timestamps[part]
        chunks = encode_histogram_chunks(times, samples.values[part], samples.histograms, CHUNK_SAMPLES)
        ends = np.cumsum([count for _, count, _ in chunks])
        firsts, lasts = times[np.concatenate([[0], ends[:-1]])], times[ends - 1]
        starts = np.cumsum([0, *(len(body) for _, _, body in chunks)])
        encoded = xor.Encoded(np.frombuffer(b"".join(body for _, _, body in chunks), np.uint8), starts)
        places = self._segments.write(encoded, np.array([encoding for encoding, _, _ in chunks], np.uint8))
        return [(owner, *row) for row in zip(firsts.tolist(), lasts.tolist(), places, strict=True)]

    def finish(self) -> Path | None:
        """Write the rest, and give the block its name; None, and no block, when there were no samples."""
        if not self.samples:
            self.abandon()
            return None
        if self._waiting:
            self._encode()
        self._segments.close()
        _write(self._place / form.INDEX, self._index())
        _write(self._place / form.TOMBSTONES, form.encode_tombstones())
        meta = {
            "ulid": self.ulid,
            "minTime": self._first,
            "maxTime": self._last + 1,
            "stats": {
                "numSamples": self.samples,
                "numFloatSamples": self.samples - self.histograms,
                "numHistogramSamples": self.histograms,
                "numSeries": len(self._series),
                "numChunks": self.chunks,
            },
            "compaction": {"level": 1, "sources": [self.ulid]},
            "version": 1,
        }
        _write(self._place / form.META, json.dumps(meta, indent="\t").encode())
        self._place.rename(self.path)
        return self.path

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._segments.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def _of(self, labels: dict[str, str]) -> "array[int]":
        symbols = self._symbols
        key = tuple(symbols.setdefault(text, len(symbols)) for pair in sorted(labels.items()) for text in pair)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = array("q")
        return found

    def _index(self) -> bytes:
        texts = sorted(self._symbols)
        rank = [0] * len(texts)
        for place, text in enumerate(texts):
            rank[self._symbols[text]] = place
        # Symbols are numbered as their texts are sorted, so numbers sort series as Prometheus sorts labels.
        series = sorted((tuple(rank[at] for at in labels), chunks) for labels, chunks in self._series.items())
        return encode_index(texts, series)


def _are_of_histograms(owners: Ints, values: Floats) -> NDArray[np.bool_]:
    """Which samples lie in chunks of histograms: these, and the stale markers that end a series of them."""
    native, stale = is_histogram(values), values.view(np.uint64) == STALE_BITS
    before = np.maximum.accumulate(np.where(stale, 0, np.arange(len(values))))
    return np.asarray(native[before] & (owners[before] == owners))


def encode_index(symbols: list[str], series: list[tuple[Labels, "array[int]"]]) -> bytes:
    """An index: symbols sorted; of each series, sorted, its label names and values by number, and its chunks."""
    out = bytearray(form.INDEX_MAGIC.to_bytes(4, "big") + bytes([form.INDEX_VERSION]))
    at_symbols = len(out)
    texts = [text.encode() for text in symbols]
    out += form.section(len(texts).to_bytes(4, "big") + b"".join(uvarint(len(text)) + text for text in texts))
    at_series = -(-len(out) // form.SERIES_ALIGNMENT) * form.SERIES_ALIGNMENT
    references = array("q")
    for labels, chunks in series:
        out += bytes(-len(out) % form.SERIES_ALIGNMENT)
        references.append(len(out) // form.SERIES_ALIGNMENT)
        body = _series(labels, chunks)
        out += uvarint(len(body)) + body + form.checksum(body)
    out += bytes(-len(out) % 4)
    at_postings = len(out)
    rows = [(b"", b"", len(out))]
    out += postings(np.array(references, np.int64))
    for name, value, of_pair in _pairs(series, np.array(references, np.int64)):
        rows.append((texts[name], texts[value], len(out)))
        out += postings(of_pair)
    # Label indexes have not been read for years; their table says that there are none.
    at_label_indexes = len(out)
    out += form.section(bytes(4))
    at_table = len(out)
    table = [
        b"\x02" + uvarint(len(name)) + name + uvarint(len(value)) + value + uvarint(at) for name, value, at in rows
    ]
    out += form.section(len(table).to_bytes(4, "big") + b"".join(table))
    toc = form.TableOfContents(at_symbols, at_series, at_postings, at_label_indexes, at_postings, at_table)
    return bytes(out) + toc.encode()


def postings(references: Ints) -> bytes:
    """A section that lists series, ascending."""
    return form.section(len(references).to_bytes(4, "big") + references.astype(">u4").tobytes())


def _series(labels: Labels, chunks: "array[int]") -> bytes:
    body = bytearray(uvarint(len(labels) // 2))
    for symbol in labels:
        body += uvarint(symbol)
    body += uvarint(len(chunks) // 3)
    before, before_place = 0, 0
    for at in range(0, len(chunks), 3):
        first, last, place = chunks[at : at + 3]
        body += uvarint(first - before) if at else varint(first)
        body += uvarint(last - first)
        body += varint(place - before_place) if at else uvarint(place)
        before, before_place = last, place
    return bytes(body)


def _pairs(series: list[tuple[Labels, "array[int]"]], references: Ints) -> list[tuple[int, int, Ints]]:
    """Each label name and value, sorted, with the series that have it."""
    counts = np.array([len(labels) // 2 for labels, _ in series], np.int64)
    flat = np.array([symbol for labels, _ in series for symbol in labels], np.int64).reshape(-1, 2)
    keys = flat[:, 0] << 32 | flat[:, 1]
    order = np.argsort(keys, kind="stable")
    owners = np.repeat(references, counts)[order]
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return [
        (int(key >> 32), int(key & 0xFFFFFFFF), of_pair)
        for key, of_pair in zip(keys[order][starts].tolist(), np.split(owners, starts[1:]), strict=True)
    ]


class _Segments:
    """The files of chunks: 000001, 000002, …"""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number, self._size = folder, 0, 0
        self._begin()

    def _begin(self) -> None:
        self._number += 1
        self._file = (self._folder / f"{self._number:06}").open("xb")
        head = form.CHUNKS_MAGIC.to_bytes(4, "big") + bytes([form.CHUNKS_VERSION, 0, 0, 0])
        self._size = self._file.write(head)

    def write(self, chunks: xor.Encoded, encodings: NDArray[np.uint8]) -> list[int]:
        """Write chunks; returns their places as an index has them: the file's number from 0, and the offset in it."""
        sums, marks = _sums(chunks, encodings), encodings.tolist()
        data, starts, places = chunks.data.tobytes(), chunks.starts.tolist(), []
        out: list[bytes] = []
        for at, sum_ in enumerate(sums.tolist()):
            body = data[starts[at] : starts[at + 1]]
            whole = b"".join((uvarint(len(body)), bytes([marks[at]]), body, sum_.to_bytes(4, "big")))
            if self._size + len(whole) > SEGMENT_BYTES:
                self._file.write(b"".join(out))
                out = []
                self.close()
                self._begin()
            places.append((self._number - 1) << 32 | self._size)
            self._size += len(whole)
            out.append(whole)
        self._file.write(b"".join(out))
        return places

    def close(self) -> None:
        """The last file to disk."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def _sums(chunks: xor.Encoded, encodings: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Checksums of the encoding's byte and the data of each."""
    starts, lengths = chunks.starts[:-1], np.diff(chunks.starts)
    shift = np.arange(1, len(lengths) + 1)
    with_encoding = np.empty(len(chunks.data) + len(lengths), np.uint8)
    with_encoding[starts + shift - 1] = encodings
    with_encoding[np.arange(len(chunks.data)) + np.repeat(shift, lengths)] = chunks.data
    return crc32c_of_each(with_encoding, starts + shift - 1, starts + lengths + shift)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
