"""The page for federation as protobuf: delimited MetricFamily messages, native histograms among them.

A family is as many neighbouring samples as have a name and a type; floats are untyped, since nobody remembers what they
were. Histograms of custom buckets go as the classic ones that they stand for.
"""

from collections.abc import Callable

import numpy as np

from bellbuoy.server.api.protobuf import put_bytes, put_double, put_number, put_text, put_zigzag
from bellbuoy.tsdb import Histogram
from bellbuoy.tsdb.binary import uvarint

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping="
_UNTYPED, _HISTOGRAM, _GAUGE_HISTOGRAM = 3, 4, 5
_CUSTOM = -53


def wants_protobuf(accepted: str) -> bool:
    """Whether this `Accept` weighs delimited protobuf over text; of what weighs the same, the first is taken."""
    best, binary = 0.0, False
    for part in accepted.lower().split(","):
        kind, *parameters = (one.strip() for one in part.split(";"))
        delimited = kind == "application/vnd.google.protobuf" and "encoding=delimited" in parameters
        if not delimited and kind not in ("text/plain", "text/*", "*/*"):
            continue
        try:
            weight = next((float(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        except ValueError:
            weight = 0.0
        if weight > best:
            best, binary = weight, delimited
    return binary


def _kind(value: float | Histogram) -> int:
    if not isinstance(value, Histogram):
        return _UNTYPED
    return _GAUGE_HISTOGRAM if value.counter_reset_hint == "gauge" else _HISTOGRAM


def protobuf_page(
    rows: list[tuple[dict[str, str], int, float | Histogram]], external: dict[str, str], *, name: Callable[[str], str]
) -> bytes:
    """The page of these samples, sorted by name; `name` makes names as the client takes them."""
    out: list[bytes] = []
    metrics: list[bytes] = []
    last: tuple[str, int] = ("", 0)

    def close() -> None:
        if metrics:
            # The type is written though it may be the default: it has no other presence.
            family = put_text(1, name(last[0])) + uvarint(3 << 3) + uvarint(last[1]) + b"".join(metrics)
            out.append(uvarint(len(family)) + family)
            metrics.clear()

    for labels, time_ms, value in rows:
        metric = labels.get("__name__", "")
        if not metric:
            continue
        if (metric, _kind(value)) != last:
            close()
            last = (metric, _kind(value))
        own = {key: word for key, word in labels.items() if key != "__name__"}
        pairs = own | {key: word for key, word in external.items() if key not in own}
        body = b"".join(put_bytes(1, put_text(1, name(key)) + put_text(2, word)) for key, word in pairs.items())
        sample = put_bytes(7, _histogram(value)) if isinstance(value, Histogram) else put_bytes(5, put_double(1, value))
        metrics.append(put_bytes(4, body + sample + put_number(6, time_ms)))
    close()
    return b"".join(out)


def _histogram(one: Histogram) -> bytes:
    out = put_double(2, one.sum) + put_double(4, one.count)
    if one.schema == _CUSTOM:
        return out + _classic(one)
    out += put_zigzag(5, one.schema) + put_double(6, one.zero_threshold) + put_double(8, one.zero_count)
    for field, spans, buckets in (
        (9, one.negative_spans, one.negative_buckets),
        (12, one.positive_spans, one.positive_buckets),
    ):
        out += b"".join(put_bytes(field, put_zigzag(1, offset) + put_number(2, size)) for offset, size in spans)
        if len(buckets):
            out += put_bytes(field + 2, np.asarray(buckets, "<f8").tobytes())
    return out


def _classic(one: Histogram) -> bytes:
    counts = np.zeros(len(one.custom_values) + 1)
    at = place = 0
    for offset, size in one.positive_spans:
        place += offset
        counts[place : place + size] = one.positive_buckets[at : at + size]
        at, place = at + size, place + size
    cumulative = np.cumsum(counts)[:-1].tolist()
    buckets = zip(cumulative, one.custom_values.tolist(), strict=True)
    return b"".join(put_bytes(3, put_double(2, bound) + put_double(4, count)) for count, bound in buckets)
