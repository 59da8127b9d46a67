"""When a target is scraped: on its grid, and at once when that tells something new."""

import time

import pytest

from bellbuoy._core import Scraper, Storage
from tests.core.scraping import Exporter, eventually, last_error, series, settings, target, values


def test_scrapes_fall_on_a_grid_that_stays(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(interval_seconds=0.3), [target(exporter)])
    eventually(lambda: len(values(storage, "up")) >= 10)
    # The first one does not wait for the grid, and one that the machine delays says when it was.
    places = [time % 300 for time, _ in series(storage, "up")[0][1]][1:]
    start = min(places, key=lambda place: sum((other - place) % 300 for other in places))
    assert sum((place - start) % 300 <= 60 for place in places) >= len(places) * 3 // 4
    assert exporter.connections == 1


def test_a_new_target_does_not_wait_for_its_interval(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    started = time.time()
    scraper.set_pool("p", settings(interval_seconds=3600.0, timeout_seconds=5.0), [target(exporter)])
    eventually(lambda: values(storage, "up"))
    assert time.time() - started < 2.5


def test_a_target_that_hangs_harms_no_other(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.delay_seconds = 30
    other.body = b"b 1\n"
    hanging = [target(exporter, labels={"job": "hang", "instance": str(i)}) for i in range(20)]
    scraper.set_pool("p", settings(), [*hanging, target(other)])
    eventually(lambda: len(values(storage, "b")) >= 5)
    errors = eventually(lambda: {t["last_error"] for t in scraper.targets() if t["last_error"]})
    assert errors == {"no answer within 0.1 s (scrape timeout)"}


def test_a_pod_that_is_not_ready_is_no_up_0(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.status = 500
    pool = settings(interval_seconds=3600.0, timeout_seconds=5.0)
    scraper.set_pool("p", pool, [target(exporter, not_ready=True)])
    eventually(lambda: len(exporter.requests) >= 2)
    assert last_error(scraper)
    assert values(storage, "up") == []
    exporter.status = 200
    # Readiness has it scraped at once, an hour before its interval ends.
    scraper.set_pool("p", pool, [target(exporter)])
    eventually(lambda: values(storage, "up"))
    assert set(values(storage, "up")) == {1.0}


def test_a_pod_that_terminates_is_scraped_until_it_refuses(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    pool = settings(interval_seconds=3600.0, timeout_seconds=5.0)
    scraper.set_pool("p", pool, [target(exporter)])
    eventually(lambda: values(storage, "a") == [1.0])
    exporter.body = b"a 2\n"
    started = time.monotonic()
    scraper.set_pool("p", pool, [target(exporter, terminating=True)])
    eventually(lambda: values(storage, "a") == [1.0, 2.0])
    assert time.monotonic() - started < 0.9
    exporter.body = b"a 3\n"
    eventually(lambda: values(storage, "a")[-1] == 3.0)
    exporter.stop()
    eventually(lambda: values(storage, "a")[-1] == "stale")
    assert set(values(storage, "up")) == {1.0, "stale"}


@pytest.mark.parametrize("word", ["terminating", "gone"])
def test_a_process_that_ends_before_the_word_of_it_is_no_up_0(
    exporter: Exporter, storage: Storage, scraper: Scraper, word: str
) -> None:
    pool = settings(interval_seconds=3600.0, timeout_seconds=5.0)
    scraper.set_pool("p", pool, [target(exporter, every_second=True)])
    eventually(lambda: values(storage, "a"))
    exporter.stop()
    eventually(lambda: scraper.stats()["scrapes_failed"] == 1)
    scraper.set_pool("p", pool, [target(exporter, terminating=True)] if word == "terminating" else [])
    eventually(lambda: values(storage, "a")[-1] == "stale")
    assert set(values(storage, "up")) == {1.0, "stale"}


def test_without_a_word_a_failure_counts_with_the_time_and_duration_of_its_scrape(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    scraper.set_pool("p", settings(interval_seconds=3600.0, timeout_seconds=5.0), [target(exporter, every_second=True)])
    eventually(lambda: values(storage, "a"))
    exporter.stop()
    eventually(lambda: scraper.stats()["scrapes_failed"] == 1)
    failed_ms = time.time() * 1000
    eventually(lambda: 0.0 in values(storage, "up"))
    ((_, ups),) = series(storage, "up")
    first_failure_ms = next(time for time, value in ups if value == 0.0)
    assert abs(first_failure_ms - failed_ms) < 500
    assert max(float(seconds) for seconds in values(storage, "scrape_duration_seconds")) < 2.0


def test_every_second_overrides_the_interval(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(interval_seconds=3600.0, timeout_seconds=5.0), [target(exporter, every_second=True)])
    eventually(lambda: len(values(storage, "a")) >= 3)
