"""Pushes as Go's client sends them. The bytes of GO were written by client_golang's own encoder."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellbuoy.exposition import ParseError, Sample
from bellbuoy.pushgateway.protobuf import parse_delimited
from tests.pushgateway.conftest import Start

CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
GO = bytes.fromhex(
    "220a0a646f6e655f746f74616c1205446f6e652e1800220b1a09090000000000000040320a0473697a65120553697a652e18"
    "022221221f08011100000000000008401a1209000000000000e03f1100000000000008404d0a0c746f6f6b5f7365636f6e64"
    "731205546f6f6b2e180422340a0b0a046b696e6412036122623a25080111000000000000e83f1a0b080011000000000000e0"
    "3f1a0b0801110000000080842e41"
)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def gauge(name: str, labels: dict[str, str], value: float) -> bytes:
    pairs = b"".join(message(1, message(1, k.encode()) + message(2, v.encode())) for k, v in labels.items())
    family = message(1, name.encode()) + message(2, b"Help.") + whole(3, 1)
    family += message(4, pairs + message(2, double(1, value)))
    return varint(len(family)) + family


texts = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


@given(texts, st.dictionaries(texts, texts, max_size=3), st.floats(allow_nan=False))
def test_a_gauge_reads_back(name: str, labels: dict[str, str], value: float) -> None:
    families = parse_delimited(gauge(name, labels, value))
    (family,) = families.values()
    assert (family.name, family.type, family.help) == (name, "gauge", "Help.")
    assert family.samples == [Sample(name, tuple(sorted(labels.items())), value)]


def test_a_histogram_gets_its_last_bucket() -> None:
    bucket = message(3, whole(1, 2) + double(2, 1e6))
    histogram = message(7, whole(1, 3) + double(2, 4.5) + bucket)
    family = message(1, b"h") + whole(3, 4) + message(4, histogram)
    assert parse_delimited(varint(len(family)) + family)["h"].samples == [
        Sample("h_bucket", (("le", "1e+06"),), 2.0),
        Sample("h_bucket", (("le", "+Inf"),), 3.0),
        Sample("h_sum", (), 4.5),
        Sample("h_count", (), 3.0),
    ]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_delimited(data)
    except ParseError:
        return


def test_a_body_that_is_cut_off_is_refused() -> None:
    with pytest.raises(ParseError, match="bytes are announced"):
        parse_delimited(gauge("g", {}, 1)[:-1])


async def test_what_gos_client_pushes_is_kept(start: Start) -> None:
    async with start() as gateway:
        assert await gateway.put("job/go", GO, Content_Type=CONTENT_TYPE) == (200, "")
        assert [line for line in await gateway.lines('job="go"') if not line.startswith("push_")] == [
            'done_total{instance="",job="go"} 2',
            'size_count{instance="",job="go"} 1',
            'size_sum{instance="",job="go"} 3',
            'size{instance="",job="go",quantile="0.5"} 3',
            'took_seconds_bucket{instance="",job="go",kind="a\\"b",le="+Inf"} 1',
            'took_seconds_bucket{instance="",job="go",kind="a\\"b",le="0.5"} 0',
            'took_seconds_bucket{instance="",job="go",kind="a\\"b",le="1e+06"} 1',
            'took_seconds_count{instance="",job="go",kind="a\\"b"} 1',
            'took_seconds_sum{instance="",job="go",kind="a\\"b"} 0.75',
        ]


async def test_another_protobuf_is_refused_with_its_cure(start: Start) -> None:
    async with start() as gateway:
        status, text = await gateway.put("job/go", b"", Content_Type="application/vnd.google.protobuf")
        assert (status, "encoding=delimited" in text) == (415, True)
