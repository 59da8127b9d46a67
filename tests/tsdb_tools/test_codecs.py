"""What Prometheus's files are made of is what plain Python makes of the same numbers, bit by bit, and comes back."""

import contextlib
import struct
from array import array
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellbuoy.tsdb import xor
from bellbuoy.tsdb.binary import (
    CutOffError,
    crc32c,
    crc32c_of_each,
    read_uvarint,
    read_varint,
    uvarint,
    varint,
)
from bellbuoy.tsdb_tools import block_format, block_reader
from bellbuoy.tsdb_tools.block_writer import encode_index, postings, ulid
from tests.tsdb_tools import plain

TIMES = st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 10**6), st.integers(10**12, 10**12 + 2**21))
# Any bits at all, and those that values have mostly.
BITS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 2**63, plain.STALE_BITS, 0x7FF8000000000001, plain.bits_of(float("inf"))]),
    st.integers(-1000, 1000).map(lambda n: plain.bits_of(float(n))),
    st.integers(-1000, 1000).map(lambda n: plain.bits_of(n / 10)),
)
CHUNK = st.lists(st.tuples(TIMES, BITS), min_size=1, max_size=30)
REGULAR = st.builds(
    lambda start, steps, values: [
        (start + 15_000 * n + step, bits) for n, (step, bits) in enumerate(zip(steps, values, strict=False))
    ],
    st.integers(0, 2**41),
    st.lists(st.integers(-20, 20), min_size=1, max_size=130),
    st.lists(BITS, min_size=1, max_size=130),
)


def encode(chunks: list[list[tuple[int, int]]]) -> list[bytes]:
    flat = [sample for chunk in chunks for sample in chunk]
    offsets = np.cumsum([0, *map(len, chunks)]).astype(np.int64)
    times = np.array([t for t, _ in flat], np.int64)
    encoded = xor.encode(offsets, times, np.array([v for _, v in flat], np.uint64).view(np.float64))
    data, starts = encoded.data.tobytes(), encoded.starts.tolist()
    return [data[start:end] for start, end in pairwise(starts)]


def decode(chunks: list[bytes]) -> list[list[tuple[int, int]]]:
    ends = np.cumsum([len(one) for one in chunks]).astype(np.int64)
    starts = ends - np.array([len(one) for one in chunks], np.int64)
    decoded = xor.decode(np.frombuffer(b"".join(chunks), np.uint8), starts, ends)
    pairs = list(zip(decoded.timestamps.tolist(), decoded.values.view(np.uint64).tolist(), strict=True))
    offsets = decoded.offsets.tolist()
    return [pairs[start:end] for start, end in pairwise(offsets)]


@given(st.lists(st.one_of(CHUNK, REGULAR), min_size=1, max_size=8))
def test_a_chunk_is_what_plain_python_makes_and_comes_back_bit_by_bit(chunks: list[list[tuple[int, int]]]) -> None:
    encoded = encode(chunks)
    assert encoded == [plain.xor_chunk(chunk) for chunk in chunks]
    assert decode(encoded) == chunks


def test_differences_at_the_edges_of_each_width_come_back() -> None:
    for width in (14, 17, 20):
        half = 2 ** (width - 1)
        for dod in (-half - 1, -half, -half + 1, half - 1, half, half + 1):
            chunk = [(0, 0), (10**7, 0), (2 * 10**7 + dod, 0)]
            assert encode([chunk]) == [plain.xor_chunk(chunk)]
            assert decode(encode([chunk])) == [chunk]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_bytes_that_are_no_chunk_are_refused_or_read_and_nothing_else(chunks: list[bytes]) -> None:
    with contextlib.suppress(xor.ChunkError):
        decoded = decode(chunks)
        assert [len(one) for one in decoded] == [int.from_bytes(one[:2], "big") for one in chunks]


@given(CHUNK, st.data())
def test_a_chunk_that_is_cut_off_is_refused(chunk: list[tuple[int, int]], data: st.DataObject) -> None:
    whole = plain.xor_chunk(chunk)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(xor.ChunkError) as refused:
        decode([whole, cut])
    assert refused.value.index == 1


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3))
def test_a_varint_comes_back_with_the_place_behind_it(unsigned: int, signed: int, behind: bytes) -> None:
    assert uvarint(unsigned) == plain.uvarint(unsigned)
    assert read_uvarint(uvarint(unsigned) + behind, 0) == (unsigned, len(uvarint(unsigned)))
    assert read_varint(varint(signed) + behind, 0) == (signed, len(varint(signed)))
    with pytest.raises(CutOffError):
        read_uvarint(uvarint(unsigned)[:-1], 0)


def test_a_varint_that_does_not_end_is_refused() -> None:
    with pytest.raises(CutOffError):
        read_uvarint(b"\xff" * 11, 0)


@given(st.one_of(st.binary(max_size=50), st.binary(min_size=1000, max_size=5000)))
def test_a_checksum_is_the_plain_one(data: bytes) -> None:
    assert crc32c(data) == plain.crc32c(data)


def test_a_checksum_is_the_known_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=6))
def test_checksums_side_by_side_are_those_of_each(data: bytes, places: list[tuple[int, int]]) -> None:
    ranges = [(min(a, b, len(data)), min(max(a, b), len(data))) for a, b in places]
    starts, ends = (np.array([one[i] for one in ranges], np.int64) for i in (0, 1))
    sums = crc32c_of_each(np.frombuffer(data, np.uint8), starts, ends).tolist()
    assert sums == [plain.crc32c(data[start:end]) for start, end in ranges]


@given(st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=50).map(sorted))
def test_postings_are_a_count_and_four_bytes_each(references: list[int]) -> None:
    body = block_format.read_section(postings(np.array(references, np.int64)), 0)
    count, *found = struct.unpack(f">{len(references) + 1}I", body)
    assert (count, found) == (len(references), references)


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
LABELS = st.dictionaries(TEXT, TEXT, min_size=1, max_size=4)
PLACES = st.lists(
    st.tuples(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(0, 2**45)), min_size=1, max_size=4
)


@given(st.lists(st.tuples(LABELS, PLACES), min_size=1, max_size=8, unique_by=lambda one: tuple(sorted(one[0].items()))))
def test_an_index_lists_each_series_and_which_have_each_label(
    series: list[tuple[dict[str, str], list[tuple[int, int, int]]]],
) -> None:
    symbols = sorted({text for labels, _ in series for pair in labels.items() for text in pair})
    entries = []
    for labels, chunks in sorted(series, key=lambda one: sorted(one[0].items())):
        flat, at = array("q"), 0
        for gap, length, place in chunks:
            flat.extend((at + gap, at + gap + length, place))
            at += gap + length
        entries.append((tuple(symbols.index(text) for pair in sorted(labels.items()) for text in pair), flat))
    index = encode_index(symbols, entries)
    toc = block_format.TableOfContents.decode(index)
    assert block_reader._symbols(bytes(block_format.read_section(index, toc.symbols))) == symbols
    at, references = toc.series, {}
    for flat_labels, flat in entries:
        at = -(-at // 16) * 16
        length, start = read_uvarint(index, at)
        labels, places = block_reader._entry(index[start : start + length], symbols)
        assert [symbols.index(text) for pair in labels.items() for text in pair] == list(flat_labels)
        assert places == list(flat[2::3])
        references[at // 16] = labels
        at = start + length + 4
    table = block_format.read_section(index, toc.postings_table)
    found, at = {}, 4
    for _ in range(int.from_bytes(table[:4], "big")):
        texts, at = [], at + 1
        for _ in range(2):
            length, at = read_uvarint(table, at)
            texts.append(bytes(table[at : at + length]).decode())
            at += length
        offset, at = read_uvarint(table, at)
        body = block_format.read_section(index, offset)
        found[texts[0], texts[1]] = list(struct.unpack(f">{len(body) // 4 - 1}I", body[4:]))
    assert list(found) == sorted(found)
    assert found.pop(("", "")) == [*references]
    for (name, value), of_pair in found.items():
        assert of_pair == [one for one, labels in references.items() if labels.get(name) == value]


def test_a_ulid_sorts_by_time() -> None:
    assert ulid(0, bytes(10)) == "0" * 26
    assert ulid(1700000000000, b"\xff" * 10) < ulid(1700000000001, bytes(10))
    assert len(ulid(2**48 - 1, b"\xff" * 10)) == 26
