"""info() adds what the info metric says of a series' target."""

import pytest

from bellbuoy.promql import Engine, ExecutionError
from tests.conformance.storage import MemoryStorage


@pytest.fixture
def store() -> MemoryStorage:
    store = MemoryStorage()
    for instance in ("a", "b"):
        store.append({"__name__": "x", "job": "1", "instance": instance}, [(0, 1.0), (60_000, 2.0), (120_000, 3.0)])
    target = {"__name__": "target_info", "job": "1", "instance": "a"}
    store.append(target | {"version": "1", "zone": "z"}, [(0, 1.0), (60_000, 1.0)])
    store.append(target | {"version": "2", "zone": "z"}, [(120_000, 1.0)])
    return store


def labels_at(store: MemoryStorage, query: str, at: int) -> list[dict[str, str]]:
    found = [labels for labels, _, _ in Engine(store).instant(query, at).samples()]
    return [{key: value for key, value in labels.items() if key in ("version", "zone")} for labels in found]


def test_series_get_their_targets_labels(store: MemoryStorage) -> None:
    assert labels_at(store, "info(x)", 60_000) == [{"version": "1", "zone": "z"}, {}]
    assert labels_at(store, 'info(x, {zone=~".*"})', 60_000) == [{"zone": "z"}, {}]


def test_a_matcher_that_needs_a_value_drops_what_has_none(store: MemoryStorage) -> None:
    assert labels_at(store, 'info(x, {version="1"})', 60_000) == [{"version": "1"}]
    assert labels_at(store, 'info(x, {version="7"})', 60_000) == []


def test_the_newest_info_counts_at_each_step(store: MemoryStorage) -> None:
    result = Engine(store).range('info(x{instance="a"}, {version=~".+"})', 0, 120_000, 60_000)
    assert {labels["version"]: time for labels, time, _ in result.samples()} == {"1": 60_000, "2": 120_000}


def test_two_infos_of_one_time_are_an_error(store: MemoryStorage) -> None:
    store.append({"__name__": "target_info", "job": "1", "instance": "a", "version": "3"}, [(120_000, 1.0)])
    with pytest.raises(ExecutionError, match="found duplicate series for info metric"):
        Engine(store).instant("info(x)", 120_000)


def test_info_metrics_themselves_stay_as_they_are(store: MemoryStorage) -> None:
    assert labels_at(store, "info(target_info)", 60_000) == [{"version": "1", "zone": "z"}]
