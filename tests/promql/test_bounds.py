"""No query stalls or crashes the engine: what is too large is refused with a clear error, and at once."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bellbuoy._core import Histogram, LabelSets, Storage
from bellbuoy.promql import Engine, EngineOptions, QueryError
from tests.conformance.storage import MemoryStorage

END_MS = 1_700_000_000_000
SECONDS = 5.0
"""Far more than any of these takes, far less than a stall."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("bounds")
    storage = Storage(str(folder), retention_seconds=200 * 365 * 86400)
    times = END_MS - 15_000 * np.arange(1000, dtype=np.int64)[::-1]
    for number in range(60):
        sets = LabelSets.from_dicts([{"__name__": "m", "i": str(number)}] * len(times))
        storage.append(sets, times, np.ones(len(times)))
    yield Engine(storage, EngineOptions(max_samples=50_000))
    storage.close()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("(" * 20_000 + "1" + ")" * 20_000, "nested deeper than 200 levels"),
        ("-" * 20_000 + "1", "nested deeper than 200 levels"),
        ("sum(" * 20_000 + "m" + ")" * 20_000, "nested deeper than 200 levels"),
        ("m[5m + " + "(" * 20_000 + "1" + ")" * 20_000 + "]", "nested deeper than 200 levels"),
        ("m" + "[5m:]" * 1000, "nested too deeply"),
        ("x" * 2**20, "query of 1048576 characters, more than 524288"),
        ('m{i="' + "x" * 2**20 + '"}', "more than 524288; ask for less at once"),
        ("m or " * 40_000 + "m", "more than 20000 words and signs"),
        ("sum by (" + "l, " * 40_000 + "l) (m)", "more than 20000 words and signs"),
        ('m{i=~"(((((a{1,1000}){1,1000}){1,1000}){1,1000}){1,1000})"}', "cannot read the regular expression"),
        ('label_replace(m, "a", "$1", "i", "((a{1,1000}){1,1000}){1,1000}")', "invalid regular expression"),
        ("m{" + 'a="b",' * 1000 + "}", "1001 matchers, more than 64"),
        ('{__name__=~".+"}[1y]', "would load too many samples"),
        ('sum(rate({__name__=~".+"}[1y]))', "would load too many samples"),
    ],
    ids=lambda value: value[:24],
)
def test_what_is_too_large_is_refused_at_once(engine: Engine, query: str, text: str) -> None:
    start = time.monotonic()
    with pytest.raises(QueryError) as caught:
        engine.instant(query, END_MS)
    assert time.monotonic() - start < SECONDS
    assert text in str(caught.value)


@pytest.mark.parametrize("pattern", ["(a*)*(a*)*(a*)*b", "(x+x+)+y", "(.*)*(.*)*z"])
def test_patterns_that_stall_others_take_no_time(engine: Engine, pattern: str) -> None:
    start = time.monotonic()
    assert len(engine.instant(f'm{{i=~"{pattern}"}}', END_MS).labels) == 0
    long = "x" * 10_000
    subject = f'label_replace(vector(1), "i", "{long}", "", "")'
    assert len(engine.instant(f'label_replace({subject}, "a", "$1", "i", "{pattern}")', END_MS).labels) == 1
    assert time.monotonic() - start < SECONDS


def test_histograms_count_for_as_many_samples_as_they_take() -> None:
    store = MemoryStorage()
    histogram = Histogram(
        schema=3, count=160.0, sum=1.0, positive_spans=[(0, 160)], positive_buckets=[1.0] * 160, is_float=True
    )
    for number in range(10):
        labels = {"__name__": "h", "i": str(number)}
        store.append(labels, [(time, histogram) for time in range(0, 600_000, 15_000)])
    engine = Engine(store, EngineOptions(max_samples=10_000))
    assert len(engine.range("h", 0, 60_000, 15_000).labels) == 10
    for query in ("h", "rate(h[1m])", "sum_over_time(h[1m])", "h * 2"):
        with pytest.raises(QueryError, match="would load too many samples"):
            engine.range(query, 0, 600_000, 1_000)
