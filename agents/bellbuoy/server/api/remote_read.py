"""`read`: Prometheus's remote read, for Prometheus itself, Thanos's sidecar, and whoever wants raw samples.

A request is protobuf in snappy; the answer is one message with all samples, or, where the client takes it, a stream of
frames, each some of a series' samples in Prometheus's XOR chunks:

```
frame: length uvarint │ CRC-32C of the message, 4 bytes │ ChunkedReadResponse
```
Native histograms have no XOR chunk: where there are some, all of the answer goes as samples, which clients of the
stream take as well. Our external labels are given to each series, and matchers that ask for them match.
"""

import asyncio
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cramjam
import numpy as np
from aiohttp import web
from multidict import MultiDict

from bellbuoy.promql import QueryError
from bellbuoy.promql.values import is_histogram, numbers_of
from bellbuoy.server.api.answers import STATUS, ApiError
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.api.protobuf import (
    WireError,
    fields,
    numbers,
    put_bytes,
    put_double,
    put_number,
    put_text,
    put_zigzag,
    signed,
)
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import Matcher, Source
from bellbuoy.server.query_ledger import Asked
from bellbuoy.tsdb import Histogram, Selection, xor
from bellbuoy.tsdb.binary import CutOffError, crc32c, read_uvarint, uvarint, varint

# A request inflates to no more than this; a thousand matchers are some tens of kilobytes.
MOST_REQUEST_BYTES = 4 << 20
MOST_QUERIES = 100
# As Prometheus: clients may have a limit on the length of a frame.
FRAME_BYTES = 1 << 20
CHUNK_SAMPLES = 120
SAMPLES, STREAMED = 0, 1
_OPERATORS = ("=", "!=", "=~", "!~")
_HINTS = {"unknown": 0, "reset": 1, "not_reset": 2, "gauge": 3}


@dataclass
class ReadQuery:
    """One of a request's queries."""

    start_ms: int = 0
    end_ms: int = 0
    matchers: list[Matcher] = field(default_factory=list)


def read_request(body: bytes) -> tuple[list[ReadQuery], list[int]]:
    """The queries, and the forms of answer that the client takes, most wanted first. Raises WireError."""
    try:
        size, _ = read_uvarint(body, 0)
        if size > MOST_REQUEST_BYTES:
            raise WireError(f"the request inflates to {size} bytes; at most {MOST_REQUEST_BYTES} are read")
        data = bytes(cramjam.snappy.decompress_raw(body))
    except (cramjam.DecompressionError, CutOffError) as e:
        raise WireError(f"the request is no snappy: {e}") from e
    queries: list[ReadQuery] = []
    accepted: list[int] = []
    for number, value in fields(data):
        if number == 1 and isinstance(value, bytes):
            queries.append(_query(value))
        elif number == 2 and isinstance(value, int):
            accepted.append(value)
        elif number == 2 and isinstance(value, bytes):
            accepted += numbers(value)
    if len(queries) > MOST_QUERIES:
        raise WireError(f"the request has {len(queries)} queries; at most {MOST_QUERIES} are answered at a time")
    return queries, accepted


def _query(data: bytes) -> ReadQuery:
    out = ReadQuery()
    for number, value in fields(data):
        if number == 1 and isinstance(value, int):
            out.start_ms = signed(value)
        elif number == 2 and isinstance(value, int):
            out.end_ms = signed(value)
        elif number == 3 and isinstance(value, bytes):
            out.matchers.append(_matcher(value))
    return out


def _matcher(data: bytes) -> Matcher:
    kind, texts = 0, {2: "", 3: ""}
    for number, value in fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number in texts and isinstance(value, bytes):
            texts[number] = value.decode("utf-8", "replace")
    if kind >= len(_OPERATORS):
        raise WireError(f"there is no matcher of type {kind}")
    return texts[2], _OPERATORS[kind], texts[3]


def choose_form(accepted: list[int]) -> int:
    """The first form that we have; none asked for means samples. Raises WireError."""
    for one in accepted or [SAMPLES]:
        if one in (SAMPLES, STREAMED):
            return one
    raise WireError(f"none of the response types {accepted} is had here; ask for {SAMPLES} or {STREAMED}")


def without_external(matchers: list[Matcher], external: dict[str, str]) -> list[Matcher]:
    """The matchers as they are for the storage, which has not got the labels that all of our series have outside."""
    return [
        (name, "=", "") if operator == "=" and value and external.get(name) == value else (name, operator, value)
        for name, operator, value in matchers
    ]


def _labels(labels: dict[str, str], external: dict[str, str]) -> bytes:
    merged = sorted((external | labels).items())
    return b"".join(put_bytes(1, put_text(1, name) + put_text(2, value)) for name, value in merged)


def histogram_message(histogram: Histogram, time_ms: int) -> bytes:
    """A native histogram, as prompb has it."""
    whole = not histogram.is_float
    out = put_number(1, int(histogram.count)) if whole else put_double(2, histogram.count)
    out += put_double(3, histogram.sum) + put_zigzag(4, histogram.schema) + put_double(5, histogram.zero_threshold)
    out += put_number(6, int(histogram.zero_count)) if whole else put_double(7, histogram.zero_count)
    for first, spans, buckets in (
        (8, histogram.negative_spans, histogram.negative_buckets),
        (11, histogram.positive_spans, histogram.positive_buckets),
    ):
        out += b"".join(put_bytes(first, put_zigzag(1, offset) + put_number(2, size)) for offset, size in spans)
        if whole:
            deltas = np.diff(buckets, prepend=0).astype(np.int64).tolist()
            packed = b"".join(map(varint, deltas))
            out += put_bytes(first + 1, packed) if packed else b""
        elif len(buckets):
            out += put_bytes(first + 2, buckets.astype("<f8").tobytes())
    out += put_number(14, _HINTS[histogram.counter_reset_hint]) + put_number(15, time_ms)
    custom = histogram.custom_values
    return out + (put_bytes(16, custom.astype("<f8").tobytes()) if len(custom) else b"")


def samples_message(found: Selection, external: dict[str, str]) -> bytes:
    """A QueryResult with all samples of a selection."""
    out = []
    for row, labels in enumerate(found.labels.to_dicts()):
        part = slice(int(found.offsets[row]), int(found.offsets[row + 1]))
        series = [_labels(labels, external)]
        marks = is_histogram(found.values[part]).tolist()
        numbers = numbers_of(found.values[part]).tolist()
        samples = zip(found.timestamps[part].tolist(), found.values[part].tolist(), marks, numbers, strict=True)
        for time_ms, value, mark, number in samples:
            if mark:
                series.append(put_bytes(4, histogram_message(found.histograms[number], time_ms)))
            else:
                series.append(put_bytes(2, put_double(1, value) + put_number(2, time_ms)))
        out.append(put_bytes(1, b"".join(series)))
    return b"".join(out)


def frames(found: Selection, external: dict[str, str], number: int) -> Iterator[bytes]:
    """A selection's series, sorted by labels, as frames of the stream."""
    lengths = np.diff(found.offsets)
    starts = [
        np.arange(first, first + length, CHUNK_SAMPLES)
        for first, length in zip(found.offsets[:-1].tolist(), lengths.tolist(), strict=True)
    ]
    cuts = np.concatenate([*starts, found.offsets[-1:]]).astype(np.int64)
    data, places = xor.encode(cuts, found.timestamps, found.values)
    first_chunk = np.concatenate([[0], np.cumsum([len(one) for one in starts])]).tolist()
    edges = places.tolist()
    lows, highs = found.timestamps[cuts[:-1]].tolist(), found.timestamps[cuts[1:] - 1].tolist()
    for row in found.labels.order().tolist():
        head, chunks, size = _labels(found.labels[row], external), [], 0
        for at in range(first_chunk[row], first_chunk[row + 1]):
            one = put_number(1, lows[at]) + put_number(2, highs[at]) + put_number(3, 1)
            chunks.append(put_bytes(2, one + put_bytes(4, data[edges[at] : edges[at + 1]].tobytes())))
            size += len(chunks[-1])
            if size + len(head) > FRAME_BYTES or at + 1 == first_chunk[row + 1]:
                message = put_bytes(1, head + b"".join(chunks)) + put_number(2, number)
                yield uvarint(len(message)) + struct.pack(">I", crc32c(message)) + message
                chunks, size = [], 0


async def remote_read(parts: Parts, request: web.Request) -> web.StreamResponse:
    """Raw samples; errors are plain text, as Prometheus's are."""
    try:
        queries, accepted = read_request(await request.read())
        form = choose_form(accepted)
        filters = Parameters(MultiDict(request.query)).filters()
        found = await _select(parts, request, queries, filters)
    except WireError as e:
        return web.Response(status=400, text=f"{e}\n")
    except (ApiError, QueryError) as e:
        return web.Response(status=STATUS[e.kind], text=f"{e}\n")
    except (OverflowError, ValueError) as e:
        return web.Response(status=422 if isinstance(e, OverflowError) else 400, text=f"{e}\n")
    external = dict(parts.external_labels)
    if form == STREAMED and not any(len(one.histograms) for one in found):
        return await _stream(request, found, external)

    def pack() -> bytes:
        body = b"".join(put_bytes(1, samples_message(one, external)) for one in found)
        return bytes(cramjam.snappy.compress_raw(body))

    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    return web.Response(body=await asyncio.to_thread(pack), headers=headers)


async def _select(
    parts: Parts, request: web.Request, queries: list[ReadQuery], filters: list[Matcher]
) -> list[Selection]:
    start, end = min((one.start_ms for one in queries), default=0), max((one.end_ms for one in queries), default=0)
    text = "; ".join("{" + ",".join(f'{a}{b}"{c}"' for a, b, c in one.matchers) + "}" for one in queries)
    asked = Asked.of(request, text, start_ms=start, end_ms=end)
    source = Source(parts.storage, filters=filters, cost=asked.cost)
    external, most = dict(parts.external_labels), parts.options.query.max_samples

    def work(cancelled: Callable[[], bool]) -> list[Selection]:
        out: list[Selection] = []
        for one in queries:
            if cancelled():
                break
            matchers = without_external(one.matchers, external)
            left = max(1, most - asked.cost.samples)
            out.append(source.select(matchers, one.start_ms, one.end_ms, max_samples=left))
        return out

    with parts.ledger.running(asked):
        return await parts.queries.run(request, work, cost=asked.cost)


async def _stream(request: web.Request, found: list[Selection], external: dict[str, str]) -> web.StreamResponse:
    kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    response = web.StreamResponse(headers={"Content-Type": kind})
    await response.prepare(request)
    for number, one in enumerate(found):
        if not len(one.labels):
            continue
        rest: Iterator[Any] = frames(one, external, number)
        while parts := await asyncio.to_thread(_some, rest):
            await response.write(parts)
    return response


def _some(rest: Iterator[bytes]) -> bytes:
    """The next frames, about as much as one may be long; nothing at the end."""
    out, size = [], 0
    for frame in rest:
        out.append(frame)
        size += len(frame)
        if size >= FRAME_BYTES:
            break
    return b"".join(out)
