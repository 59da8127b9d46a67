"""Remote read in both forms, its messages, and what it refuses; Prometheus reads it in `test_beside_prometheus`."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bellbuoy.server.api import protobuf
from bellbuoy.server.api.protobuf import (
    WireError,
    fields,
    put_bytes,
    put_double,
    put_number,
    put_text,
    put_zigzag,
    signed,
)
from bellbuoy.server.api.remote_read import choose_form, frames, read_request, without_external
from bellbuoy.tsdb import Histogram, LabelSets, Storage, xor
from bellbuoy.tsdb.binary import crc32c, read_uvarint
from tests.server.conftest import NOW_MS, Client, Serve, fill
from tests.server.test_tenancy import read


def request(*matchers: tuple[int, str, str], accepted: tuple[int, ...] = (), start: int = NOW_MS - 5000) -> bytes:
    """A request's body."""
    query = put_number(1, start) + put_number(2, NOW_MS)
    for kind, name, value in matchers:
        query += put_bytes(3, put_number(1, kind) + put_text(2, name) + put_text(3, value))
    types = put_bytes(2, bytes(accepted)) if accepted else b""
    return bytes(cramjam.snappy.compress_raw(put_bytes(1, query) + types))


def series(message: bytes) -> tuple[dict[str, str], list[Any]]:
    """Labels and the rest of a TimeSeries or a ChunkedSeries."""
    labels, rest = {}, []
    for number, value in fields(message):
        assert isinstance(value, bytes)
        if number == 1:
            pair = {key: text.decode() for key, text in fields(value) if isinstance(text, bytes)}
            labels[pair[1]] = pair[2]
        else:
            rest.append((number, value))
    return labels, rest


NAME = (0, "__name__", "requests_total")


async def test_samples_come_as_one_message(filled: Client) -> None:
    status, body = await read(filled, "/api/v1/read", data=request(NAME, (2, "path", "/[xy]"), (1, "tenant", "b")))
    assert status == 200
    (result,) = fields(bytes(cramjam.snappy.decompress_raw(body)))
    assert isinstance(result[1], bytes)
    found = [series(one) for _, one in fields(result[1]) if isinstance(one, bytes)]
    assert [labels["path"] for labels, _ in found] == ["/x", "/y"]
    samples = [dict(fields(one)) for _, one in found[0][1]]
    times = [signed(one[2]) for one in samples]  # type: ignore[arg-type]
    values = [struct.unpack("<d", one[1])[0] for one in samples]  # type: ignore[arg-type]
    assert times == list(range(NOW_MS - 5000, NOW_MS + 1, 1000))
    assert values == [2.0 * row for row in range(54, 60)]


async def test_chunks_come_as_a_stream_of_frames(filled: Client) -> None:
    status, body = await read(filled, "/api/v1/read", data=request(NAME, accepted=(1, 0), start=0))
    assert status == 200
    at, paths, count = 0, [], 0
    while at < len(body):
        size, at = read_uvarint(body, at)
        message = body[at + 4 : at + 4 + size]
        assert struct.unpack(">I", body[at : at + 4])[0] == crc32c(message)
        at += 4 + size
        for number, value in fields(message):
            assert number == 1
            assert isinstance(value, bytes)
            labels, chunks = series(value)
            paths.append((labels["tenant"], labels["path"]))
            for _, chunk in chunks:
                parts = dict(fields(chunk))
                data = np.frombuffer(parts[4], np.uint8)  # type: ignore[arg-type]
                decoded = xor.decode(data, np.zeros(1, np.int64), np.array([len(data)]))
                assert parts[3] == 1
                assert (parts[1], parts[2]) == (decoded.timestamps[0], decoded.timestamps[-1])
                count += len(decoded.values)
    assert sorted(paths) == [(tenant, path) for tenant in "ab" for path in ("/", "/x", "/y")]
    assert count == 6 * 60


def test_a_long_series_is_cut_into_frames(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    count = 200_000
    times = np.arange(count, dtype=np.int64) * 1000
    values = np.random.default_rng(1).random(count)
    storage.append(LabelSets.from_dicts([{"__name__": "long"}] * count), times, values)
    found = storage.select([("__name__", "=", "long")], 0, count * 1000)
    made = list(frames(found, {"site": "s"}, 3))
    assert len(made) == 2
    assert max(map(len, made)) < 1 << 21
    chunks = 0
    for one in made:
        size, at = read_uvarint(one, 0)
        assert len(one) == at + 4 + size
        parts = list(fields(one[at + 4 :]))
        assert parts[1] == (2, 3)
        assert isinstance(parts[0][1], bytes)
        labels, rest = series(parts[0][1])
        assert labels == {"__name__": "long", "site": "s"}
        chunks += len(rest)
    assert chunks == -(-count // 120)
    storage.close()


async def test_native_histograms_come_as_samples_even_where_chunks_are_wanted(serve: Serve, tmp_path: Path) -> None:
    histogram = Histogram(
        schema=2, count=9, sum=-1.5, zero_threshold=0.001, zero_count=1, positive_spans=[(-3, 2), (4, 1)],
        positive_buckets=[1, 4, 1], negative_spans=[(0, 1)], negative_buckets=[2], counter_reset_hint="gauge",
    )  # fmt: skip
    fill(tmp_path / "data", histogram=histogram)
    config = "global: {external_labels: {site: s}}"
    async with serve(config, retention_seconds=100 * 365 * 86400.0) as client:
        asked = request((0, "__name__", "latency"), (0, "site", "s"), accepted=(1, 0))
        status, body = await read(client, "/api/v1/read", data=asked)
        assert status == 200
        message = bytes(cramjam.snappy.decompress_raw(body))
        (result,) = fields(message)
        assert isinstance(result[1], bytes)
        ((_, one),) = fields(result[1])
        assert isinstance(one, bytes)
        labels, ((number, found),) = series(one)
        assert (labels, number) == ({"__name__": "latency", "site": "s", "tenant": "a"}, 4)
        parts = list(fields(found))
        plain = {key: value for key, value in parts if key not in (8, 11)}
        assert plain[1] == 9
        assert plain[3] == struct.pack("<d", -1.5)
        assert plain[4] == 4  # zigzag
        assert plain[6] == 1
        assert plain[9] == bytes([4])
        assert plain[12] == bytes([2, 6, 5])  # 1, then +3, then -3
        assert (plain[14], plain[15]) == (3, NOW_MS)
        assert [value for key, value in parts if key == 11] == [bytes([8, 5, 16, 2]), bytes([8, 8, 16, 1])]


async def test_what_cannot_be_read_is_said(filled: Client) -> None:
    for body, text in (
        (b"\xff\xff\xff\xff\x7f", "inflates to"),
        (b"no snappy", "is no snappy"),
        (bytes(cramjam.snappy.compress_raw(b"\x0a\x05ab")), "ends behind its message"),
        (request(NAME, accepted=(7,)), "response types"),
        (request((7, "a", "b")), "no matcher of type 7"),
        (request((2, "a", "(")), "("),
    ):
        status, answer = await read(filled, "/api/v1/read", data=body)
        assert (status, text in answer.decode()) == (400, True), (text, answer)
    assert await read(filled, "/api/v1/read", data=request((0, "__name__", "nothing"))) == (200, b"\x02\x04\x0a\x00")


def test_the_first_form_that_is_had_is_chosen() -> None:
    assert [choose_form(one) for one in ([], [0], [1], [0, 1], [1, 0], [9, 1])] == [0, 0, 1, 0, 1, 1]


def test_matchers_of_external_labels_match_what_has_none() -> None:
    external = {"site": "s"}
    for given_, want in (
        (("site", "=", "s"), ("site", "=", "")),
        (("site", "=", "t"), ("site", "=", "t")),
        (("site", "=~", "s"), ("site", "=~", "s")),
        (("job", "=", ""), ("job", "=", "")),
    ):
        assert without_external([given_], external) == [want]


INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(st.integers(1, 1000), INTEGERS, st.floats(allow_nan=False), st.text(), st.binary())
def test_fields_are_read_as_they_were_written(number: int, integer: int, double: float, text: str, data: bytes) -> None:
    message = (
        put_number(number, integer) + put_double(number, double) + put_text(number, text) + put_bytes(number, data)
    )
    found = list(fields(message))
    assert {one for one, _ in found} == {number}
    values: list[Any] = [value for _, value in found]
    if integer:
        assert signed(values.pop(0)) == integer
    if struct.pack("<d", double) != bytes(8):
        assert struct.unpack("<d", values.pop(0))[0] == double
    if text:
        assert values.pop(0) == text.encode("utf-8", "replace")
    assert values == [data]
    zigzag = list(fields(put_zigzag(1, integer)))
    assert not integer or (zigzag[0][1] >> 1 ^ -(zigzag[0][1] & 1)) == integer  # type: ignore[operator]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_readers_fail_otherwise(data: bytes) -> None:
    packed = bytes(cramjam.snappy.compress_raw(data))
    for run in (lambda: list(protobuf.fields(data)), lambda: read_request(data), lambda: read_request(packed)):
        with contextlib.suppress(WireError):
            run()
