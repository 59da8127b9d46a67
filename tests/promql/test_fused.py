"""What the core computes in one pass is what the numpy beside it says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bellbuoy import _core
from bellbuoy._core import LabelSets
from bellbuoy.exposition import go_decimal
from bellbuoy.promql import fused, grouping, over_time, rates
from bellbuoy.promql.fused import Blockwise, Fused
from bellbuoy.promql.values import Ints, Vector, is_stale
from bellbuoy.promql.windows import Samples, Windows, latest
from tests.promql.test_windows import SAMPLES, SERIES, Series, samples_of

BY_NUMPY: dict[str, Blockwise] = {
    "avg_over_time": over_time.averages,
    "changes": lambda block: rates.transitions(block, only_falls=False, is_anchored=False),
    "count_over_time": over_time.counts,
    "delta": lambda block: rates.extrapolated(block, is_counter=False, is_rate=False),
    "first_over_time": over_time.firsts,
    "idelta": lambda block: rates.instant(block, is_rate=False),
    "increase": lambda block: rates.extrapolated(block, is_counter=True, is_rate=False),
    "irate": lambda block: rates.instant(block, is_rate=True),
    "last_over_time": over_time.lasts,
    "max_over_time": lambda block: over_time.extremes(block, np.fmax),
    "min_over_time": lambda block: over_time.extremes(block, np.fmin),
    "present_over_time": over_time.presence,
    "rate": lambda block: rates.extrapolated(block, is_counter=True, is_rate=True),
    "resets": lambda block: rates.transitions(block, only_falls=True, is_anchored=False),
    "stddev_over_time": lambda block: over_time.variances(block, root=True),
    "stdvar_over_time": lambda block: over_time.variances(block, root=False),
    "sum_over_time": over_time.sums,
    "ts_of_first_over_time": over_time.first_times,
    "ts_of_last_over_time": over_time.last_times,
}
# Numbers of one sign and size: what rounding does to sums that cancel is tested apart.
PLAIN = st.lists(
    st.tuples(st.integers(-50, 200), st.one_of(st.integers(0, 20).map(float), st.floats(0.1, 1e3))),
    max_size=12,
    unique_by=lambda s: s[0],
).map(sorted)


def same(function: str, samples: Samples, ends: Ints, extent: int) -> None:
    windows = Windows(samples, ends, extent)
    kernel = fused.kernel(function, BY_NUMPY[function])
    assert isinstance(kernel, Fused)
    assert kernel.takes(windows)
    values, present = kernel.whole(windows, lambda: None)
    for block in windows.blocks() if len(samples.values) else ():
        want, there = kernel(block)
        assert (present[block.rows] == there).all()
        np.testing.assert_allclose(values[block.rows][there], want[there], rtol=1e-9, atol=1e-9, err_msg=function)


def test_every_fused_function_has_its_plain_statement() -> None:
    assert BY_NUMPY.keys() == fused.FUNCTIONS


@settings(max_examples=40, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=5), st.integers(-60, 100), st.integers(1, 40), st.integers(1, 80))
def test_functions_of_windows_give_what_numpy_gives(series: list[Series], start: int, step: int, extent: int) -> None:
    for function in fused.FUNCTIONS:
        same(function, samples_of(series), start + step * np.arange(6), extent)


@settings(max_examples=40, deadline=None)
@given(SERIES, st.integers(-60, 100), st.integers(1, 40), st.integers(1, 80))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_go_the_same_way(series: list[Series], start: int, step: int, extent: int) -> None:
    samples = samples_of(series)
    # No window has stale markers.
    samples = replace(samples, values=np.where(is_stale(samples.values), np.nan, samples.values))
    for function in ("avg_over_time", "changes", "max_over_time", "min_over_time", "rate", "resets"):
        same(function, samples, start + step * np.arange(6), extent)


def test_sums_keep_small_terms_and_means_survive_overflow() -> None:
    series = [[(1, 1e100), (2, 1.0), (3, -1e100)], [(1, 1.7e308), (2, 1.7e308), (3, 1.7e308)]]
    windows = Windows(samples_of(series), np.array([3], np.int64), 10)

    def of(function: str) -> list[float]:
        values, _ = Fused(function, BY_NUMPY[function]).whole(windows, lambda: None)
        return [float(value) for value in values[:, 0]]

    assert of("sum_over_time") == [1.0, math.inf]
    assert of("avg_over_time") == pytest.approx([1 / 3, 1.7e308])


@settings(max_examples=40, deadline=None)
@given(SERIES, st.integers(-60, 200), st.integers(1, 40), st.integers(1, 80))
def test_the_newest_values_are_those_of_the_newest_samples(
    series: list[Series], start: int, step: int, lookback: int
) -> None:
    samples, ends = samples_of(series), start + step * np.arange(5, dtype=np.int64)
    index, there = latest(samples, ends, lookback)
    values, present = fused.latest(samples, ends, lookback, lambda: None)
    assert (present == there).all()
    if len(samples.values):
        assert values[there].tobytes() == samples.values[index][there].tobytes()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), SAMPLES), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_groups_give_what_numpy_gives(rows: list[tuple[int, Series]]) -> None:
    samples = samples_of([one for _, one in rows])
    values, present = fused.latest(samples, np.arange(0, 150, 30, dtype=np.int64), 40, lambda: None)
    labels = LabelSets.from_dicts([{"group": str(group), "row": str(at)} for at, (group, _) in enumerate(rows)])
    vector = Vector(labels, values, present, np.zeros(len(rows), np.bool_))
    groups = grouping.Groups.of(vector, ("group",), without=False)
    for operator in grouping.FUSED:
        found, (want, there) = grouping.aggregate(operator, groups), grouping.by_numpy(operator, groups)
        assert (found.present == there).all()
        np.testing.assert_allclose(found.values[there], want[there], rtol=1e-9, err_msg=operator)


def test_threads_share_the_rows_of_large_matrices() -> None:
    count, length = 301, 50
    series = [[(10 * at, float(at * (row + 1))) for at in range(length)] for row in range(count)]
    same("rate", samples_of(series), 3 * np.arange(400), 100)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.floats(), st.integers(-(10**22), 10**22).map(float), st.floats(1e-9, 1e-4)))
def test_values_in_json_are_prometheus_s_texts(value: float) -> None:
    one, times = LabelSets.from_dicts([{"a": "b"}]), np.array([1500], np.int64)
    body = _core.matrix_json(one, times, np.array([[value]]), np.array([[True]]), kind="matrix")
    far = math.isfinite(value) and value != 0 and not 1e-6 <= abs(value) < 1e21
    text = repr(value) if far else go_decimal(value)
    assert json.loads(body) == {
        "resultType": "matrix",
        "result": [{"metric": {"a": "b"}, "values": [[1.5, text]]}],
    }


def test_large_results_are_whole() -> None:
    rows, steps = 701, 200
    labels = LabelSets.from_dicts([{"row": str(row)} for row in range(rows)])
    values = np.arange(rows * steps, dtype=np.float64).reshape(rows, steps) / 4
    present = (np.arange(rows) % 3 > 0)[:, None] & np.ones(steps, np.bool_)
    times = np.arange(steps, dtype=np.int64) * 1000
    found = json.loads(_core.matrix_json(labels, times, values, present))
    assert [one["metric"]["row"] for one in found] == [str(row) for row in range(rows) if row % 3]
    assert all(
        [float(text) for _, text in one["values"]] == values[int(one["metric"]["row"])].tolist() for one in found
    )
    assert json.loads(_core.matrix_json(labels, times, values, np.zeros_like(present))) == []
