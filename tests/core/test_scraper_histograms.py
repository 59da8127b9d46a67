"""Protobuf bodies, native histograms and conversion: what a scrape of them stores."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bellbuoy._core import HISTOGRAM_MARK, STALE_BITS, Histogram, Scraper, Storage, read_exposition
from tests.core.formats import OPENMETRICS, TEXT, go_number
from tests.core.protobuf import CONTENT_TYPE, double, exemplar, family, message, metric, native, number
from tests.core.scraping import Exporter, eventually, last_error, only, settings, target, values

CLASSIC = "# TYPE c histogram\n" + "".join(f'c_bucket{{le="{le}"}} {n}\n' for le, n in (("1", 1), ("+Inf", 3)))
START_MS = 1_700_000_000_000
NATIVE = {"scrape_native_histograms": True}
CONVERT = {"convert_classic_histograms_to_nhcb": True}


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    one.content_type = CONTENT_TYPE
    yield one
    one.stop()


def samples(storage: Storage, name: str, **labels: str) -> list[tuple[int, Any]]:
    """The samples of the one series; a histogram is its count, a stale marker "stale"."""
    found = storage.select([("__name__", "=", name), *((key, "=", value) for key, value in labels.items())], 0, 2**50)
    assert len(found.labels) <= 1
    out: list[tuple[int, Any]] = []
    for time, bits, value in zip(found.timestamps, found.values.view(np.uint64).tolist(), found.values, strict=True):
        if bits >> 32 == HISTOGRAM_MARK:
            out.append((int(time), found.histograms[bits & 0xFFFFFFFF]))
        else:
            out.append((int(time), "stale" if bits == STALE_BITS else float(value)))
    return out


def counts(storage: Storage, name: str, **labels: str) -> list[Any]:
    return [one.count if isinstance(one, Histogram) else one for _, one in samples(storage, name, **labels)]


def one(name: str, *buckets: int, **more: Any) -> bytes:
    return family(name, "histogram", metric("histogram", native(buckets), **more))


def test_native_histograms_are_stored_beside_numbers(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = one("h", 1, 2) + family("g", "gauge", metric("gauge", double(1, 2.5)), help_="Some\ntext.")
    scraper.set_pool("p", settings(**NATIVE), [target(exporter)])
    eventually(lambda: len(counts(storage, "h")) >= 3)
    assert set(counts(storage, "h")) == {3.0}
    (_, first), *_ = samples(storage, "h")
    assert first.buckets() == [(0.5, 1.0, False, True, 1.0), (1.0, 2.0, False, True, 2.0)]
    assert set(values(storage, "g")) == {2.5}
    assert set(values(storage, "scrape_samples_scraped")) == {2.0}
    assert values(storage, "scrape_series_added")[:2] == [2.0, 0.0]
    assert [said[2:] for said in scraper.metadata()] == [("h", "histogram", "", ""), ("g", "gauge", "Some\ntext.", "")]
    stats = scraper.stats()
    assert stats["plan_misses"] == 1 and stats["samples_rejected"] == 0
    assert only(scraper)["series"] == 2
    exporter.body = one("h", 1, 3)
    eventually(lambda: 4.0 in counts(storage, "h"))


def test_histograms_end_in_stale_markers(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = one("h", 1) + one("other", 1)
    scraper.set_pool("p", settings(**NATIVE), [target(exporter)])
    eventually(lambda: counts(storage, "h"))
    exporter.body = one("other", 2)
    eventually(lambda: counts(storage, "h")[-1] == "stale")
    exporter.body = one("h", 5) + one("other", 3)
    eventually(lambda: counts(storage, "h")[-1] == 5.0)
    assert counts(storage, "h").count("stale") == 1 and "stale" not in counts(storage, "other")
    exporter.status = 500
    eventually(lambda: counts(storage, "h")[-1] == counts(storage, "other")[-1] == "stale")
    exporter.status = 200
    eventually(lambda: counts(storage, "h")[-1] == 5.0)
    scraper.remove_pool("p")
    assert counts(storage, "h")[-1] == counts(storage, "other")[-1] == "stale"


def test_histograms_that_a_change_of_settings_takes_away_end(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    classic = double(2, 1.0) + message(3, double(2, 1.0) + number(1, 1))
    body = family("h", "histogram", metric("histogram", native([1, 2]) + classic), metric("histogram", native([2]), {"x": "y"}))
    exporter.body = body + one("timed", 1, time_ms=START_MS)
    tracked = {**NATIVE, "track_timestamps_staleness": True}
    scraper.set_pool("p", settings(**tracked), [target(exporter)])
    eventually(lambda: counts(storage, "h", x="") and counts(storage, "timed"))
    # As it is for numbers, whether a histogram is now a classic one or relabeled.
    rules = [{"action": "labeldrop", "regex": "x"}]
    scraper.set_pool("p", settings(**tracked, metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: counts(storage, "h", x="y")[-1] == "stale")
    assert "stale" not in counts(storage, "h", x="") and "stale" not in counts(storage, "timed")
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: counts(storage, "h", x="")[-1] == counts(storage, "timed")[-1] == "stale")
    assert counts(storage, "h", x="y").count("stale") == 1
    # A change that takes nothing away ends nothing.
    scraper.set_pool("p", settings(**NATIVE), [target(exporter)])
    eventually(lambda: counts(storage, "h", x="")[-1] == 3.0)
    scraper.set_pool("p", settings(**NATIVE, sample_limit=100), [target(exporter)])
    before = len(counts(storage, "h", x=""))
    eventually(lambda: len(counts(storage, "h", x="")) > before + 1)
    assert counts(storage, "h", x="").count("stale") == 1


def test_relabeling_and_limits_know_histograms(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = family("h", "histogram", *(metric("histogram", native([1, 1, 1, 1]), {"x": x}) for x in "abc"))
    rules = [
        {"action": "drop", "source_labels": ["x"], "regex": "a"},
        {"action": "replace", "source_labels": ["x"], "target_label": "y", "replacement": "is-$1"},
    ]
    scraper.set_pool("p", settings(**NATIVE, metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: counts(storage, "h", y="is-b"))
    assert counts(storage, "h", x="a") == []
    assert set(values(storage, "scrape_samples_post_metric_relabeling")) == {2.0}
    scraper.set_pool("p", settings(**NATIVE, sample_limit=2), [target(exporter)])
    assert last_error(scraper) == "sample limit exceeded"
    scraper.set_pool("p", settings(**NATIVE, native_histogram_bucket_limit=2), [target(exporter)])
    eventually(lambda: any(one.schema == -2 for _, one in samples(storage, "h", x="c", y="") if one != "stale"))
    exporter.body = family("h", "histogram", metric("histogram", native([1, 0, 0, 0, 1] * 40)))
    scraper.set_pool("p", settings(**NATIVE, native_histogram_bucket_limit=3), [target(exporter)])
    assert last_error(scraper) == "histogram bucket limit exceeded"
    scraper.set_pool("p", settings(**NATIVE, native_histogram_min_bucket_factor=65536), [target(exporter)])
    eventually(lambda: samples(storage, "h", x="", y=""))
    assert samples(storage, "h", x="", y="")[0][1].schema == -4


def test_what_is_damaged_fails_the_scrape(exporter: Exporter, scraper: Scraper) -> None:
    def check(body: bytes, want: str) -> None:
        exporter.body = body
        scraper.set_pool("p", settings(**NATIVE), [target(exporter)])
        eventually(lambda: want in only(scraper)["last_error"])

    check(b"\x05\x01", "unexpected end of a protobuf message")
    check(family("h", "histogram", metric("histogram", native([1]) + number(1, 7))), "but the Count field is 7")
    check(family("h", "gauge", b"\x0b"), "wire type 3")
    exporter.content_type = TEXT
    check(b"a h0\n", "expected a number after the metric")


def test_timestamps_of_histograms_are_honoured(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = one("h", 1, time_ms=1_700_000_000_123)
    scraper.set_pool("p", settings(**NATIVE), [target(exporter)])
    eventually(lambda: len(values(storage, "up")) >= 3)
    assert [time for time, _ in samples(storage, "h")] == [1_700_000_000_123]
    scraper.set_pool("p", settings(**NATIVE, track_timestamps_staleness=True), [target(exporter)])
    eventually(lambda: scraper.stats()["scrapes"] >= 5)
    exporter.body = one("other", 1)
    eventually(lambda: counts(storage, "h")[-1] == "stale")


def test_a_histogram_has_several_exemplars_and_each_is_new_once(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    def body(*times: int) -> bytes:
        all_ = [exemplar({"t": str(time)}, 0.5, START_MS + time) for time in times]
        return family("h", "histogram", metric("histogram", native([1], exemplars=[*all_, exemplar({"t": "x"}, 1)])))

    def held() -> list[tuple[str, int]]:
        found = storage.exemplars([[("__name__", "=", "h")]], 0, 2**60)
        return [(labels["t"], time - START_MS) for _, all_ in found for labels, _, time in all_]

    exporter.body = body(1, 2)
    scraper.set_pool("p", settings(**NATIVE), [target(exporter)])
    eventually(lambda: len(held()) == 2)
    exporter.body = body(2, 3, 4)
    eventually(lambda: len(held()) >= 4)
    assert held() == [("1", 1), ("2", 2), ("3", 3), ("4", 4)]
    assert scraper.stats()["exemplars"] == 4


def test_a_target_may_differ_from_its_pool(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = one("h", 1, 2)
    plain, own = target(exporter), target(exporter, labels={"job": "own"}, scrape_native_histograms=False)
    scraper.set_pool("p", settings(**NATIVE), [plain, own])
    eventually(lambda: counts(storage, "h", job="j") and counts(storage, "h_count", job="own"))
    assert counts(storage, "h", job="own") == counts(storage, "h_count", job="j") == []
    scraper.set_pool("p", settings(**NATIVE), [plain, target(exporter, labels={"job": "own"})])
    eventually(lambda: counts(storage, "h", job="own"))
    assert counts(storage, "h_count", job="own")[-1] == "stale"


@pytest.mark.parametrize("content_type", [TEXT, OPENMETRICS])
def test_classic_histograms_of_text_become_native_ones(
    content_type: str, exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    end = "# EOF\n" if content_type == OPENMETRICS else ""
    exporter.content_type, exporter.body = content_type, f"{CLASSIC}c_sum 4.5\nc_count 3\n{end}".encode()
    scraper.set_pool("p", settings(**CONVERT), [target(exporter)])
    eventually(lambda: counts(storage, "c"))
    converted = samples(storage, "c")[0][1]
    assert (converted.schema, converted.sum, converted.custom_values.tolist()) == (-53, 4.5, [1.0])
    assert converted.buckets() == [(-math.inf, 1.0, True, True, 1.0), (1.0, math.inf, False, True, 2.0)]
    assert values(storage, "c_count") == []
    scraper.set_pool("p", settings(**CONVERT, always_scrape_classic_histograms=True), [target(exporter)])
    eventually(lambda: values(storage, "c_count"))
    exporter.body = f"a 1\n{end}".encode()
    eventually(lambda: counts(storage, "c")[-1] == "stale")


_label = st.dictionaries(
    st.one_of(st.from_regex(r"[a-z_][a-z0-9_]{0,3}", fullmatch=True), st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)),
    st.text(st.characters(codec="utf-8"), max_size=4),
    max_size=3,
).map(lambda pairs: {name: value for name, value in pairs.items() if name not in ("__name__", "le", "quantile")})
_float = st.floats().map(lambda value: math.nan if value != value else value)
_kind = st.sampled_from(["counter", "gauge", "untyped", "summary", "histogram"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _line(name: str, pairs: dict[str, str], value: float, time_ms: int) -> str:
    inside = ",".join([_quoted(name), *(f"{_quoted(key)}={_quoted(text)}" for key, text in pairs.items())])
    shown = "NaN" if value != value else repr(value).replace("inf", "Inf")
    return f"{{{inside}}} {shown}" + (f" {time_ms}" if time_ms else "") + "\n"


@st.composite
def _families(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body, and the text that says the same."""
    body, text = b"", ""
    for name in draw(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), max_size=3, unique=True)):
        kind, pairs, time_ms = draw(_kind), draw(_label), draw(st.sampled_from([0, 0, 1_700_000_000_001, -5]))
        text += f"# TYPE {_quoted(name)} {kind}\n"
        if kind in ("counter", "gauge", "untyped"):
            value = draw(_float)
            said = double(1, value)
            text += _line(name, pairs, value, time_ms)
        else:
            count, total = draw(st.integers(0, 2**53)), draw(_float)
            said = number(1, count) + double(2, total)
            text += _line(f"{name}_count", pairs, float(count), time_ms) + _line(f"{name}_sum", pairs, total, time_ms)
            bounds = sorted(draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3, unique=True)))
            for at, bound in enumerate(bounds):
                if kind == "summary":
                    value = draw(_float)
                    said += message(3, double(1, bound) + double(2, value))
                    text += _line(name, pairs | {"quantile": go_number(bound)}, value, time_ms)
                else:
                    said += message(3, double(2, bound) + number(1, at))
                    text += _line(f"{name}_bucket", pairs | {"le": go_number(bound)}, float(at), time_ms)
            if kind == "histogram":
                text += _line(f"{name}_bucket", pairs | {"le": "+Inf"}, float(count), time_ms)
        body += family(name, kind, metric(kind, said, pairs, time_ms=time_ms))
    return body, text


@hypothesis_settings(max_examples=150, deadline=None)
@given(_families())
def test_protobuf_is_read_as_the_text_that_says_the_same(bodies: tuple[bytes, str]) -> None:
    def read(body: bytes, content_type: str) -> list[str]:
        return [repr((sorted(labels), value, time)) for labels, value, time, _ in read_exposition(body, content_type)]

    assert read(bodies[0], CONTENT_TYPE) == read(bodies[1].encode(), TEXT)


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), _families(), st.integers(0, 2**16), st.integers(1, 255))
def test_no_body_breaks_the_reader(junk: bytes, bodies: tuple[bytes, str], at: int, flip: int) -> None:
    damaged = bytearray(bodies[0] or b"\x00")
    damaged[at % len(damaged)] ^= flip
    for body in (junk, bytes(damaged)):
        try:
            read_exposition(body, CONTENT_TYPE)
        except ValueError as e:
            assert str(e)  # noqa: PT017
