"""Windows and what is computed of them, against a plain statement of the same."""

import math
import struct
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bellbuoy._core import LabelSets
from bellbuoy.promql import Engine
from bellbuoy.promql.sums import grouped_sum, window_sums
from bellbuoy.promql.windows import Samples, Windows, latest
from tests.conformance.storage import MemoryStorage

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
Series = list[tuple[int, float]]

VALUES = st.one_of(st.integers(0, 20).map(float), st.sampled_from([math.nan, STALE, math.inf, -1.5, 1e300]))
SAMPLES = st.lists(st.tuples(st.integers(-50, 200), VALUES), max_size=12, unique_by=lambda s: s[0]).map(sorted)
SERIES = st.lists(st.one_of(SAMPLES, st.just([(0, 1.0), (10, 2.0), (20, 1.0)])), min_size=1, max_size=6)


def samples_of(series: list[Series]) -> Samples:
    counts = np.cumsum([0, *map(len, series)])
    flat = [sample for one in series for sample in one]
    return Samples(
        LabelSets.from_dicts([{"series": str(number)} for number in range(len(series))]),
        np.zeros(len(series), np.bool_),
        counts.astype(np.int64),
        np.array([time for time, _ in flat], np.int64),
        np.array([value for _, value in flat], np.float64),
    )


@settings(max_examples=150, deadline=None)
@given(SERIES, st.integers(-60, 100), st.integers(1, 40), st.integers(1, 6), st.integers(1, 80))
def test_windows_hold_what_lies_in_them(series: list[Series], start: int, step: int, steps: int, extent: int) -> None:
    ends = np.arange(start, start + step * steps, step, dtype=np.int64)
    windows = Windows(samples_of(series), ends, extent)
    offsets = np.cumsum([0, *map(len, series)])
    for block in windows.blocks():
        for row in range(block.rows.start, block.rows.stop):
            for column, end in enumerate(ends.tolist()):
                want = [time for time, _ in series[row] if end - extent < time <= end]
                low, high = block.low[row - block.rows.start, column], block.high[row - block.rows.start, column]
                assert windows.samples.timestamps[low:high].tolist() == want
                assert offsets[row] <= low <= high <= offsets[row + 1]


@settings(max_examples=150, deadline=None)
@given(SERIES, st.integers(-60, 200), st.integers(1, 80))
def test_the_latest_sample_serves_until_it_is_too_old_or_stale(series: list[Series], end: int, lookback: int) -> None:
    samples = samples_of(series)
    index, present = latest(samples, np.array([end], np.int64), lookback)
    for row, one in enumerate(series):
        seen = [(time, value) for time, value in one if end - lookback < time <= end]
        is_fresh = bool(seen) and struct.pack("<d", seen[-1][1]) != struct.pack("<d", STALE)
        assert present[row, 0] == is_fresh
        if is_fresh:
            assert samples.timestamps[index[row, 0]] == seen[-1][0]


def rate_of(samples: Series, start: float, end: float) -> float | None:
    """Prometheus's rate, said plainly: times in milliseconds."""
    if len(samples) < 2:
        return None
    change = samples[-1][1] - samples[0][1]
    for (_, before), (_, after) in pairwise(samples):
        if after < before:
            change += before
    sampled = (samples[-1][0] - samples[0][0]) / 1000
    average = sampled / (len(samples) - 1)
    to_start, to_end = (samples[0][0] - start) / 1000, (end - samples[-1][0]) / 1000
    to_start = average / 2 if to_start >= average * 1.1 else to_start
    if change > 0 and samples[0][1] >= 0:
        to_start = min(to_start, sampled * (samples[0][1] / change))
    to_end = average / 2 if to_end >= average * 1.1 else to_end
    return change * ((sampled + to_start + to_end) / sampled) / ((end - start) / 1000)


COUNTERS = st.lists(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 9).map(float)), max_size=20, unique_by=lambda s: s[0]).map(
        sorted
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(COUNTERS, st.integers(0, 100), st.integers(1, 60), st.integers(1, 6), st.integers(1, 150))
def test_rate_is_what_it_says_also_over_resets(
    series: list[Series], start: int, step: int, steps: int, extent: int
) -> None:
    store = MemoryStorage()
    for number, samples in enumerate(series):
        store.append({"__name__": "x_total", "series": str(number)}, samples)
    end = start + step * (steps - 1)
    result = Engine(store).range(f"rate(x_total[{extent}ms])", start, end, step)
    found = {(labels["series"], time): value for labels, time, value in result.samples()}
    wanted = {}
    for number, samples in enumerate(series):
        for time in range(start, end + 1, step):
            rate = rate_of([s for s in samples if time - extent < s[0] <= time], time - extent, time)
            if rate is not None:
                wanted[str(number), time] = rate
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert math.isclose(found[key], value, rel_tol=1e-9, abs_tol=1e-9)


FLOATS = st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(FLOATS)
def test_sums_are_near_the_exact_ones(values: list[float]) -> None:
    array = np.array(values)
    # What is lost is a tiny share of the magnitudes that were added, not of what is left of them.
    bound = 1e-25 * math.fsum(map(abs, values)) + 1e-15 * abs(math.fsum(values))
    sums, errors = grouped_sum(array[:, None], np.array([0]))
    assert abs(float(sums[0, 0] + errors[0, 0]) - math.fsum(values)) <= bound
    total = window_sums(np.array([[0]]), np.array([[len(values)]]), array)
    assert abs(float(total[0, 0]) - math.fsum(values)) <= bound


@settings(max_examples=50, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=6))
def test_each_group_has_its_own_sum(groups: list[list[float]]) -> None:
    starts = np.cumsum([0, *map(len, groups)])[:-1]
    rows = np.array([value for group in groups for value in group])[:, None]
    sums, errors = grouped_sum(rows, starts)
    for number, group in enumerate(groups):
        bound = 1e-25 * math.fsum(map(abs, group)) + 1e-15 * abs(math.fsum(group))
        assert abs(float(sums[number, 0] + errors[number, 0]) - math.fsum(group)) <= bound
