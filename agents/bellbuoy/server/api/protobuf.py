"""The little of protobuf that remote read needs: fields in, fields out.

A message is a list of fields; a field is a number with a varint, eight bytes, or bytes that may be a message again. The
messages themselves are in `remote_read`.
"""

import struct
from collections.abc import Iterator

from bellbuoy.tsdb.binary import CutOffError, read_uvarint, uvarint, varint

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each field of a message: its number, and what it holds. Raises WireError."""
    at = 0
    try:
        while at < len(data):
            key, at = read_uvarint(data, at)
            kind, value = key & 7, b""
            if kind == VARINT:
                number, at = read_uvarint(data, at)
                yield key >> 3, number
                continue
            if kind == BYTES:
                size, at = read_uvarint(data, at)
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
            else:
                raise WireError(f"field {key >> 3} has the unknown wire type {kind}")
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise WireError(f"field {key >> 3} ends behind its message")
            yield key >> 3, value
    except CutOffError as e:
        raise WireError(str(e)) from e


def numbers(data: bytes) -> list[int]:
    """The varints of a packed field. Raises WireError."""
    out, at = [], 0
    try:
        while at < len(data):
            one, at = read_uvarint(data, at)
            out.append(one)
    except CutOffError as e:
        raise WireError(str(e)) from e
    return out


def signed(number: int) -> int:
    """An int64, which travels as what it is modulo 2**64."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def put_number(field: int, number: int) -> bytes:
    """An int64 or uint64, nothing for 0."""
    return uvarint(field << 3) + uvarint(number & (1 << 64) - 1) if number else b""


def put_zigzag(field: int, number: int) -> bytes:
    """A sint32 or sint64, nothing for 0."""
    return uvarint(field << 3) + varint(number) if number else b""


def put_double(field: int, number: float) -> bytes:
    """A double, nothing for 0 (but for the negative one)."""
    packed = struct.pack("<d", number)
    return uvarint(field << 3 | FIXED64) + packed if packed != bytes(8) else b""


def put_bytes(field: int, data: bytes) -> bytes:
    """Bytes, or a message."""
    return uvarint(field << 3 | BYTES) + uvarint(len(data)) + data


def put_text(field: int, text: str) -> bytes:
    """A string, nothing for an empty one."""
    return put_bytes(field, text.encode("utf-8", "replace")) if text else b""
