"""Histograms in columns: each operation does what the plain one says, whatever the buckets are."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bellbuoy._core import Histogram, Histograms
from tests.core.plain_histograms import (
    CUSTOM_SCHEMA,
    IncompatibleError,
    Plain,
    below,
    bound,
    combined,
    filled,
    growth,
    was_reset,
)

HINTS = ["unknown", "reset", "not_reset", "gauge"]
BOUNDS = [(), (1.0, 2.0, 5.0), (1.0, 2.0, 5.0, 10.0), (2.0, 10.0), (-5.0, -1.0, 0.0, 3.0), (-2.0,)]
bounded = settings(max_examples=100, deadline=None)


@st.composite
def plains(draw: st.DrawFn, *, counters: bool = False) -> Plain:
    """Whole counts, so that sums are exact in whatever order they are made."""
    counts = st.integers(0, 40)
    hint = draw(st.sampled_from(HINTS[:1] * 3 + HINTS[: 3 if counters else 4]))
    if draw(st.integers(0, 2)) == 0:
        custom = draw(st.sampled_from(BOUNDS))
        positive = draw(st.dictionaries(st.integers(0, len(custom)), counts))
        return Plain(CUSTOM_SCHEMA, sum(positive.values()), draw(counts), positive, custom=custom, hint=hint)
    schema = draw(st.sampled_from([-1, 0, 0, 1, 2]))
    # What lies between a threshold and the end of a coarser bucket counts twice if schemas differ, as with Prometheus.
    threshold = draw(st.sampled_from([0.0, 0.001, 0.001, 1.0, 4.0]))
    sides = [draw(st.dictionaries(st.integers(-6, 9), counts, max_size=8)) for _ in range(2)]
    positive, negative = ({i: c for i, c in side.items() if bound(schema, i - 1) >= threshold} for side in sides)
    zero = draw(counts)
    count = zero + sum(positive.values()) + sum(negative.values())
    return Plain(schema, count, draw(counts), positive, negative, threshold, zero, hint=hint)


@st.composite
def windows(draw: st.DrawFn) -> list[Plain]:
    """A counter that mostly grows."""
    window = [draw(plains(counters=True))]
    for _ in range(draw(st.integers(1, 5))):
        last = window[-1]
        if draw(st.integers(0, 4)) == 0:
            window.append(draw(plains(counters=True)))
            continue
        more = draw(st.dictionaries(st.sampled_from([*last.positive, 0, 1]), st.integers(0, 5), max_size=3))
        positive = {i: last.positive.get(i, 0) + more.get(i, 0) for i in last.positive.keys() | more.keys()}
        if last.is_custom:
            positive = {i: c for i, c in positive.items() if i <= len(last.custom)}
        else:
            positive = {i: c for i, c in positive.items() if bound(last.schema, i - 1) >= last.threshold}
        count = last.count + sum(positive.values()) - sum(last.positive.values())
        window.append(
            replace(last, positive=positive, count=count, hint=draw(st.sampled_from(HINTS[:1] * 4 + HINTS[:3])))
        )
    return window


def columns(*plain: Plain) -> Histograms:
    """Every second one of whole numbers, as most that are stored are."""
    return Histograms([one.histogram(is_float=bool(at % 2)) for at, one in enumerate(plain)])


def at(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def check(got: Histogram, want: Plain) -> None:
    assert got.zero_threshold == pytest.approx(want.threshold)
    want = replace(want, positive=filled(want.positive), negative=filled(want.negative))
    assert Plain.of(got) == replace(want, threshold=got.zero_threshold)


@bounded
@given(plains(), plains())
def test_histograms_are_added_and_subtracted(one: Plain, other: Plain) -> None:
    both = columns(one, other)
    for sign, operation in ((1, both.add), (-1, both.subtract)):
        results, flags = operation(at(0, 1, 0), both, at(1, 0, 0))
        for number, (left, right) in enumerate([(one, other), (other, one), (one, one)]):
            try:
                want = combined(left, right, sign)
            except IncompatibleError:
                assert flags[number] == Histograms.INCOMPATIBLE
                continue
            check(results.compact()[number], want)
            collides = {left.hint, right.hint} == {"reset", "not_reset"}
            assert bool(flags[number] & Histograms.COLLISION) == collides
            assert bool(flags[number] & Histograms.RECONCILED) == (left.custom != right.custom)


@bounded
@given(plains(), plains())
def test_a_reset_is_found(one: Plain, other: Plain) -> None:
    both = columns(one, other)
    got = both.resets(at(0, 1, 0), at(1, 0, 0)).tolist()
    assert got == [was_reset(one, other), was_reset(other, one), was_reset(one, one)]


@bounded
@given(windows())
def test_a_window_grows_by_its_ends_and_what_resets_lost(window: list[Plain]) -> None:
    histograms, numbers = columns(*window), np.arange(len(window))
    resets = np.concatenate([[False], histograms.resets(numbers[1:], numbers[:-1])])
    # A second window begins later, with the same samples.
    starts = [0] if len(window) < 3 else [0, 1]
    low, high = at(*starts), at(*[len(window)] * len(starts))
    results, flags = histograms.rate(numbers, low, high, resets, is_counter=True)
    for number, start in enumerate(starts):
        try:
            check(results[number], growth(window[start:]))
        except IncompatibleError:
            assert flags[number] & Histograms.INCOMPATIBLE


@bounded
@given(st.lists(plains(), min_size=1, max_size=5))
def test_many_are_summed_and_averaged(plain: list[Plain]) -> None:
    histograms, numbers = columns(*plain), np.arange(len(plain))
    totals, flags, where = histograms.total(numbers, at(0), at(len(plain)))
    means, mean_flags, mean_where = histograms.mean(numbers, at(0), at(len(plain)))
    assert (flags.tolist(), where.tolist()) == (mean_flags.tolist(), mean_where.tolist())
    want = plain[0]
    for number, other in enumerate(plain[1:], 1):
        try:
            want = combined(want, other)
        except IncompatibleError:
            assert (flags[0] & Histograms.INCOMPATIBLE, where[0]) == (Histograms.INCOMPATIBLE, number)
            return
    assert where[0] == -1
    check(totals.compact()[0], want)
    hints = {one.hint for one in plain}
    assert bool(flags[0] & Histograms.COLLISION) == (hints >= {"reset", "not_reset"})
    mean = means[0]
    assert (mean.count * len(plain), mean.sum * len(plain)) == pytest.approx((want.count, want.sum))
    assert sum(mean.positive_buckets) * len(plain) == pytest.approx(sum(want.positive.values()))


@bounded
@given(plains(), st.floats(-6, 12), st.floats(-6, 12), st.floats(0, 1))
def test_quantiles_and_fractions_are_each_others_inverse(plain: Plain, lower: float, upper: float, part: float) -> None:
    histogram = replace(plain, zero=0 if plain.threshold == 0 else plain.zero).histogram()
    total = sum(bucket[4] for bucket in histogram.buckets())
    histogram = replace(Plain.of(histogram), count=total).histogram()
    one = Histograms([histogram])
    fraction, _ = one.fraction(at(0), np.array([lower]), np.array([upper]))
    if not total:
        assert np.isnan(fraction[0])
        assert np.isnan(one.quantile(at(0), np.array([part]))[0][0])
        return
    want = max(0.0, below(histogram, upper) - below(histogram, lower)) / total
    assert fraction[0] == pytest.approx(want, abs=1e-9)
    (value,), flags = one.quantile(at(0), np.array([part]))
    assert flags[0] == 0
    if math.isinf(value) or value in (*plain.custom[:1], *plain.custom[-1:]):
        return  # Of observations in a bucket without end nobody knows.
    nearly = abs(value) * 1e-9 + 1e-12
    assert below(histogram, value - nearly) / total <= part + 1e-6
    assert below(histogram, value + nearly) / total >= part - 1e-6


@bounded
@given(plains(), st.floats(-6, 12))
def test_what_is_cut_off_at_one_end_is_what_the_other_end_keeps(plain: Plain, value: float) -> None:
    if plain.is_custom and (value < min(plain.custom, default=0) or value > max(plain.custom, default=0)):
        return  # Of observations in a bucket without end nobody knows.
    one = columns(plain)
    count = sum(bucket[4] for bucket in one[0].buckets())
    (low,) = one.trim(at(0), np.array([value]), upper=True).counts()
    (high,) = one.trim(at(0), np.array([value]), upper=False).counts()
    first = plain.positive.get(0, 0) if plain.is_custom else 0
    assert count - first - 1e-9 <= low + high <= count + 1e-9
    everything = one.trim(at(0, 0), np.array([-math.inf, math.inf]), upper=False).counts().tolist()
    assert everything[0] == plain.count
    assert everything[1] <= plain.positive.get(len(plain.custom), 0)


def test_a_sum_that_would_overflow_has_a_mean_all_the_same() -> None:
    most = Plain(0, 1e308, 1.5e308, {0: 1e308}).histogram()
    means, _, _ = Histograms([most] * 3).mean(at(0, 1, 2), at(0), at(3))
    assert (means[0].sum, means[0].positive_buckets[0]) == pytest.approx((1.5e308, 1e308))


def test_small_observations_are_not_lost_among_large_ones() -> None:
    series = [Plain(0, count, count, {0: count}).histogram() for count in (1e17, 1, 1, 1, 1, 1e17)]
    total, _, _ = Histograms(series).total(np.arange(6), at(0), at(6))
    assert total[0].positive_buckets.tolist() == [200_000_000_000_000_004.0]


def test_scaling_below_nothing_makes_a_gauge_and_dividing_by_it_leaves_no_buckets() -> None:
    one = Histograms([Plain(0, 3, 6, {1: 3}, hint="reset").histogram(is_float=False)])
    scaled = one.scale(at(0, 0), np.array([2.0, -1.0]))
    found = [(h.count, h.sum, h.counter_reset_hint) for h in (scaled[0], scaled[1])]
    assert found == [(6, 12, "reset"), (-3, -6, "gauge")]
    nothing = one.divide(at(0), np.array([0.0]))[0]
    assert (nothing.count, nothing.sum, nothing.buckets()) == (math.inf, math.inf, [])


def test_hints_and_statistics_are_told_and_changed() -> None:
    plain = [Plain(2, 3, 6, {1: 3}, hint=hint) for hint in HINTS]
    histograms = columns(*plain)
    assert histograms.hints().tolist() == [0, 1, 2, 3]
    assert histograms.with_hints(np.array([3, 1, 0, 0], np.uint8)).hints().tolist() == [3, 1, 0, 0]
    assert (histograms.counts().tolist(), histograms.sums().tolist(), histograms.schemas().tolist()) == (
        [3] * 4,
        [6] * 4,
        [2] * 4,
    )
    bare = histograms.stats(at(1))[0]
    assert (bare.count, bare.sum, bare.schema, bare.counter_reset_hint, bare.buckets()) == (3, 6, 2, "reset", [])
    assert histograms.texts(at(0)) == ["{count:3, sum:6, (1,1.189207115002721]:3}"]
    assert histograms.equal(at(0, 0), histograms, at(1, 0)).tolist() == [True, True]
    assert len(Histograms.concat([histograms, histograms.take(at(3, 0))])) == 6


def test_nan_observations_are_told_of() -> None:
    some = Histograms([Plain(0, 10, math.nan, {1: 5}).histogram()])
    values, flags = some.quantile(at(0, 0), np.array([0.25, 0.9]))
    assert (values[0], flags.tolist()) == (pytest.approx(math.sqrt(2)), [Histograms.SKEWED, Histograms.NAN])
    assert np.isnan(values[1])
    assert [array.tolist() for array in some.fraction(at(0), np.array([-math.inf]), np.array([math.inf]))] == [
        [0.5],
        [Histograms.NAN],
    ]


def test_what_lies_between_two_is_interpolated_and_a_reset_counter_comes_from_nothing() -> None:
    pair = columns(Plain(0, 4, 8, {1: 4}), Plain(0, 8, 2, {1: 6, 2: 2}), Plain(0, 2, 2, {1: 2}))
    half = np.full(2, 0.5)
    got, flags = pair.interpolate(at(0, 1), at(1, 2), half, np.array([True, True]))
    assert (got.counts().tolist(), got.sums().tolist(), flags.tolist()) == ([6, 1], [5, 1], [0, 0])
    assert pair.interpolate(at(1, 1), at(2, 2), half, np.array([False, False]))[0].counts().tolist() == [5, 5]


def test_anchored_and_smoothed_windows_reach_past_their_bounds() -> None:
    def grown(counts: Sequence[int], *, smoothed: bool) -> list[tuple[float, int]]:
        histograms = columns(*(Plain(0, count, count, {0: count}) for count in counts))
        numbers = np.arange(len(counts))
        results, flags = histograms.extended_rate(
            numbers, numbers * 10, at(0), at(len(counts)), at(5), at(25), is_counter=True, smoothed=smoothed
        )
        return list(zip(results.counts().tolist(), flags.tolist(), strict=True))

    assert grown([0, 10, 20, 30], smoothed=True) == [(20, 0)]
    assert grown([0, 10, 20], smoothed=False) == [(20, 0)]
    assert grown([10, 20, 4, 8], smoothed=True) == [(11, 0)]
    assert grown([10], smoothed=False) == [(0, Histograms.NONE)]


def test_numbers_that_there_are_not_are_refused() -> None:
    one = columns(Plain(0, 1, 1, {0: 1}))
    with pytest.raises(ValueError, match="there is no histogram 1 of 1"):
        one.take(at(1))
    with pytest.raises(ValueError, match="there is no histogram -1 of 1"):
        one.texts(at(-1))
    with pytest.raises(ValueError, match="factors has 2 elements, not 1"):
        one.scale(at(0), np.ones(2))
    with pytest.raises(ValueError, match="0:2 is no window of at least 1 of 1 numbers"):
        one.total(at(0), at(0), at(2))
    with pytest.raises(ValueError, match="there is no hint 4"):
        one.with_hints(np.array([4], np.uint8))
    with pytest.raises(ValueError, match="numbers is not contiguous"):
        one.take(np.zeros(4, np.int64)[::2])
