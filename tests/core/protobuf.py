"""Bodies of Prometheus's protobuf format, written by hand: messages are bytes, and a field is a number and a value."""

import struct
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
KINDS = {"counter": 0, "gauge": 1, "summary": 2, "untyped": 3, "histogram": 4, "gaugehistogram": 5}
# Where a metric has its value.
VALUES = {"counter": 3, "gauge": 2, "summary": 4, "untyped": 5, "histogram": 7, "gaugehistogram": 7}


def varint(value: int) -> bytes:
    value %= 2**64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def signed(field: int, value: int) -> bytes:
    return number(field, value << 1 ^ value >> 63)


def double(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def message(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def labels(pairs: Mapping[str, str]) -> bytes:
    return b"".join(message(1, message(1, name) + message(2, value)) for name, value in pairs.items())


def exemplar(pairs: Mapping[str, str], value: float, time_ms: int | None = None) -> bytes:
    out = labels(pairs) + double(2, value)
    if time_ms is not None:
        out += message(3, number(1, time_ms // 1000) + number(2, time_ms % 1000 * 1_000_000))
    return out


def span(offset: int, length: int) -> bytes:
    return signed(1, offset) + number(2, length)


def native(buckets: Iterable[int], *, first: int = 0, sum_: float = 1.0, exemplars: Iterable[bytes] = ()) -> bytes:
    """An integer histogram of schema 0 whose buckets these are, from an index on."""
    counts = list(buckets)
    out = number(1, sum(counts)) + double(2, sum_) + signed(5, 0) + double(6, 1e-9)
    out += message(12, span(first, len(counts)))
    deltas = [count - before for before, count in zip([0, *counts], counts, strict=False)]
    out += message(13, b"".join(varint(delta << 1 ^ delta >> 63) for delta in deltas))
    return out + b"".join(message(16, one) for one in exemplars)


def metric(kind: str, value: bytes, pairs: Mapping[str, str] | None = None, *, time_ms: int = 0) -> bytes:
    out = labels(pairs or {}) + message(VALUES[kind], value)
    return out + (number(6, time_ms) if time_ms else b"")


def family(name: str, kind: str, *metrics: bytes, help_: str = "") -> bytes:
    """One family, behind its length."""
    out = message(1, name) + message(2, help_) + number(3, KINDS[kind]) + b"".join(message(4, one) for one in metrics)
    return varint(len(out)) + out
