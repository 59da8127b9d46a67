"""Pushes in protobuf: delimited `io.prometheus.client.MetricFamily`, which Go's client sends unless told otherwise.

Only what a pushgateway keeps is read: a native histogram becomes its count and sum, exemplars are dropped. The schema
is small and does not change, so its field numbers stand here instead of a generated module and its runtime.
"""

import math
import struct
from collections.abc import Iterator
from typing import Protocol

from bellbuoy.exposition import ParsedFamily, ParseError, Sample, go_number

MEDIA_TYPE = "application/vnd.google.protobuf"
_TYPES = {0: "counter", 1: "gauge", 2: "summary", 3: "untyped", 4: "histogram"}
# The field of Metric that holds a value of each type, for those that are one number.
_VALUE_FIELDS = {"gauge": 2, "counter": 3, "untyped": 5}
Field = tuple[int, int | float | bytes]


class _Add(Protocol):
    def __call__(self, name: str, value: float, /, **more: str) -> None:
        """One sample of the metric at hand, with these labels besides its own."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ParseError(f"cannot read protobuf: the number at byte {at} does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def _take(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ParseError(f"cannot read protobuf: {length} bytes are announced at byte {at}, {len(data) - at} are there")
    return data[at : at + length]


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 1:
            yield number, struct.unpack("<d", _take(data, at, 8))[0]
            at += 8
        elif wire == 2:
            length, at = _varint(data, at)
            yield number, _take(data, at, length)
            at += length
        elif wire == 5:
            yield number, struct.unpack("<f", _take(data, at, 4))[0]
            at += 4
        else:
            raise ParseError(f"cannot read protobuf: wire type {wire} at byte {at} is none")


def _text(value: int | float | bytes) -> str:
    try:
        return _message(value).decode()
    except UnicodeDecodeError as e:
        raise ParseError(f"cannot read protobuf: a text is not UTF-8: {e}") from e


def _message(value: int | float | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ParseError("cannot read protobuf: a number stands where a message or a text must")
    return value


def _number(value: int | float | bytes) -> float:
    if isinstance(value, bytes):
        raise ParseError("cannot read protobuf: a message stands where a number must")
    return float(value)


def parse_delimited(data: bytes) -> dict[str, ParsedFamily]:
    """The families of a push: messages, each after its length. Raises ParseError."""
    families: dict[str, ParsedFamily] = {}
    at = 0
    while at < len(data):
        length, at = _varint(data, at)
        family = _family(_take(data, at, length))
        at += length
        if family.samples:
            families[family.name] = family
    return families


def _family(data: bytes) -> ParsedFamily:
    name, about, kind, metrics = "", None, 0, []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            about = _text(value)
        elif number == 3:
            kind = int(_number(value))
        elif number == 4:
            metrics.append(_message(value))
    if not name:
        raise ParseError("cannot read protobuf: a metric family has no name")
    if kind not in _TYPES:
        raise ParseError(f"cannot read protobuf: metric {name} is of type {kind}, which a pushgateway does not keep")
    family = ParsedFamily(name, _TYPES[kind], about)
    for metric in metrics:
        _metric(family, metric)
    return family


def _metric(family: ParsedFamily, data: bytes) -> None:
    labels: dict[str, str] = {}
    timestamp: int | None = None
    body: dict[int, bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            pair = {key: _text(text) for key, text in _fields(_message(value))}
            labels[pair.get(1, "")] = pair.get(2, "")
        elif number == 6:
            # Signed, as a varint of 64 bits.
            timestamp = int(_number(value))
            timestamp -= (timestamp >> 63) << 64
        elif isinstance(value, bytes):
            body[number] = value

    def add(name: str, value: float, /, **more: str) -> None:
        family.samples.append(Sample(name, tuple(sorted({**labels, **more}.items())), value, timestamp))

    if family.type == "summary":
        _summary(family.name, body.get(4, b""), add)
    elif family.type == "histogram":
        _histogram(family.name, body.get(7, b""), add)
    else:
        add(family.name, _double(body.get(_VALUE_FIELDS[family.type], b""), 1))


def _double(data: bytes, wanted: int) -> float:
    return next((_number(value) for number, value in _fields(data) if number == wanted), 0.0)


def _summary(name: str, data: bytes, add: _Add) -> None:
    count = total = 0.0
    for number, value in _fields(data):
        if number == 1:
            count = _number(value)
        elif number == 2:
            total = _number(value)
        elif number == 3:
            message = _message(value)
            add(name, _double(message, 2), quantile=go_number(_double(message, 1)))
    add(f"{name}_sum", total)
    add(f"{name}_count", count)


def _histogram(name: str, data: bytes, add: _Add) -> None:
    count = total = 0.0
    buckets: dict[float, float] = {}
    for number, value in _fields(data):
        if number in (1, 4):
            count = _number(value) or count
        elif number == 2:
            total = _number(value)
        elif number == 3:
            message = _message(value)
            buckets[_double(message, 2)] = _double(message, 4) or _double(message, 1)
    buckets.setdefault(math.inf, count)
    for bound, cumulative in buckets.items():
        add(f"{name}_bucket", cumulative, le=go_number(bound))
    add(f"{name}_sum", total)
    add(f"{name}_count", count)
