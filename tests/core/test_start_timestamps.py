"""Counters that say when they began: a sample of 0 there, where Prometheus has one, and nowhere else."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bellbuoy._core import Histogram, Scraper, Storage
from bench.programs import PROMETHEUS
from tests.core.formats import OPENMETRICS
from tests.core.protobuf import CONTENT_TYPE, double, family, message, metric, native, number
from tests.core.scraping import Exporter, eventually, series, settings, target, values
from tests.core.test_scraper_histograms import samples
from tests.peers.programs import fetch, free_port, started, until

ON = {"start_timestamps": True, "interval_seconds": 0.1}


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    one.content_type = OPENMETRICS
    yield one
    one.stop()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def counter(value: float, start_ms: int, *, name: str = "a") -> bytes:
    lines = f'# TYPE {name} counter\n{name}_total{{x="1"}} {value}\n{name}_created{{x="1"}} {start_ms / 1000}\n# EOF\n'
    return lines.encode()


def at(ms: int) -> bytes:
    return number(1, ms // 1000) + number(2, ms % 1000 * 1_000_000)


def two(storage: Storage, name: str) -> list[tuple[int, Any]]:
    """The first samples of the one series."""
    eventually(lambda: len(samples(storage, name)) >= 3)
    return samples(storage, name)[:2]


def zeros(storage: Storage, name: str = "a_total") -> list[int]:
    return [time for time, value in samples(storage, name) if value == 0.0]


def test_a_counter_of_openmetrics_begins_with_zero(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    start = now_ms() - 90_000
    exporter.body = (
        f"# TYPE a counter\na_total 5 # {{t=\"u\"}} 1\na_created {start / 1000}\n"
        f'# TYPE h histogram\nh_bucket{{le="1"}} 1\nh_bucket{{le="+Inf"}} 2\nh_sum 3\nh_count 2\nh_created {start / 1000}\n'
        "# TYPE g gauge\ng 7\ng_created 9\n# EOF\n"
    ).encode()
    scraper.set_pool("p", settings(**ON), [target(exporter)])
    (first, second) = two(storage, "a_total")
    assert first == (start, 0.0) and second[1] == 5.0
    assert zeros(storage) == [start]
    assert [found[1][0] for found in series(storage, "h_bucket")] == [(start, 0.0)] * 2
    assert zeros(storage, "h_sum") == zeros(storage, "h_count") == [start]
    assert set(values(storage, "g")) == {7.0} and set(values(storage, "g_created")) == {9.0}
    assert series(storage, "a_created") == series(storage, "h_created") == []
    # They are no samples of the scrape, and the exemplar is still one.
    assert set(values(storage, "scrape_samples_scraped")) == {7.0}
    assert len(storage.exemplars([[("__name__", "=", "a_total")]], 0, 2**50)) == 1
    assert scraper.stats()["exemplars_rejected"] == 0


def test_counters_and_histograms_of_protobuf_begin_with_zero(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    start = now_ms() - 90_123
    exporter.content_type = CONTENT_TYPE
    exporter.body = (
        family("a", "counter", metric("counter", double(1, 5) + message(3, at(start))))
        + family("h", "histogram", metric("histogram", native([1, 2]) + message(15, at(start))))
        + family("s", "summary", metric("summary", number(1, 3) + double(2, 1.5) + message(4, at(start))))
        + family("g", "gauge", metric("gauge", double(1, 5)))
    )
    scraper.set_pool("p", settings(**ON, scrape_native_histograms=True), [target(exporter)])
    assert two(storage, "a")[0] == (start, 0.0)
    assert two(storage, "s_count")[0] == (start, 0.0)
    (when, empty), (_, full) = two(storage, "h")
    assert when == start
    want = Histogram(schema=0, count=0, sum=0, zero_threshold=full.zero_threshold, counter_reset_hint="reset")
    assert (empty, full.count) == (want, 3.0)
    assert zeros(storage, "g") == []


def test_converted_histograms_begin_with_zero(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    start = now_ms() - 90_000
    exporter.body = f'# TYPE h histogram\nh_bucket{{le="+Inf"}} 2\nh_sum 3\nh_count 2\nh_created {start / 1000}\n# EOF\n'.encode()
    scraper.set_pool("p", settings(**ON, convert_classic_histograms_to_nhcb=True), [target(exporter)])
    (when, empty), (_, full) = two(storage, "h")
    assert (when, empty.count, full.count) == (start, 0.0, 2.0)


def test_a_restart_is_a_zero_once(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    start = now_ms() - 90_000
    exporter.body = counter(5, start)
    scraper.set_pool("p", settings(**ON), [target(exporter)])
    two(storage, "a_total")
    # In between two scrapes, as a process that starts anew.
    again = samples(storage, "a_total")[-1][0] + 1
    exporter.body = counter(1, again)
    eventually(lambda: samples(storage, "a_total")[-1][1] == 1.0)
    assert zeros(storage) in ([start, again], [start])
    eventually(lambda: len(samples(storage, "a_total")) > 12)
    before = zeros(storage)
    # Neither what lies behind the last sample nor what is still to come.
    for other in (start - 1, now_ms() + 60_000):
        exporter.body = counter(2, other)
        seen = len(samples(storage, "a_total"))
        eventually(lambda seen=seen: len(samples(storage, "a_total")) > seen + 2)  # type: ignore[misc]
    assert zeros(storage) == before


def test_a_target_that_failed_and_came_back_began_anew(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.body = counter(5, now_ms() - 90_000)
    scraper.set_pool("p", settings(**ON), [target(exporter)])
    two(storage, "a_total")
    exporter.status = 500
    eventually(lambda: samples(storage, "a_total")[-1][1] == "stale")
    time.sleep(0.05)
    again = now_ms()
    exporter.body = counter(1, again)
    eventually(lambda: values(storage, "up")[-3:] == [0.0, 0.0, 0.0])
    exporter.status = 200
    eventually(lambda: samples(storage, "a_total")[-1][1] == 1.0)
    assert zeros(storage)[1:] == [again]
    assert [value for _, value in samples(storage, "a_total")].count("stale") == 1


def test_whoever_goes_on_with_a_series_gives_it_no_second_beginning(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    start = now_ms() - 90_000
    exporter.body = counter(5, start)
    scraper.set_pool("p", settings(**ON), [target(exporter)])
    two(storage, "a_total")
    for pool, changed in (("p", {"sample_limit": 100}), ("other", {})):
        # By other settings, and in another pool with the same labels.
        scraper.set_pool(pool, settings(**ON, **changed), [target(exporter)])
        if pool != "p":
            scraper.remove_pool("p")
        seen = len(samples(storage, "a_total"))
        eventually(lambda seen=seen: len(samples(storage, "a_total")) > seen + 2)  # type: ignore[misc]
    assert zeros(storage) == [start]


def test_a_series_that_is_new_on_a_known_target_begins_with_zero(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    start = now_ms() - 90_000
    exporter.body = counter(5, start)
    scraper.set_pool("p", settings(**ON), [target(exporter)])
    two(storage, "a_total")
    # It was shown late: its beginning lies before scrapes that did not have it.
    exporter.body = counter(5, start).replace(b"# EOF\n", b"") + counter(3, start + 500, name="b")
    assert two(storage, "b_total")[0] == (start + 500, 0.0)
    assert zeros(storage) == [start]


def test_without_it_a_beginning_is_a_series_as_any(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    start = now_ms() - 90_000
    exporter.body = counter(5, start)
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(samples(storage, "a_total")) >= 2)
    assert zeros(storage) == []
    assert set(values(storage, "a_created")) == {start / 1000}


@pytest.mark.peers
@pytest.mark.skipif(not PROMETHEUS.is_built(), reason="older ones have no such feature, or another")
async def test_zeros_are_where_prometheus_has_them(
    exporter: Exporter, storage: Storage, scraper: Scraper, tmp_path: Path
) -> None:
    start = now_ms() - 600_000
    exporter.body = (
        counter(5, start).replace(b"# EOF\n", b"")
        + b'# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 3\ns_count 2\n'
        + f"s_created {start / 1000}\n# TYPE g gauge\ng 1\n# EOF\n".encode()
    )
    other = Exporter()
    other.content_type = CONTENT_TYPE
    other.body = (
        family("c", "counter", metric("counter", double(1, 5) + message(3, at(start)), {"x": "1"}))
        + family("h", "histogram", metric("histogram", native([1, 2]) + message(15, at(start + 7))))
        + family("t", "summary", metric("summary", number(1, 3) + double(2, 1.5) + message(4, at(start))))
    )
    port = free_port()
    job = {
        "job_name": "j",
        "static_configs": [{"targets": [exporter.address, other.address]}],
        "scrape_native_histograms": True,
    }
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [job]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [
        str(PROMETHEUS.path()), f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'theirs'}",
        f"--config.file={tmp_path / 'prometheus.yml'}", "--enable-feature=created-timestamp-zero-ingestion",
    ]  # fmt: skip
    targets = [target(one, labels={"job": "j", "instance": one.address}) for one in (exporter, other)]
    scraper.set_pool("p", settings(**ON, scrape_native_histograms=True), targets)
    names = ("a_total", "s", "s_count", "s_sum", "g", "c", "h", "t_count", "t_sum")
    theirs: dict[str, list[Any]] = {}
    try:
        async with started(command, name="prometheus", port=port, folder=tmp_path, ready="/-/ready") as it:

            async def scraped() -> bool:
                for name in names:
                    answer = json.loads(await fetch(f"{it.url}/api/v1/query?query={quote(name + '[1h]')}"))
                    theirs[name] = [
                        value
                        for one in answer["data"]["result"]
                        for value in one.get("values", []) + one.get("histograms", [])
                    ]
                return all(len(found) >= 3 for found in theirs.values())

            await until("three samples of each", scraped)
        for name in names:
            (when, value), _ = two(storage, name)
            ours = value.count if isinstance(value, Histogram) else value
            first = min(theirs[name], key=lambda value: value[0])
            count = float(first[1]["count"] if isinstance(first[1], dict) else first[1])
            if name == "g":
                assert (count, ours) == (1.0, 1.0)
            else:
                assert (round(first[0] * 1000), count) == (when, ours), name
    finally:
        other.stop()
