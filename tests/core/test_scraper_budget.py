"""`series_budget`: a target that shows too much loses its newest series, and not its scrape."""

import time

from hypothesis import given, settings as effort, strategies as st

from bellbuoy._core import Scraper, Storage
from tests.core.scraping import Exporter, eventually, only, series, settings, target, values


def body(*names: object) -> bytes:
    return b"".join(b'a{n="%s"} 1\n' % str(name).encode() for name in names)


def alive(storage: Storage, name: str) -> set[str]:
    """The labels `n` of the series whose last sample is no stale marker."""
    return {labels["n"] for labels, samples in series(storage, name) if samples[-1][1] != "stale"}


def scraped_again(scraper: Scraper, exporter: Exporter) -> None:
    """Until a scrape that began after now is stored."""
    asked = len(exporter.requests)
    eventually(lambda: len(exporter.requests) > asked + 1)


def test_the_first_stay_and_the_new_are_dropped_and_counted(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.body = body(1, 2) + b"b 1\n"
    scraper.set_pool("p", settings(series_budget=3), [target(exporter)])
    eventually(lambda: len(values(storage, "scrape_series_dropped")) >= 2)
    assert set(values(storage, "scrape_series_dropped")) == {0.0}
    exporter.body = body(0, 1, 2, 3) + b"b 2\n"
    eventually(lambda: values(storage, "scrape_series_dropped")[-1] == 2.0)
    assert alive(storage, "a") == {"1", "2"}
    assert values(storage, "b")[-1] == 2.0
    assert set(values(storage, "up")) == {1.0}
    assert values(storage, "scrape_samples_scraped")[-1] == 5.0
    assert values(storage, "scrape_samples_post_metric_relabeling")[-1] == 5.0
    shown = only(scraper)
    assert (shown["health"], shown["samples"], shown["series"], shown["series_dropped"]) == ("up", 5, 3, 2)
    assert scraper.stats()["samples_over_budget"] >= 2
    # One that was left out is not taken for new each time.
    misses = scraper.stats()["plan_misses"]
    scraped_again(scraper, exporter)
    assert scraper.stats()["plan_misses"] == misses


def test_what_relabeling_drops_costs_no_budget(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = body(*range(10)) + b"b 1\nc 1\n"
    rules = [{"source_labels": ["__name__"], "regex": "a", "action": "drop"}]
    scraper.set_pool("p", settings(series_budget=2, metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: values(storage, "c"))
    assert values(storage, "b")
    assert series(storage, "a") == []
    assert set(values(storage, "scrape_series_dropped")) == {0.0}


def test_targets_over_budget_keep_what_each_had_first(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.body, other.body = body(1, 2), body(3, 4)
    both = [target(exporter, labels={"job": "one"}), target(other, labels={"job": "two"})]
    scraper.set_pool("p", settings(series_budget=2), both)
    eventually(lambda: len(alive(storage, "a")) == 4)
    exporter.body = other.body = body(1, 2, 3, 4)
    eventually(lambda: [samples[-1][1] for _, samples in series(storage, "scrape_series_dropped")] == [2.0, 2.0])
    found = {(labels["job"], labels["n"]) for labels, samples in series(storage, "a") if samples[-1][1] != "stale"}
    assert found == {("one", "1"), ("one", "2"), ("two", "3"), ("two", "4")}


def test_room_comes_back_once_series_are_gone_for_long(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = body(1, 2)
    # Ten milliseconds, so that a few hundred scrapes are soon done.
    fast = settings(series_budget=2, interval_seconds=0.01, timeout_seconds=0.01)
    scraper.set_pool("p", fast, [target(exporter)])
    eventually(lambda: alive(storage, "a") == {"1", "2"})
    exporter.body = body(2, 3)
    eventually(lambda: values(storage, "scrape_series_dropped")[-1] == 1.0)
    started = time.monotonic()
    eventually(lambda: alive(storage, "a") == {"2", "3"})
    assert time.monotonic() - started > 0.5
    assert values(storage, "scrape_series_dropped")[-1] == 0.0


def test_any_sequence_of_bodies_stays_within_the_budget(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    """The plain statement: who is in stays in, others come in as they stand in the body while there is room."""

    @given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=8, unique=True), min_size=1, max_size=4))
    @effort(max_examples=12, deadline=None)
    def check(bodies: list[list[int]]) -> None:
        budget = 4
        exporter = Exporter()
        storage = Storage(str(tmp_path_factory.mktemp("data")))
        scraper = Scraper(storage)
        try:
            held: list[int] = []
            for at, names in enumerate(bodies):
                held += [name for name in names if name not in held][: budget - len(held)]
                exporter.body = body(*names) + b"# %d\n" % at
                if at == 0:
                    scraper.set_pool("p", settings(series_budget=budget), [target(exporter)])
                scraped_again(scraper, exporter)
                want = {str(name) for name in names if name in held}
                eventually(lambda want=want: alive(storage, "a") == want)  # type: ignore[misc]
                over = float(sum(name not in held for name in names))
                eventually(lambda over=over: values(storage, "scrape_series_dropped")[-1] == over)  # type: ignore[misc]
        finally:
            scraper.close()
            storage.close()
            exporter.stop()

    check()
