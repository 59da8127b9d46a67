"""Pools are set whole: what stays goes on, what goes ends, and what cannot be is said."""

from typing import Any

import pytest

from bellbuoy._core import Scraper, Storage
from tests.core.scraping import Exporter, eventually, series, settings, target, values


def test_a_target_that_is_gone_ends_in_stale_markers(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    scraper.set_pool("p", settings(), [])
    assert (values(storage, "a")[-1], values(storage, "up")[-1]) == ("stale", "stale")
    assert scraper.targets() == []
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a")[-1] == 1.0)
    scraper.remove_pool("p")
    assert values(storage, "a")[-1] == "stale"


def test_targets_that_stay_go_on_untouched(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper
) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    for i in range(20):
        scraper.set_pool(
            "p", settings(), [target(exporter, every_second=i % 2 == 0), target(other, labels={"n": str(i)})]
        )
    eventually(lambda: len(exporter.requests) >= 5)
    assert exporter.connections == 1
    assert all("stale" not in [v for _, v in samples] for labels, samples in series(storage, "a") if "job" in labels)


def test_changed_settings_apply_to_targets_that_run(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    rules = [{"source_labels": ["__name__"], "target_label": "__name__", "replacement": "renamed_$1"}]
    scraper.set_pool("p", settings(metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: values(storage, "renamed_a"))
    assert values(storage, "a")[-1] == "stale"
    assert set(values(storage, "up")) == {1.0}


def test_what_python_says_is_checked(scraper: Scraper, exporter: Exporter) -> None:
    def check(pool: dict[str, Any], targets: list[dict[str, Any]], *words: str) -> None:
        with pytest.raises(ValueError) as caught:
            scraper.set_pool("p", pool, targets)
        for word in ("pool p", *words):
            assert word in str(caught.value) or word == "pool p"

    good = target(exporter)
    check({"timeout_seconds": 1.0}, [good], "interval_seconds", "missing")
    check(settings(timeout_seconds=9.0), [good], "timeout_seconds", "longer than interval_seconds")
    check(settings(intervall=1), [good], "intervall is no key", "interval_seconds")
    check(settings(sample_limit=-1), [good], "sample_limit", "at least 0")
    check(
        settings(metric_relabel_configs=[{"action": "x"}]), [good], "metric_relabel_configs", "relabel rule 0", "action"
    )
    check(settings(tls={"cert_file": "c"}), [good], "cert_file and key_file belong together")
    check(settings(authorization={"credentials": "a"}, basic_auth={}), [good], "keep one")
    check(settings(headers=[("a b", "c")]), [good], "headers", "a b")
    check(settings(), [{"url": "ftp://x"}], "url", "http://")
    check(settings(), [{"labels": {}}], "url", "missing")
    assert scraper.targets() == []


def test_a_closed_scraper_says_so(storage: Storage, exporter: Exporter) -> None:
    scraper = Scraper(storage)
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    scraper.close()
    scraper.close()
    with pytest.raises(RuntimeError, match="closed"):
        scraper.targets()
    # A restart is no end of the series.
    assert "stale" not in values(storage, "a")
