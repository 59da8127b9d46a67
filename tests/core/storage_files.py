"""The storage's files read by plain Python, after docs/storage-format.md and nothing else.

It is how tests hold that page to the bytes: what it does not tell, this could not read. `Folder` reads a whole data
folder into samples; `seen` has a word for each form of the page that it met.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

HEADER_BYTES = 16
FRAME_MARK = b"\xbb\x0e\xf0\x01"
KINDS = {"catalog": b"G", "wal": b"W", "chunks": b"C"}
ABSENT_BITS, STALE_BITS = 0x7FF0000061627374, 0x7FF0000000000002

Labels = dict[str, str]
Bits = int
"""The 64 bits of a value: of NaNs they tell what is meant."""


@dataclass(frozen=True)
class Header:
    """The first bytes of each file."""

    kind: bytes
    version: int
    features: int

    @classmethod
    def read(cls, data: bytes) -> "Header":
        mark, kind, version, nothing, features = struct.unpack_from("<5scBBQ", data)
        assert (mark, nothing) == (b"BBUOY", 0)
        return cls(kind, version, features)


class Bytes:
    """Reads forward."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        out = self.data[self.at : self.at + count]
        assert len(out) == count, "cut off"
        self.at += count
        return out

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def bits(self) -> Bits:
        return int.from_bytes(self.take(8), "little")

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def signed(self) -> int:
        return unzigzag(self.varint())

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def list(self) -> list[int]:
        return [self.varint() for _ in range(self.varint())]

    def labels(self) -> Labels:
        return {self.text(): self.text() for _ in range(self.varint())}

    def texts(self) -> "Texts":
        """The texts, to read what refers to them."""
        return Texts(self, [self.text() for _ in range(self.varint())])


@dataclass(frozen=True)
class Texts:
    """Reads what refers to texts by their numbers."""

    data: Bytes
    all: list[str]

    def text(self) -> str:
        return self.all[self.data.varint()]

    def labels(self) -> Labels:
        return {self.text(): self.text() for _ in range(self.data.varint())}


def unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def bits_of(value: float) -> Bits:
    return int.from_bytes(struct.pack("<d", value), "little")


def value_of(bits: Bits) -> float:
    return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


def frames(data: bytes) -> Iterator[bytes]:
    """The payloads of a file that is whole."""
    reader = Bytes(data, HEADER_BYTES)
    while reader:
        assert reader.take(4) == FRAME_MARK
        length, crc = reader.u32(), reader.u32()
        payload = reader.take(length)
        assert zlib.crc32(payload) == crc
        yield payload


def inflate(packed: bytes, length: int) -> bytes:
    out = zstandard.ZstdDecompressor().decompress(packed)
    assert len(out) == length
    return out


@dataclass(frozen=True)
class Column:
    own: Labels
    dropped: list[str]

    def sort_key(self) -> tuple[str, list[tuple[str, str]], list[str]]:
        return self.own.get("__name__", ""), sorted(self.own.items()), self.dropped


@dataclass(frozen=True)
class Native:
    """A native histogram. Floats are their bits, counts of integer histograms are numbers."""

    floats: bool
    hint: int
    schema: int
    zero_threshold: Bits
    positive_spans: tuple[tuple[int, int], ...]
    negative_spans: tuple[tuple[int, int], ...]
    custom: tuple[Bits, ...]
    sum: Bits
    count: int
    zero: int
    positive: tuple[int, ...]
    negative: tuple[int, ...]

    @classmethod
    def read(cls, data: Bytes, before: "Native | None" = None) -> "Native":
        """Of the bytes of one, and the one before it in its series."""
        flags = data.take(1)[0]
        same, floats, hint = flags & 1, bool(flags & 2), flags >> 2
        if not same:
            before = None
            schema = int.from_bytes(data.take(1), "little", signed=True)
            zero_threshold = data.bits()
            spans = [tuple((data.signed(), data.varint()) for _ in range(data.varint())) for _ in range(2)]
            custom = tuple(data.bits() for _ in range(data.varint()))
        else:
            assert before is not None and before.floats == floats
            schema, zero_threshold, custom = before.schema, before.zero_threshold, before.custom
            spans = [before.positive_spans, before.negative_spans]

        def float_bits(known: Bits) -> Bits:
            return known ^ int.from_bytes(data.varint().to_bytes(8, "little"), "big")

        def number(known: int) -> int:
            return float_bits(known) if floats else (known + data.signed()) % 2**64

        def side(of: tuple[tuple[int, int], ...], known: tuple[int, ...]) -> tuple[int, ...]:
            out: list[int] = []
            for at in range(sum(length for _, length in of)):
                out.append(number(known[at] if before else out[-1] if out else 0))
            return tuple(out)

        total = float_bits(before.sum if before else 0)
        count, zero = number(before.count if before else 0), number(before.zero if before else 0)
        positive = side(spans[0], before.positive if before else ())
        negative = side(spans[1], before.negative if before else ())
        return cls(
            floats, hint, schema, zero_threshold, spans[0], spans[1], custom, total, count, zero, positive, negative
        )

    @classmethod
    def read_all(cls, data: Bytes, count: int) -> "list[Native]":
        """Those of one series, each the difference to the one before."""
        out: list[Native] = []
        for _ in range(count):
            out.append(cls.read(data, out[-1] if out else None))
        return out


@dataclass
class Folder:
    """What a data folder holds."""

    path: Path
    groups: dict[int, tuple[str, Labels]] = field(default_factory=dict)
    columns: dict[int, Column] = field(default_factory=dict)
    sets: dict[int, list[int]] = field(default_factory=dict)
    series: dict[int, Labels] = field(default_factory=dict)
    rows: dict[tuple[int, int], tuple[int, dict[int, Bits]]] = field(default_factory=dict)
    """By group and number: its time, and the bits by column; what is absent is not in it."""
    loose: dict[tuple[int, int], Bits] = field(default_factory=dict)
    """By series and time."""
    exemplars: list[tuple[Labels, Labels, int, bool, float]] = field(default_factory=list)
    """Series, labels, time, whether it is the target's word, value; in the order in which they came."""
    natives: dict[tuple[int, int], Native] = field(default_factory=dict)
    """The same of histograms."""
    seen: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> "Folder":
        folder = cls(path)
        for payload in frames((path / "catalog").read_bytes()):
            folder._catalog(Bytes(payload))
        for file in sorted((path / "wal").glob("*.wal")):
            folder._segment(file.read_bytes())
        for file in sorted((path / "chunks").glob("*.chunks")):
            folder._chunk_file(file.read_bytes())
        return folder

    def samples(self) -> list[tuple[Labels, list[tuple[int, Bits]]]]:
        """All series in no order, each with its samples in time."""
        found: dict[tuple[tuple[str, str], ...], dict[int, Bits]] = {}

        def put(labels: Labels, time: int, bits: Bits) -> None:
            found.setdefault(tuple(sorted(labels.items())), {})[time] = bits

        for (group, _), (time, row) in self.rows.items():
            for column, bits in row.items():
                own, dropped = self.columns[column].own, self.columns[column].dropped
                target = {name: text for name, text in self.groups[group][1].items() if name not in dropped}
                put(target | own, time, bits)
        for (series, time), bits in self.loose.items():
            put(self.series[series], time, bits)
        return [(dict(labels), sorted(samples.items())) for labels, samples in found.items()]

    # --- catalog

    def _catalog(self, entries: Bytes) -> None:
        texts = entries.texts()
        while entries:
            kind, number = entries.varint(), entries.varint()
            self.seen.add(f"entry {kind}")
            if kind == 1:
                self.groups[number] = texts.text(), texts.labels()
            elif kind == 2:
                self.columns[number] = Column(texts.labels(), [texts.text() for _ in range(entries.varint())])
                if self.columns[number].dropped:
                    self.seen.add("column without a target label")
            elif kind == 3:
                base = entries.varint()
                kept = list(self.sets[base - 1]) if base else []
                for place in reversed(list(itertools.accumulate(entries.list()))):
                    del kept[place]
                ids, last = [], 0
                for _ in range(entries.varint()):
                    before = entries.varint()
                    ids += kept[:before]
                    del kept[:before]
                    for _ in range(entries.varint()):
                        last += entries.signed()
                        ids.append(last)
                self.sets[number] = ids + kept
                keys = [self.columns[column].sort_key() for column in self.sets[number]]
                assert keys == sorted(keys)
                self.seen.add("set with a base" if base else "set without a base")
            else:
                assert kind == 4
                self.series[number] = texts.labels()

    # --- log

    def _segment(self, data: bytes) -> None:
        last: dict[int, tuple[int, dict[int, Bits]]] = {}
        for payload in frames(data):
            frame = Bytes(payload)
            length = frame.u32()
            records = Bytes(inflate(payload[4:], length))
            while records:
                kind = records.varint()
                self.seen.add(f"record {kind}")
                if kind == 1:
                    self._row_record(records, last)
                    continue
                if kind == 4:
                    if records.varint():
                        self.seen.add("all exemplars")
                        self.exemplars.clear()
                    self.exemplars += [self._exemplar(records) for _ in range(records.varint())]
                    continue
                assert kind in (2, 3)
                for _ in range(records.varint()):
                    series, time = records.varint(), records.signed()
                    # Of equal times the first wins.
                    if kind == 2:
                        self.loose.setdefault((series, time), records.bits())
                    else:
                        self.natives.setdefault((series, time), Native.read(records))

    def _exemplar(self, records: Bytes) -> tuple[Labels, Labels, int, bool, float]:
        series, labels = records.labels(), records.labels()
        return series, labels, records.signed(), bool(records.varint()), value_of(records.bits())

    def _row_record(self, records: Bytes, last: dict[int, tuple[int, dict[int, Bits]]]) -> None:
        group, number = records.varint(), records.varint()
        number, full = number >> 1, number & 1
        time, columns = records.signed(), self.sets[records.varint()]
        record = Bytes(records.take(records.varint()))
        self.seen.add("full row" if full else "row")
        if full:
            values = dict.fromkeys(columns, bits_of(0.0))
        else:
            assert last[group][0] + 1 == number
            before = last[group][1]
            if before.keys() != set(columns):
                self.seen.add("row in a larger set")
            values = {column: before.get(column, ABSENT_BITS) for column in columns}
        changed = record.take((len(columns) + 7) // 8)
        ends = len(record.data) - 8 * record.varint()
        values_at_end = Bytes(record.data, ends)
        record = Bytes(record.data[:ends], record.at)
        for i, column in enumerate(columns):
            if changed[i // 8] >> i % 8 & 1:
                values[column] = self._changed(record, value_of(values[column]), values_at_end)
        assert not record and not values_at_end
        last[group] = number, values
        self.rows[group, number] = time, {c: bits for c, bits in values.items() if bits != ABSENT_BITS}

    def _changed(self, record: Bytes, before: float, in_full: Bytes) -> Bits:
        code = record.varint()
        if code & 1 == 0:
            self.seen.add("code of an integer")
            return bits_of(float(int(before) + unzigzag(code >> 1)))
        if code & 3 == 1:
            self.seen.add("code of hundredths")
            return bits_of((round(before * 100) + unzigzag(code >> 2)) / 100)
        self.seen.add(f"code {code}")
        return in_full.bits() if code == 3 else {7: ABSENT_BITS, 11: STALE_BITS}[code]

    # --- chunks

    def _chunk_file(self, data: bytes) -> None:
        file = Bytes(data, HEADER_BYTES)
        while file:
            length, crc = file.u32(), file.u32()
            if length == crc == 0:
                break  # The hole.
            packed = file.take(length)
            assert zlib.crc32(packed) == crc
            head = Bytes(packed)
            kind = head.varint()
            self.seen.add(f"chunk {kind}")
            if kind == 1:
                self._row_chunk(head, file)
            else:
                self._series_chunk(kind, head, file)

    def _packs(self, head: Bytes, file: Bytes) -> list[Bytes]:
        """The packs of which the table is at the end of the head, from behind it."""
        table = [(head.varint(), head.varint(), head.u32()) for _ in range(head.varint())]
        assert not head
        packs = []
        for inflated, length, crc in table:
            pack = file.take(length)
            assert zlib.crc32(pack) == crc
            packs.append(Bytes(inflate(pack, inflated)))
        return packs

    def _row_chunk(self, head: Bytes, file: Bytes) -> None:
        group, first, columns = head.varint(), head.varint(), self.sets[head.varint()]
        times = self._times(head)
        width, count = head.varint(), head.varint()
        assert width == len(columns)
        there = columns
        if count < width:
            self.seen.add("chunk without some columns")
            bits_here = head.take((width + 7) // 8)
            there = [column for i, column in enumerate(columns) if bits_here[i // 8] >> i % 8 & 1]
        assert len(there) == count
        length = head.varint()
        crcs = [head.u32() for _ in range((count + 63) // 64)]
        starts = [int.from_bytes(head.take(2 if length <= 65536 else 4), "little") for _ in there]
        assert not head
        body = file.take(length)
        parts = [*starts[::64], length] if starts else [length]
        assert crcs == [zlib.crc32(body[start:end]) for start, end in itertools.pairwise(parts)]
        rows: list[dict[int, Bits]] = [{} for _ in times]
        for column, start, end in zip(there, starts, [*starts[1:], length], strict=True):
            one = Bytes(body[start:end])
            for row, bits in zip(rows, self._column(one, len(times)), strict=True):
                if bits != ABSENT_BITS:
                    row[column] = bits
            assert not one
        for i, (time, row) in enumerate(zip(times, rows, strict=True)):
            # What the log still has of a chunk is the same.
            assert self.rows.get((group, first + i), (time, row)) == (time, row)
            self.rows[group, first + i] = time, row

    def _series_chunk(self, kind: int, head: Bytes, file: Bytes) -> None:
        assert kind in (2, 3)
        entries, series = [], 0
        for _ in range(head.varint()):
            series += head.varint()
            entries.append((series, head.varint(), head.signed(), head.signed()))
        packs = self._packs(head, file)
        for i, (series, count, first, last) in enumerate(entries):
            times = self._times(packs[i // 64])
            assert (len(times), times[0], times[-1]) == (count, first, last)
            if kind == 2:
                for time, bits in zip(times, self._column(packs[i // 64], count), strict=True):
                    assert self.loose.setdefault((series, time), bits) == bits
                continue
            for time, native in zip(times, Native.read_all(packs[i // 64], count), strict=True):
                assert self.natives.setdefault((series, time), native) == native
        assert not any(packs)

    # --- columns

    def _times(self, data: Bytes) -> list[int]:
        count = data.varint()
        return self._twice_differenced(data, count) if count else []

    def _column(self, data: Bytes, rows: int) -> list[Bits]:
        tag = data.take(1)[0]
        kind, divisor = tag >> 4 & 7, 10.0 ** (tag & 15)
        self.seen.add(f"column of kind {kind}")
        if not tag & 0x80:
            return self._plain(data, kind, divisor, rows)
        self.seen.add("presence")
        present, stale = data.take((rows + 7) // 8), data.take((rows + 7) // 8)
        has = [present[i // 8] >> i % 8 & 1 for i in range(rows)]
        ends = [stale[i // 8] >> i % 8 & 1 for i in range(rows)]
        plain = iter(self._plain(data, kind, divisor, sum(has) - sum(ends)))
        return [STALE_BITS if ends[i] else next(plain) if has[i] else ABSENT_BITS for i in range(rows)]

    def _plain(self, data: Bytes, kind: int, divisor: float, count: int) -> list[Bits]:
        if kind == 0:
            assert count == 0
            return []
        if kind == 1:
            return [data.bits()] * count
        if kind == 6:
            kept, before, out = data.take(1)[0], 0, []
            planes = [data.take(count) if kept >> plane & 1 else bytes(count) for plane in range(8)]
            for column in zip(*planes, strict=True):
                before ^= int.from_bytes(bytes(column), "little")
                out.append(before)
            return out
        if kind == 2:
            integers = [data.signed()] * count
        elif kind == 3:
            least = data.signed()
            integers = [least + difference for difference in self._packed(data, count)]
        elif kind == 4:
            integers = [data.signed()]
            for difference in self._packed(data, count - 1):
                integers.append(integers[-1] + unzigzag(difference))
        else:
            assert kind == 5
            integers = self._twice_differenced(data, count)
        return [bits_of(integer / divisor) for integer in integers]

    def _twice_differenced(self, data: Bytes, count: int) -> list[int]:
        value, difference = data.signed(), data.signed()
        out = [value, value + difference][:count]
        for second in self._packed(data, max(count - 2, 0)):
            difference += unzigzag(second)
            out.append(out[-1] + difference)
        return out

    def _packed(self, data: Bytes, count: int) -> list[int]:
        width = data.take(1)[0]
        exceptions, place = [], 0
        for _ in range(data.varint()):
            place += data.varint()
            exceptions.append((place, data.varint()))
            self.seen.add("exception")
        lower = int.from_bytes(data.take((count * width + 7) // 8), "little")
        out = [lower >> i * width & (1 << width) - 1 for i in range(count)]
        for place, upper in exceptions:
            out[place] |= upper << width
        return out
