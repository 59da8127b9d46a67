"""What newer test files say: starts, fuzzy numbers, native histograms; and how their series are written."""

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bellbuoy.rules_tools.series_text import (
    STALE,
    SeriesTextError,
    histogram_text,
    read_histogram,
    read_series,
    read_values,
)
from bellbuoy.rules_tools.unit_tests import run_file
from bellbuoy.tsdb import Histogram


def outcome(folder: Path, text: str) -> list[str]:
    path = folder / "test.yml"
    path.write_text(text, encoding="utf-8")
    return run_file(path).errors


def test_a_test_may_start_at_any_time(tmp_path: Path) -> None:
    for start in ("1700000000", "2023-11-14T22:13:20Z"):
        text = f"""
        tests:
          - start_timestamp: {start}
            input_series: [{{series: a, values: "1 2 3"}}]
            promql_expr_test:
              - {{expr: "a + time() - 1700000000", eval_time: 2m, exp_samples: [{{value: 123}}]}}
        """
        assert outcome(tmp_path, text) == []


def test_numbers_may_be_compared_with_a_grain_of_salt(tmp_path: Path) -> None:
    text = """
    fuzzy_compare: FUZZY
    tests:
      - input_series: [{series: a, values: "0.3"}]
        promql_expr_test: [{expr: "a * 3", eval_time: 0, exp_samples: [{value: 0.9}]}]
    """
    assert outcome(tmp_path, text.replace("FUZZY", "true")) == []
    (error,) = outcome(tmp_path, text.replace("FUZZY", "false"))
    assert "expected {} 0.9" in error
    assert "got      {} 0.8999999999999999" in error


def test_histograms_are_loaded_and_compared(tmp_path: Path) -> None:
    text = """
    tests:
      - input_series:
          - {series: 'h{a="b"}', values: "{{sum:3 count:2 buckets:[2]}}+{{sum:1.5 count:1 buckets:[1]}}x3"}
        promql_expr_test:
          - expr: h
            eval_time: 2m
            exp_samples:
              - {labels: 'h{a="b"}', histogram: "{{count:COUNT sum:6 counter_reset_hint:not_reset buckets:[4]}}"}
    """
    assert outcome(tmp_path, text.replace("COUNT", "4")) == []
    assert 'got      h{a="b"} {{count:4' in outcome(tmp_path, text.replace("COUNT", "5"))[0]


def test_only_tests_of_a_name_run(tmp_path: Path) -> None:
    path = tmp_path / "test.yml"
    path.write_text("tests: [{name: one}, {name: two}, {name: three}]", encoding="utf-8")
    assert [run_file(path, only=only).tests for only in ("", "t", "^two$")] == [3, 2, 1]


def test_values_are_read_as_they_are_written() -> None:
    assert read_values(" 1 -2 .5 1e3 0x2 ") == [1, -2, 0.5, 1000, 0, 0, 0]
    assert read_values("1+2x3 5-1x2 7x2") == [1, 3, 5, 7, 5, 4, 3, 7, 7, 7]
    assert read_values("_ _x3 stale") == [None, None, None, None, STALE]
    values = read_values("Inf -Inf NaN")
    assert values[:2] == [math.inf, -math.inf]
    assert read_series('a{b="} 1 {{",c="\\"}"} 5') == ({"__name__": "a", "b": "} 1 {{", "c": '"}'}, [5])
    assert read_series("{} 1") == ({}, [1])
    assert read_series("a") == ({"__name__": "a"}, [])
    for text in ("1+", "x", "1x", "1+1", "{{count:}}", "{{nope:1}}", "1x99999999", "{{count:1}}+{{count:1}}"):
        with pytest.raises(SeriesTextError):
            read_values(text)
    for text in ('a{b!="c"} 1', "a[5m] 1", "sum(a) 1"):
        with pytest.raises(SeriesTextError):
            read_series(text)


@settings(max_examples=60, deadline=None)
@given(
    schema=st.integers(-4, 8),
    offset=st.integers(-5, 5),
    buckets=st.lists(st.integers(0, 9), max_size=6),
    negative=st.lists(st.integers(0, 9), max_size=4),
    zero=st.integers(0, 3),
)
def test_a_histogram_goes_to_text_and_back(
    schema: int, offset: int, buckets: list[int], negative: list[int], zero: int
) -> None:
    histogram = Histogram(
        schema=schema,
        count=float(sum(buckets) + sum(negative) + zero),
        sum=2.5,
        zero_threshold=0.25,
        zero_count=float(zero),
        positive_spans=[(offset, len(buckets))] if buckets else [],
        positive_buckets=[float(one) for one in buckets],
        negative_spans=[(offset, len(negative))] if negative else [],
        negative_buckets=[float(one) for one in negative],
        is_float=True,
    )
    text = histogram_text(histogram)
    again = read_histogram(text[2:-2])
    assert histogram_text(again) == text
    assert again.buckets() == histogram.buckets()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_no_text_is_worse_than_refused(text: str) -> None:
    with contextlib.suppress(SeriesTextError):
        read_series(text)
