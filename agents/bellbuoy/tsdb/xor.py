"""Prometheus's XOR chunks: the samples of a series as differences of differences of times, and as XORed values.

After tsdb/docs/format/chunks.md of Prometheus. A bit's place depends on all before it in its chunk, but chunks do not
depend on each other: thousands are walked side by side, sample by sample, as numpy arrays. That costs a fraction of a
microsecond a sample; a plain loop over bits costs ten. Bits are moved as they are, so any NaN comes back the same.

```
count u16 │ t0 varint │ v0 64 bits │ t1-t0 uvarint │ xor │ (dod │ xor)…      dod: difference of two differences of times
dod:  0 │ 10 14 bits │ 110 17 bits │ 1110 20 bits │ 1111 64 bits
xor:  0 the same value │ 10 bits in the last window │ 11, leading zeros 5 bits, length 6 bits (0: 64), bits
```
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

MAX_SAMPLES = 0xFFFF
_ONE, _ZERO = np.uint64(1), np.uint64(0)
# By the first four bits of a dod: how many of them are its mark, and how many bits follow.
_MARK_BITS = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4, 4], np.uint64)
_BODY_BITS = np.array([0] * 8 + [14] * 4 + [17] * 2 + [20, 64], np.uint64)
_NO_WINDOW = 255


class ChunkError(ValueError):
    """A chunk that is none; `index` is its place in the list that was given."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class Encoded(NamedTuple):
    """Chunks behind each other: chunk i is `data[starts[i]:starts[i + 1]]`."""

    data: NDArray[np.uint8]
    starts: Ints


class Decoded(NamedTuple):
    """Chunks' samples behind each other: those of chunk i are `offsets[i]:offsets[i + 1]`."""

    offsets: Ints
    timestamps: Ints
    values: NDArray[np.float64]


def encode(offsets: Ints, timestamps: Ints, values: NDArray[np.float64]) -> Encoded:
    """A chunk of each of the ranges `offsets[i]:offsets[i + 1]`, which hold 1 to 65,535 samples."""
    counts = np.diff(offsets)
    if not len(counts):
        return Encoded(np.empty(0, np.uint8), np.zeros(1, np.int64))
    if counts.min() < 1 or counts.max() > MAX_SAMPLES:
        raise ValueError(f"BUG: a chunk of {counts.min()} to {counts.max()} samples: it can hold 1 to {MAX_SAMPLES}")
    # Four pieces for each sample: two of its time, two of its value.
    pieces, lengths = np.zeros((len(timestamps), 4), np.uint64), np.zeros((len(timestamps), 4), np.uint64)
    _encode_times(offsets, timestamps, pieces, lengths)
    _encode_values(offsets, values.view(np.uint64), pieces, lengths)
    return _pack(offsets, pieces, lengths)


def decode(data: NDArray[np.uint8], starts: Ints, ends: Ints) -> Decoded:
    """The samples of the chunks at `data[starts[i]:ends[i]]`. Raises ChunkError; no bytes make it fail otherwise."""
    if not len(starts):
        return Decoded(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0))
    short = np.flatnonzero(ends - starts < 2)
    if len(short):
        raise ChunkError(int(short[0]), "it is too short to say how many samples it has")
    counts = data[starts].astype(np.int64) << 8 | data[starts + 1]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    # A sample takes two bits at least: what claims more is not given memory for it.
    greedy = np.flatnonzero(counts > (ends - starts) * 8)
    if len(greedy):
        raise ChunkError(int(greedy[0]), f"it says to have {counts[greedy[0]]} samples and is too short for them")
    times, values = np.zeros(offsets[-1], np.uint64), np.zeros(offsets[-1], np.uint64)
    _Walk(data, starts, ends, counts).run(offsets, times, values)
    return Decoded(offsets, times.view(np.int64), values.view(np.float64))


def _longest_first(counts: Ints) -> tuple[Ints, Ints]:
    """The order of chunks by length, and how many have a sample of the number j, for each j."""
    order = np.argsort(-counts, kind="stable")
    active = len(counts) - np.searchsorted(np.sort(counts), np.arange(int(counts.max(initial=0))), side="right")
    return order, active


# --- writing


def _encode_times(offsets: Ints, timestamps: Ints, pieces: Bits, lengths: Bits) -> None:
    times = timestamps.view(np.uint64)
    deltas = np.zeros(len(times), np.uint64)
    deltas[1:] = times[1:] - times[:-1]
    dods = np.zeros(len(times), np.int64)
    dods[1:] = (deltas[1:] - deltas[:-1]).view(np.int64)
    mark, mark_bits = np.full(len(times), 0b1111, np.uint64), np.full(len(times), 4, np.uint64)
    body_bits = np.full(len(times), 64, np.uint64)
    for bits, its_mark, its_bits in ((20, 0b1110, 4), (17, 0b110, 3), (14, 0b10, 2)):
        half = 1 << (bits - 1)
        fits = (dods > -half) & (dods <= half)
        mark[fits], mark_bits[fits], body_bits[fits] = its_mark, its_bits, bits
    same = dods == 0
    mark[same], mark_bits[same], body_bits[same] = 0, 1, 0
    pieces[:, 0], lengths[:, 0] = mark, mark_bits
    pieces[:, 1], lengths[:, 1] = _low(dods.view(np.uint64), body_bits), body_bits
    firsts, seconds = offsets[:-1], offsets[:-1][np.diff(offsets) > 1] + 1
    # The first times are varints of up to 80 bits: the count takes their first byte's place in the first piece.
    t0 = timestamps[firsts]
    head, head_bits, tail, tail_bits = _varints((t0 << 1 ^ t0 >> 63).view(np.uint64))
    pieces[firsts, 0] = np.diff(offsets).astype(np.uint64) << head_bits | head
    lengths[firsts, 0] = head_bits + np.uint64(16)
    pieces[firsts, 1], lengths[firsts, 1] = tail, tail_bits
    head, head_bits, tail, tail_bits = _varints(deltas[seconds])
    pieces[seconds, 0], lengths[seconds, 0], pieces[seconds, 1], lengths[seconds, 1] = head, head_bits, tail, tail_bits


def _varints(numbers: Bits) -> tuple[Bits, Bits, Bits, Bits]:
    """Each as a varint, cut in two behind its fifth byte: bytes and their bits, bytes and their bits."""
    parts = []
    size = np.maximum((_bit_length(numbers) + np.uint64(6)) // np.uint64(7), _ONE)
    for first in (0, 5):
        out, length = np.zeros(len(numbers), np.uint64), np.zeros(len(numbers), np.uint64)
        for at in range(first, first + 5):
            has = size > at
            more = (size > at + 1).astype(np.uint64) << np.uint64(7)
            byte = numbers >> np.uint64(7 * at) & np.uint64(0x7F) | more
            out = np.where(has, out << np.uint64(8) | byte, out)
            length += has.astype(np.uint64) << np.uint64(3)
        parts += [out, length]
    return parts[0], parts[1], parts[2], parts[3]


def _encode_values(offsets: Ints, values: Bits, pieces: Bits, lengths: Bits) -> None:
    xors = np.zeros(len(values), np.uint64)
    xors[1:] = values[1:] ^ values[:-1]
    leading = np.minimum(64 - _bit_length(xors).astype(np.int64), 31).astype(np.int16)
    trailing = (_bit_length(xors & (~xors + _ONE)).astype(np.int64) - 1).astype(np.int16)
    # Which window each sample is written in: the one thing that depends on all before it.
    window_leading, window_trailing = leading.copy(), trailing.copy()
    opens = np.zeros(len(values), np.bool_)
    order, active = _longest_first(np.diff(offsets))
    firsts = offsets[:-1][order]
    low, high = np.full(len(order), _NO_WINDOW, np.int16), np.zeros(len(order), np.int16)
    for j in range(1, len(active)):
        n = int(active[j])
        at = firsts[:n] + j
        lead, trail, changed = leading[at], trailing[at], xors[at] != 0
        new = changed & ((low[:n] == _NO_WINDOW) | (lead < low[:n]) | (trail < high[:n]))
        np.copyto(low[:n], lead, where=new)
        np.copyto(high[:n], trail, where=new)
        window_leading[at], window_trailing[at], opens[at] = low[:n], high[:n], new
    changed = xors != 0
    width = np.where(changed, 64 - window_leading - window_trailing, 0).astype(np.uint64)
    header = np.where(
        opens,
        np.uint64(0b11 << 11) | window_leading.astype(np.uint64) << np.uint64(6) | width & np.uint64(63),
        np.where(changed, np.uint64(0b10), _ZERO),
    )
    pieces[:, 2], lengths[:, 2] = header, np.where(opens, 13, np.where(changed, 2, 1))
    pieces[:, 3], lengths[:, 3] = np.where(changed, xors >> window_trailing.astype(np.uint64), _ZERO), width
    firsts = offsets[:-1]
    pieces[firsts, 2], lengths[firsts, 2], pieces[firsts, 3], lengths[firsts, 3] = 0, 0, values[firsts], 64


def _pack(offsets: Ints, pieces: Bits, lengths: Bits) -> Encoded:
    """Lays the pieces behind each other, each chunk's first at a whole byte."""
    ends = np.cumsum(lengths.ravel().view(np.int64))
    before = np.concatenate([np.zeros(1, np.int64), ends[offsets[1:] * 4 - 1]])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum((np.diff(before) + 7) // 8)])
    shift = np.repeat(starts[:-1] * 8 - before[:-1], np.diff(offsets) * 4)
    used = np.flatnonzero(lengths.ravel())
    piece, length = pieces.ravel()[used], lengths.ravel()[used]
    place = (ends + shift)[used].view(np.uint64) - length
    word, bit = (place >> np.uint64(6)).view(np.int64), place & np.uint64(63)
    piece = piece << (np.uint64(64) - length)
    # A piece lies in one word or in two; those of one word do not overlap, so they may be joined by one reduction.
    words = np.zeros(int(starts[-1]) // 8 + 2, np.uint64)
    changes = np.flatnonzero(np.diff(word, prepend=-1))
    words[word[changes]] = np.bitwise_or.reduceat(piece >> bit, changes)
    rest = piece << _ONE << (np.uint64(63) - bit)
    words[word[changes] + 1] |= np.bitwise_or.reduceat(rest, changes)
    return Encoded(words.astype(">u8").view(np.uint8)[: int(starts[-1])], starts)


# --- reading


class _Walk:
    """Chunks that are read side by side, the longest first: where each is, and what it carries to its next sample."""

    def __init__(self, data: NDArray[np.uint8], starts: Ints, ends: Ints, counts: Ints) -> None:
        self.order, self.active = _longest_first(counts)
        first, last = int(starts.min()), int(ends.max())
        padded = np.zeros((last - first) // 8 * 8 + 32, np.uint8)
        padded[: last - first] = data[first:last]
        self.words = padded.view(">u8").astype(np.uint64)
        self.limit = np.uint64(len(self.words) * 64 - 128)
        self.at = ((starts[self.order] - first + 2) * 8).astype(np.uint64)
        self.ends = ((ends[self.order] - first) * 8).astype(np.uint64)
        zeros = np.zeros(len(counts), np.uint64)
        self.time, self.delta, self.value = zeros.copy(), zeros.copy(), zeros.copy()
        self.trailing, self.width = zeros.copy(), np.full(len(counts), 64, np.uint64)
        self.broken = np.zeros(len(counts), np.bool_)

    def run(self, offsets: Ints, times: Bits, values: Bits) -> None:
        """Fill times and values. Raises ChunkError."""
        firsts = offsets[:-1][self.order]
        for j in range(len(self.active)):
            n = int(self.active[j])
            if j == 0:
                zigzag = self.varint(n)
                self.time[:n] = zigzag >> _ONE ^ (_ZERO - (zigzag & _ONE))
                self.value[:n] = self.take(n, np.full(n, 64, np.uint64))
            else:
                if j == 1:
                    self.delta[:n] = self.varint(n)
                else:
                    self.delta[:n] += self.dod(n)
                self.time[:n] += self.delta[:n]
                self.xor(n)
            times[firsts[:n] + j], values[firsts[:n] + j] = self.time[:n], self.value[:n]
        broken = self.order[self.broken | (self.at > self.ends)]
        if len(broken):
            raise ChunkError(int(broken.min()), "its bits end before its last sample, or are none of this encoding")

    def peek(self, n: int) -> Bits:
        """The next 64 bits of each chunk; behind the end, whatever is there."""
        place = np.minimum(self.at[:n], self.limit)
        word, bit = (place >> np.uint64(6)).view(np.int64), place & np.uint64(63)
        high: Bits = self.words[word] << bit
        low: Bits = self.words[word + 1] >> _ONE >> (np.uint64(63) - bit)
        return high | low

    def take(self, n: int, widths: Bits) -> Bits:
        """The next bits of each chunk, 0 to 64."""
        bits = self.peek(n) >> (np.uint64(64) - np.maximum(widths, _ONE))
        self.at[:n] += widths
        return np.where(widths > 0, bits, _ZERO)

    def varint(self, n: int) -> Bits:
        out: Bits = np.zeros(n, np.uint64)
        more: NDArray[np.bool_] = np.ones(n, np.bool_)
        for k in range(10):
            byte = self.peek(n) >> np.uint64(56)
            out |= np.where(more, (byte & np.uint64(0x7F)) << np.uint64(7 * k), _ZERO)
            self.at[:n] += more.astype(np.uint64) << np.uint64(3)
            more &= byte > 0x7F
            if not more.any():
                break
        self.broken[:n] |= more
        return out

    def dod(self, n: int) -> Bits:
        mark = (self.peek(n) >> np.uint64(60)).view(np.int64)
        self.at[:n] += _MARK_BITS[mark]
        if not mark.any():
            return np.zeros(n, np.uint64)
        width = _BODY_BITS[mark]
        bits = self.take(n, width)
        negative = (width > 0) & (width < 64) & (bits > _ONE << (np.maximum(width, _ONE) - _ONE))
        return np.where(negative, bits - (_ONE << (width & np.uint64(63))), bits)

    def xor(self, n: int) -> None:
        head = self.peek(n)
        changed, opens = head >> np.uint64(63) == 1, head >> np.uint64(62) == 3
        leading = head >> np.uint64(57) & np.uint64(31)
        width = ((head >> np.uint64(51)) - _ONE & np.uint64(63)) + _ONE
        self.broken[:n] |= opens & (leading + width > 64)
        np.copyto(self.width[:n], width, where=opens)
        np.copyto(self.trailing[:n], np.uint64(64) - leading - width & np.uint64(63), where=opens)
        self.at[:n] += np.where(opens, 13, np.where(changed, 2, 1)).astype(np.uint64)
        bits = self.take(n, np.where(changed, self.width[:n], _ZERO))
        self.value[:n] ^= bits << self.trailing[:n]


# --- bits


def _low(numbers: Bits, widths: Bits) -> Bits:
    """The lowest bits of each."""
    out: Bits = numbers & ((_ONE << _ONE << (np.maximum(widths, _ONE) - _ONE)) - _ONE)
    return out


def _bit_length(numbers: Bits) -> Bits:
    """How many bits each number has; floats hold its halves exactly, and know their exponents."""
    high = (numbers >> np.uint64(32)).astype(np.float64)
    low = (numbers & np.uint64(0xFFFFFFFF)).astype(np.float64)
    out: Bits = np.where(high > 0, np.frexp(high)[1] + 32, np.frexp(low)[1]).astype(np.uint64)
    return out
