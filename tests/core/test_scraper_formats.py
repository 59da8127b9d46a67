"""How a body is read: which format it has by its type, and what it says, beside a plain statement and others' parsers."""

import gzip
import json
import math
import random
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings as effort
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from bellbuoy._core import Histogram, Scraper, Storage, read_exposition
from bellbuoy.scrape import ScrapeConfig
from tests.core.formats import OPENMETRICS, TEXT, Labels, Sample, bodies, go_number, read
from tests.core.scraping import Exporter, eventually, last_error, only, series, settings, target, values
from tests.core.valid_bodies import valid_body
from tests.peers.programs import prometheus, query, until


def bits(value: float) -> int:
    """Floats as they are stored; every NaN is one."""
    (found,) = struct.unpack("<Q", struct.pack("<d", math.nan if math.isnan(value) else value))
    return int(found)


def comparable(samples: Iterable[Sample]) -> list[object]:
    return [
        (labels, bits(value), time, about and (about[0], bits(about[1]), about[2]))
        for labels, value, time, about in samples
    ]


def plain(value: float | Histogram) -> float:
    assert isinstance(value, float)
    return value


def core(body: str, content_type: str) -> list[Sample]:
    return [
        (dict(labels), plain(value), time, about and (without_empty(dict(about[0])), about[1], about[2]))
        for labels, value, time, about in read_exposition(body.encode(), content_type)
    ]


def without_empty(labels: Labels) -> Labels:
    return {name: value for name, value in labels.items() if value}


def stated(body: str, *, is_openmetrics: bool) -> list[Sample]:
    return [
        (labels, value, time, about and (without_empty(about[0]), about[1], about[2]))
        for labels, value, time, about in read(body, openmetrics=is_openmetrics)
    ]


@given(bodies(openmetrics=False))
@effort(max_examples=100, deadline=None)
def test_text_says_what_the_plain_statement_says(body: str) -> None:
    assert comparable(core(body, TEXT)) == comparable(stated(body, is_openmetrics=False))


@given(bodies(openmetrics=True))
@effort(max_examples=100, deadline=None)
def test_openmetrics_says_what_the_plain_statement_says(body: str) -> None:
    assert comparable(core(body, OPENMETRICS)) == comparable(stated(body, is_openmetrics=True))


def test_numbers_of_le_and_quantile_are_spelled_as_prometheus_does() -> None:
    def check(value: float, want: str) -> None:
        assert go_number(value) == want
        ((labels, *_),) = core(f'# TYPE h histogram\nh_bucket{{le="{value!r}"}} 1\n', TEXT)
        assert labels["le"] == want

    check(1.0, "1.0")
    check(0.005, "0.005")
    check(0.00001, "1e-05")
    check(1e6, "1e+06")
    check(123456.5, "123456.5")
    check(1234567.0, "1.234567e+06")
    check(-0.25, "-0.25")


CLIENT = """\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{path="/\\"a\\"\\n\\\\",code="200"} 1027 1395066363000
# TYPE "my.metric" gauge
{"my.metric","la.bel"="x",plain="ä"} -1.5e-3
# TYPE wait histogram
wait_bucket{le="0.5"} 1
wait_bucket{le="+Inf"} 3
wait_sum 2.5
wait_count 3
nothing_known NaN
"""


def without_spelling(samples: Iterable[Sample]) -> list[str]:
    """In an order of their own, with `le` as Prometheus has it: others keep its spelling and sort families."""
    spelled: list[Sample] = [
        (labels | {"le": go_number(float(labels["le"]))} if "le" in labels else labels, value, time, about)
        for labels, value, time, about in samples
    ]
    return sorted(
        repr((sorted(labels.items()), bits(value), time, about and (sorted(about[0].items()), *about[1:])))
        for labels, value, time, about in spelled
    )


def by_text_client(body: str) -> list[Sample]:
    return [
        (
            {"__name__": one.name, **one.labels},
            float(one.value),
            None if one.timestamp is None else round(float(one.timestamp) * 1000),
            None,
        )
        for family in parser.text_string_to_metric_families(body)
        for one in family.samples
    ]


def test_text_is_read_as_prometheus_client_reads_it() -> None:
    assert comparable(core(CLIENT, TEXT)) == comparable(by_text_client(CLIENT))
    for seed in range(60):
        body = valid_body(random.Random(seed), openmetrics=False)
        assert without_spelling(core(body, TEXT)) == without_spelling(by_text_client(body)), seed


OPEN = """\
# TYPE hits counter
# HELP hits Hits.
hits_total{path="/"} 5.0 # {trace_id="abc"} 1.0 1700000000.5
hits_created{path="/"} 1.6e9
# TYPE "my.histogram" histogram
{"my.histogram_bucket",le="1.0"} 2 # {} 0.25
{"my.histogram_bucket",le="+Inf"} 3
{"my.histogram_count"} 3
{"my.histogram_sum"} 4.5
# TYPE build info
build_info{version="1"} 1 1600000000.25
# EOF
"""


def by_openmetrics_client(body: str) -> list[Sample]:
    return [
        (
            {"__name__": one.name, **one.labels},
            float(one.value),
            None if one.timestamp is None else round(float(one.timestamp) * 1000),
            one.exemplar
            and (
                one.exemplar.labels,
                float(one.exemplar.value),
                None if one.exemplar.timestamp is None else round(float(one.exemplar.timestamp) * 1000),
            ),
        )
        for family in openmetrics_parser.text_string_to_metric_families(body)  # type: ignore[no-untyped-call]
        for one in family.samples
    ]


def test_openmetrics_is_read_as_prometheus_client_reads_it() -> None:
    assert comparable(core(OPEN, OPENMETRICS)) == comparable(by_openmetrics_client(OPEN))
    for seed in range(60):
        body = valid_body(random.Random(seed), openmetrics=True)
        assert without_spelling(core(body, OPENMETRICS)) == without_spelling(by_openmetrics_client(body)), seed


def test_what_is_no_line_is_refused_with_its_place() -> None:
    def check(body: str, want: str, content_type: str = TEXT) -> None:
        with pytest.raises(ValueError, match="^line ") as refused:
            read_exposition(body.encode(), content_type)
        assert want in str(refused.value)

    check("a 1\nb{\n", 'line 2: expected a metric name, labels in braces and a value: "b{"')
    check('{"a","b"} 1\n', 'the label "__name__" is there twice')
    check('{"a"="b"} 1\n', "the sample has no metric name")
    check('{"a"x="b"} 1\n', "expected a comma or a closing brace")
    check('a{b.c="d"} 1\n', '"b.c" is no label name')
    check("a.b 1\n", '"a.b" is no metric name; names in other characters are quoted in the braces')
    check("a 1 # {} 1\n", "unexpected text after the sample")
    check("a 1\n# EOF\nb 1\n# EOF\n", "unexpected data after # EOF", OPENMETRICS)
    check("a 1\n", "data does not end with # EOF", OPENMETRICS)


def test_a_body_without_a_type_fails_or_falls_back(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.content_type = None
    scraper.set_pool("p", settings(), [target(exporter)])
    assert last_error(scraper) == (
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )
    exporter.content_type = "text/html"
    eventually(lambda: only(scraper)["last_error"].startswith('received unsupported Content-Type "text/html" and no'))
    assert values(storage, "a") == []
    scraper.set_pool("p", settings(fallback_format="text"), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    scraper.set_pool("p", settings(fallback_format="openmetrics"), [target(exporter)])
    eventually(lambda: "data does not end with # EOF" in only(scraper)["last_error"])


def test_protobuf_is_asked_for_first_where_beginnings_are_wanted() -> None:
    accept = ScrapeConfig.model_validate({"job_name": "j"}).settings(None, start_timestamps=True)["accept"]
    assert accept.startswith("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;")
    said = {"job_name": "j", "scrape_protocols": ["PrometheusText0.0.4"]}
    accept = ScrapeConfig.model_validate(said).settings(None, start_timestamps=True)["accept"]
    assert accept.startswith("text/plain;version=0.0.4")


def test_the_accept_header_is_that_of_prometheus() -> None:
    def check(want: str, **fields: object) -> None:
        config = ScrapeConfig.model_validate({"job_name": "j", **fields})
        assert config.settings(None)["accept"] == want

    check(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,"
        "application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        "text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    )
    check(
        "text/plain;version=0.0.4;q=0.7,application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,*/*;q=0.5",
        scrape_protocols=["PrometheusText0.0.4", "OpenMetricsText1.0.0"],
        metric_name_validation_scheme="legacy",
    )
    check(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        scrape_native_histograms=True,
    )
    check("text/plain;version=0.0.4;q=0.7,*/*;q=0.6", scrape_protocols=["PrometheusText0.0.4"], scrape_native_histograms=True)
    check(
        "text/plain;version=1.0.0;escaping=dots;q=0.7,*/*;q=0.6",
        scrape_protocols=["PrometheusText1.0.0"],
        metric_name_escaping_scheme="dots",
    )


def test_names_in_any_characters_are_stored(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.content_type = TEXT
    exporter.body = b'# HELP "my.metric" Mine.\n# TYPE "my.metric" gauge\n{"my.metric","la.bel"="x"} 1\n'
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "my.metric")) >= 3)
    assert series(storage, "my.metric")[0][0] == {"la.bel": "x", "job": "j", "instance": "i"}
    assert scraper.stats()["plan_misses"] == 1
    assert [said[2:] for said in scraper.metadata()] == [("my.metric", "gauge", "Mine.", "")]
    scraper.set_pool("p", settings(legacy_names=True), [target(exporter)])
    assert 'invalid metric name or label name "my.metric"' in last_error(scraper)


def zstd(body: bytes) -> bytes:
    return subprocess.run(["zstd", "-c", "-q"], input=body, capture_output=True, check=True).stdout


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_are_inflated_up_to_their_limit(
    encoding: str, exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    body = b"a 1\n" + b"# comment\n" * 100_000
    exporter.body = gzip.compress(body) if encoding == "gzip" else zstd(body)
    exporter.headers = {"Content-Encoding": encoding}
    scraper.set_pool("p", settings(body_size_limit=len(body)), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    scraper.set_pool("p", settings(body_size_limit=len(body) - 1), [target(exporter)])
    assert last_error(scraper) == "body size limit exceeded"
    scraper.set_pool("p", settings(), [target(exporter)])
    exporter.body = exporter.body[:-5]
    assert last_error(scraper).startswith("cannot inflate the body: ")


def test_a_window_of_gigabytes_is_refused(exporter: Exporter, scraper: Scraper) -> None:
    body = b"".join(b"a%d 1\n" % i for i in range(2_000_000))
    command = ["zstd", "-c", "-q", "--long=27", "--ultra", "-1"]
    exporter.body = subprocess.run(command, input=body, capture_output=True, check=True).stdout
    exporter.headers = {"Content-Encoding": "zstd"}
    scraper.set_pool("p", settings(interval_seconds=5.0, timeout_seconds=5.0), [target(exporter)])
    assert last_error(scraper).startswith("cannot inflate the body: Frame requires too much memory")


async def test_prometheus_stores_the_same_of_the_same_bodies(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper, tmp_path: Path
) -> None:
    # Debian's Prometheus is older than names in any characters.
    exporter.body = "\n".join(line for line in CLIENT.split("\n") if "my.metric" not in line).encode()
    exporter.body = exporter.body.replace(b" 1395066363000", b"")
    exporter.body += valid_body(random.Random(1), openmetrics=False, families=60).encode()
    other.content_type = OPENMETRICS
    other.body = "\n".join(line for line in OPEN.split("\n") if "my.hist" not in line).encode()
    other.body = other.body.replace(b" 1600000000.25", b"").removesuffix(b"# EOF\n")
    other.body += valid_body(random.Random(2), openmetrics=True, families=60).encode()
    jobs = {"text": exporter, "openmetrics": other}
    labels = {job: {"job": job, "instance": one.address} for job, one in jobs.items()}
    for job, one in jobs.items():
        scraper.set_pool(job, settings(), [target(one, labels=labels[job])])
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [one.address]}]} for job, one in jobs.items()
        ],
    }
    report = ("up", "scrape_duration_seconds", "scrape_series_added")
    selector = '{job=~"text|openmetrics"}'
    eventually(lambda: values(storage, "nothing_known") and values(storage, "hits_created"))
    async with prometheus(config, folder=tmp_path) as theirs:
        await until("both are scraped", lambda: query(theirs, "nothing_known and on() hits_created"))
        found = await query(theirs, selector)

    def told(labels: Labels, value: str | float) -> str:
        # Prometheus 2 keeps le as it was written.
        if "le" in labels:
            labels = labels | {"le": go_number(float(labels["le"]))}
        return json.dumps([labels, str(bits(float(value)))], sort_keys=True)

    want = {told(one["metric"], one["value"][1]) for one in found if one["metric"]["__name__"] not in report}
    selected = storage.select([("job", "=~", "text|openmetrics")], 0, 2**50)
    got = {
        told(labels, float(selected.values[selected.offsets[i + 1] - 1]))
        for i, labels in enumerate(selected.labels.to_dicts())
        if labels["__name__"] not in report
    }
    assert got == want
    assert len(got) >= 400
