"""Blocks and tombstones read by plain Python, after docs/storage-format.md and nothing else; see `storage_files`."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tests.core.storage_files import (
    ABSENT_BITS,
    HEADER_BYTES,
    Bits,
    Bytes,
    Column,
    Folder,
    Header,
    Labels,
    Native,
    frames,
    inflate,
)

END_MARK = b"BBUOYEND"
Series = list[tuple[Labels, list[tuple[int, Bits]]]]


@dataclass
class BlockFile:
    """A block: what its tail says, and all its samples."""

    start: int = 0
    end: int = 0
    first: int = 0
    last: int = 0
    samples: int = 0
    chunk_files: int = 0
    sources: list[int] = field(default_factory=list)
    series: Series = field(default_factory=list)
    natives: list[tuple[Labels, list[tuple[int, Native]]]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "BlockFile":
        data = path.read_bytes()
        features = Header.read(data).features
        assert Header.read(data) == Header(b"B", 1, features) and features in (0, 1)
        assert data.endswith(END_MARK)
        ends = Bytes(data, len(data) - 16)
        length, crc = ends.u32(), ends.u32()
        packed = data[len(data) - 16 - length : len(data) - 16]
        assert zlib.crc32(packed) == crc
        tail = Bytes(packed)
        start, end, first, last = (tail.signed() for _ in range(4))
        block = cls(start, end, first, last, tail.varint(), tail.varint(), tail.list())
        offset, length, inflated, crc = tail.varint(), tail.varint(), tail.varint(), tail.u32()
        assert not tail
        index = data[offset : offset + length]
        assert zlib.crc32(index) == crc
        block._read(Bytes(inflate(index, inflated)), data, histograms=features == 1)
        return block

    def _read(self, index: Bytes, data: bytes, *, histograms: bool) -> None:
        coded = Folder(Path())
        texts = index.texts()
        text, labels = texts.text, texts.labels
        columns = [Column(labels(), [text() for _ in range(index.varint())]) for _ in range(index.varint())]
        assert columns == sorted(columns, key=Column.sort_key)
        metrics, column, number = [], 0, 0
        for _ in range(index.varint()):
            count = index.varint()
            number += index.varint()
            metrics.append((range(column, column + count), number))
            column += count
        assert column == len(columns)
        sets = []
        for _ in range(index.varint()):
            place, places = 0, []
            for gap in index.list():
                place += gap
                places.append(place)
            sets.append(places)
        groups = []
        for _ in range(index.varint()):
            text()  # the pool
            target, columns_of = labels(), sets[index.varint()]
            groups.append((target, columns_of, [coded._times(index) for _ in range(index.varint())]))

        def entries() -> tuple[int, list[tuple[Labels, list[tuple[int, int, int]]]]]:
            first, out = index.varint(), []
            for _ in range(index.varint()):
                name = labels()
                out.append((name, [(index.varint(), index.signed(), index.varint()) for _ in range(index.varint())]))
            return first, out

        series_first, rest = entries()
        natives_first, natives = entries() if histograms else (0, [])
        packs, offset = [], HEADER_BYTES
        for _ in range(index.varint()):
            length, inflated, count, crc = index.varint(), index.varint(), index.varint(), index.u32()
            packed = data[offset : offset + length]
            assert zlib.crc32(packed) == crc
            pack = Bytes(inflate(packed, inflated))
            lengths = [pack.varint() for _ in range(count)]
            packs += [Bytes(pack.take(one)) for one in lengths]
            assert not pack
            offset += length
        assert not index

        for metric, first in metrics:
            number = first
            for target, columns_of, runs in groups:
                for place in (place for place in columns_of if place in metric):
                    own, dropped = columns[place].own, columns[place].dropped
                    name = {key: value for key, value in target.items() if key not in dropped} | own
                    samples: list[tuple[int, Bits]] = []
                    for times in runs:
                        found = coded._column(packs[number], len(times))
                        assert not packs[number]
                        samples += [one for one in zip(times, found, strict=True) if one[1] != ABSENT_BITS]
                        number += 1
                    if samples:
                        self.series.append((name, samples))
        number = series_first
        for name, parts in rest:
            samples = []
            for count, start, span in parts:
                times = coded._times(packs[number])
                assert (len(times), times[0], times[-1]) == (count, start, start + span)
                samples += zip(times, coded._column(packs[number], count), strict=True)
                number += 1
            self.series.append((name, samples))
        assert natives_first in (0, number)
        for name, parts in natives:
            found_here: list[tuple[int, Native]] = []
            for count, start, span in parts:
                times = coded._times(packs[number])
                assert (len(times), times[0], times[-1]) == (count, start, start + span)
                found_here += zip(times, Native.read_all(packs[number], count), strict=True)
                assert not packs[number]
                number += 1
            self.natives.append((name, found_here))
        assert number == len(packs)
        assert self.samples == sum(len(one[1]) for one in self.series) + sum(len(one[1]) for one in self.natives)


def deletions(path: Path) -> list[tuple[Labels, int, int]]:
    """What a file of tombstones says."""
    data = path.read_bytes()
    assert Header.read(data) == Header(b"T", 1, 0)
    out = []
    for payload in frames(data):
        one = Bytes(payload)
        texts = one.texts()
        out += [(texts.labels(), one.signed(), one.signed()) for _ in range(one.varint())]
        assert not one
    return out
