"""What a scrape stores: the body's samples under final labels, and what it says of itself."""

import time

import prometheus_client
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from bellbuoy._core import Scraper, Storage
from tests.core.scraping import Exporter, eventually, last_error, only, series, settings, target, values


def test_a_scrape_stores_its_samples_and_a_report(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b'# TYPE a gauge\na 1\nb{x="y"} 2.5\nb{x="y"} 7\n'
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "up")) >= 3)
    assert series(storage, "b")[0][0] == {"job": "j", "instance": "i", "x": "y"}
    assert set(values(storage, "b")) == {2.5}
    assert set(values(storage, "up")) == {1.0}
    assert set(values(storage, "scrape_samples_scraped")) == {3.0}
    assert set(values(storage, "scrape_samples_post_metric_relabeling")) == {2.0}
    assert values(storage, "scrape_series_added")[:2] == [2.0, 0.0]
    assert all(isinstance(v, float) and 0 < v < 1 for v in values(storage, "scrape_duration_seconds"))
    shown = only(scraper)
    assert (shown["pool"], shown["url"], shown["health"], shown["last_error"]) == ("p", exporter.url, "up", "")
    assert (shown["samples"], shown["series"], shown["interval_seconds"]) == (3, 2, 0.1)
    stats = scraper.stats()
    assert stats["targets"] == 1
    assert stats["samples_duplicate"] >= 3
    assert stats["plan_hits"] >= 2
    assert stats["plan_misses"] == 1


def test_a_failed_scrape_is_up_0_and_ends_the_series(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "up"))
    exporter.status = 503
    assert last_error(scraper) == "server returned HTTP status 503 Service Unavailable"
    assert only(scraper)["health"] == "down"
    eventually(lambda: values(storage, "up")[-1] == 0.0)
    assert values(storage, "a")[-1] == "stale"
    assert values(storage, "a").count("stale") == 1
    exporter.status = 200
    eventually(lambda: values(storage, "a")[-1] == 1.0)


def test_of_a_target_that_is_gone_nothing_stays_in_memory_but_its_chunks(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "a")) >= 3)
    assert storage.stats()["chunks"] == 0
    scraper.remove_pool("p")
    eventually(lambda: values(storage, "a")[-1] == "stale")
    eventually(lambda: storage.stats()["chunks"] == 1)
    assert storage.stats()["open_bytes"] == 0
    storage.compact(everything=True)

    def groups() -> int:
        storage.tidy()
        return storage.stats()["groups"]

    eventually(lambda: groups() == 0)
    assert values(storage, "a")[:3] == [1.0, 1.0, 1.0]


def test_a_body_that_cannot_be_read_says_where(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b"a 1\nb x\n"
    scraper.set_pool("p", settings(), [target(exporter)])
    assert last_error(scraper) == 'line 2: expected a number after the metric: "b x"'
    assert values(storage, "a") == []
    eventually(lambda: 0.0 in values(storage, "up"))


def test_lines_that_come_and_go_start_and_end_series(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b"a 1\nb 2\n"
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "b"))
    exporter.body = b"a 1\nc 3\n"
    eventually(lambda: values(storage, "c"))
    assert values(storage, "b")[-1] == "stale"
    exporter.body = b"b 4\na 1\nc 3\n"
    eventually(lambda: values(storage, "b")[-1] == 4.0)
    assert "stale" not in values(storage, "a") + values(storage, "c")


def test_metric_relabeling_drops_and_rewrites(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b'a 1\nb{x="1"} 2\nb{x="2"} 3\n'
    rules = [
        {"action": "drop", "source_labels": ["__name__"], "regex": "a"},
        {"source_labels": ["x", "instance"], "target_label": "both"},
        {"action": "labeldrop", "regex": "instance"},
    ]
    scraper.set_pool("p", settings(metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: series(storage, "b"))
    assert [labels for labels, _ in series(storage, "b")] == [
        {"job": "j", "x": "1", "both": "1;i"},
        {"job": "j", "x": "2", "both": "2;i"},
    ]
    assert values(storage, "a") == []
    assert (
        values(storage, "scrape_samples_scraped")[0],
        values(storage, "scrape_samples_post_metric_relabeling")[0],
    ) == (3.0, 2.0)


def test_targets_with_equal_bodies_share_a_plan_but_not_their_labels(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    pods = [target(exporter, labels={"job": "j", "pod": f"pod-{i}"}) for i in range(5)]
    scraper.set_pool("p", settings(), pods)
    eventually(lambda: len(series(storage, "a")) == 5)
    assert sorted(labels["pod"] for labels, _ in series(storage, "a")) == [f"pod-{i}" for i in range(5)]
    assert scraper.stats()["plans"] == 1


def test_labels_of_the_target_win_unless_the_body_s_are_honored(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.body = b'a{job="x"} 1\nb{instance=""} 2\n'
    scraper.set_pool("win", settings(), [target(exporter, labels={"job": "j", "instance": "i"})])
    eventually(lambda: series(storage, "b"))
    assert series(storage, "a")[0][0] == {"job": "j", "exported_job": "x", "instance": "i"}
    assert series(storage, "b")[0][0] == {"job": "j", "instance": "i"}
    scraper.remove_pool("win")
    scraper.set_pool("honor", settings(honor_labels=True), [target(exporter, labels={"job": "k", "instance": "i"})])
    eventually(lambda: len(series(storage, "b")) == 2)
    assert {"job": "x", "instance": "i"} in [labels for labels, _ in series(storage, "a")]
    assert {"job": "k"} in [labels for labels, _ in series(storage, "b")]


def test_timestamps_are_honored_or_not(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    when = int(time.time() * 1000) - 5000
    exporter.body = f"a 1 {when}\nb 2\n".encode()
    scraper.set_pool("honor", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "b")) >= 2)
    assert series(storage, "a")[0][1] == [(when, 1.0)]
    scraper.remove_pool("honor")
    scraper.set_pool("ignore", settings(honor_timestamps=False), [target(exporter, labels={"job": "k"})])
    eventually(lambda: len(series(storage, "a")) == 2)
    (ignored,) = [samples for labels, samples in series(storage, "a") if labels["job"] == "k"]
    assert ignored[0][0] > when


def test_limits_fail_the_scrape_in_prometheus_s_words(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b'abc{label="value"} 1\nb 2\n'

    def check(limits: dict[str, int], want: str) -> None:
        scraper.set_pool("p", settings(**limits), [target(exporter)])
        assert last_error(scraper) == want
        scraper.remove_pool("p")

    check({"sample_limit": 1}, "sample limit exceeded")
    check({"label_limit": 3}, "label_limit exceeded (metric: abc, number of labels: 4, limit: 3)")
    want = "label_name_length_limit exceeded (metric: abc, label name: __name__, length: 8, limit: 7)"
    check({"label_name_length_limit": 7}, want)
    want = 'label_value_length_limit exceeded (metric: abc, label name: label, value: "value", length: 5, limit: 4)'
    check({"label_value_length_limit": 4}, want)
    assert values(storage, "b") == []
    scraper.set_pool("p", settings(sample_limit=2, label_limit=4), [target(exporter)])
    eventually(lambda: values(storage, "b"))


def test_openmetrics_of_prometheus_client_is_read(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("hits", "Hits so far.", ["path"], registry=registry)
    counter.labels('/"a"\n').inc(3, exemplar={"trace_id": "abc"})
    prometheus_client.Histogram("wait_seconds", "Waits.", unit="seconds", buckets=(1,), registry=registry).observe(
        0.5, {"trace_id": "x"}
    )
    exporter.body = generate_latest(registry)  # type: ignore[no-untyped-call]
    exporter.content_type = CONTENT_TYPE_LATEST
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "hits_total")) >= 2)
    assert series(storage, "hits_total")[0][0]["path"] == '/"a"\n'
    assert set(values(storage, "hits_total")) == {3.0}
    assert sorted(labels["le"] for labels, _ in series(storage, "wait_seconds_bucket")) == ["+Inf", "1.0"]
    assert scraper.stats()["plan_misses"] == 1
    said = {(metric, kind, text, unit) for _, _, metric, kind, text, unit in scraper.metadata()}
    assert ("hits", "counter", "Hits so far.", "") in said
    assert ("wait_seconds", "histogram", "Waits.", "seconds") in said
    exporter.body = exporter.body.removesuffix(b"# EOF\n")
    assert "data does not end with # EOF" in last_error(scraper)
