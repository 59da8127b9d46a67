"""What Prometheus's files are made of: varints as Go writes them, and checksums by CRC-32C.

Python's own zlib has another polynomial, so CRC-32C is made of table look-ups over numpy arrays: texts, or the pieces
of a long one, are summed side by side.
"""

import functools

import numpy as np
from numpy.typing import NDArray

Bytes = bytes | bytearray | memoryview
_POLYNOMIAL = 0x82F63B78
_PIECE = 1024
_ALL_ONES = 0xFFFFFFFF


class CutOffError(ValueError):
    """A number whose bytes end too early, or do not end."""


def uvarint(number: int) -> bytes:
    """A number, not negative, as Go's binary.PutUvarint writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varint(number: int) -> bytes:
    """A number as Go's binary.PutVarint writes it: zigzag, so that small negative ones are short."""
    return uvarint(number << 1 if number >= 0 else (-number << 1) - 1)


def read_uvarint(data: Bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises CutOffError."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise CutOffError(f"the number at offset {at} does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def read_varint(data: Bytes, at: int) -> tuple[int, int]:
    """The signed number at a place, and the place behind it. Raises CutOffError."""
    number, at = read_uvarint(data, at)
    return number >> 1 ^ -(number & 1), at


def crc32c(data: Bytes) -> int:
    """The checksum of a text."""
    if len(data) < _PIECE:
        return _plain(data, _ALL_ONES) ^ _ALL_ONES
    text = np.frombuffer(data, np.uint8)
    whole = len(text) // _PIECE
    sums = np.zeros(whole, np.uint32)
    sums[0] = _ALL_ONES
    pieces = text[: whole * _PIECE].reshape(whole, _PIECE)
    table = _table()
    for column in range(_PIECE):
        sums = table[(sums ^ pieces[:, column]) & 0xFF] ^ sums >> 8
    total, skip = _ALL_ONES, _skip_piece()
    for at, one in enumerate(sums.tolist()):
        if at:
            a, b, c, d = skip
            one ^= a[total & 0xFF] ^ b[total >> 8 & 0xFF] ^ c[total >> 16 & 0xFF] ^ d[total >> 24]
        total = one
    return _plain(text[whole * _PIECE :].tobytes(), total) ^ _ALL_ONES


def crc32c_of_each(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The checksums of `data[starts[i]:ends[i]]`, side by side: for many short texts."""
    table = _table()
    order = np.argsort(starts - ends, kind="stable")
    first, lengths = starts[order], (ends - starts)[order]
    sums = np.full(len(starts), _ALL_ONES, np.uint32)
    longest = int(lengths[0]) if len(lengths) else 0
    active = len(lengths) - np.searchsorted(lengths[::-1], np.arange(longest), side="right")
    for at, n in enumerate(active.tolist()):
        part = sums[:n]
        sums[:n] = table[(part ^ data[first[:n] + at]) & 0xFF] ^ part >> 8
    out = np.empty_like(sums)
    out[order] = sums ^ np.uint32(_ALL_ONES)
    return out


def _plain(data: Bytes, sum_: int) -> int:
    table = _plain_table()
    for byte in data:
        sum_ = table[(sum_ ^ byte) & 0xFF] ^ sum_ >> 8
    return sum_


@functools.cache
def _plain_table() -> list[int]:
    out: list[int] = _table().tolist()
    return out


@functools.cache
def _table() -> NDArray[np.uint32]:
    """What a byte does to a sum."""
    sums = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        sums = np.where(sums & 1, sums >> 1 ^ np.uint32(_POLYNOMIAL), sums >> 1)
    return sums


@functools.cache
def _skip_piece() -> list[list[int]]:
    """What each byte of a sum becomes when a piece of zeros follows it; sums are linear, so each byte goes alone."""
    table = _table()
    sums = np.arange(256, dtype=np.uint32)[None, :] << np.array([0, 8, 16, 24], np.uint32)[:, None]
    for _ in range(_PIECE):
        sums = table[sums & 0xFF] ^ sums >> 8
    out: list[list[int]] = sums.tolist()
    return out
