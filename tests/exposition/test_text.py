"""The parser of the text format, and what a page prints is what it reads."""

import contextlib
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bellbuoy.exposition import COUNTER, GAUGE, UNTYPED, Page, ParseError, Sample, go_number, number, parse, series
from bellbuoy.exposition.text import _Parser


def check(text: str, *want: Sample) -> None:
    assert [sample for family in parse(text).values() for sample in family.samples] == list(want)


def refuse(text: str, reason: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert reason in str(caught.value)


def test_reads_samples_as_the_format_allows_them() -> None:
    check("a 1\n", Sample("a", (), 1.0))
    check("a{} 1\n", Sample("a", (), 1.0))
    check('a{b="c",} 1e3\n', Sample("a", (("b", "c"),), 1000.0))
    check('a { y = "2" , x = "1" }\t 1 \t 17 \r\n', Sample("a", (("x", "1"), ("y", "2")), 1.0, 17))
    check('a{b="\\\\ \\n \\""} +Inf\n', Sample("a", (("b", '\\ \n "'),), math.inf))
    check('{"a metric",b="c"} .5\n', Sample("a metric", (("b", "c"),), 0.5))
    check('a{"a label"="é"} -1.\n', Sample("a", (("a label", "é"),), -1.0))
    check("# a comment\n\n   \na 1\n# EOF\n", Sample("a", (), 1.0))
    check("")


def test_knows_types_helps_and_the_lines_of_a_histogram() -> None:
    families = parse(
        '# HELP h It has \\n and \\\\.\n# TYPE h histogram\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n'
        '# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 1\ns_count 1\nh_total 4\n# TYPE c counter\nc_sum 5\nc 6\n'
    )
    assert {name: (family.type, len(family.samples)) for name, family in families.items()} == {
        "h": ("histogram", 3),
        "s": ("summary", 3),
        "h_total": ("untyped", 1),
        "c_sum": ("untyped", 1),
        "c": ("counter", 1),
    }
    assert families["h"].help == "It has \n and \\."


def test_says_which_line_is_wrong_and_how() -> None:
    refuse("a 1", "line 1: the text ends without a line feed")
    refuse("a 1\nb\n", "line 2: expected a value")
    refuse("a one\n", "expected a number as value of a, found 'one'")
    refuse("a 1_000\n", "expected a number")
    refuse("a \u0661\n", "expected a number")
    refuse("a 1 2 3\n", "expected a value and perhaps a timestamp")
    refuse("a 1 1.5\n", "expected milliseconds")
    refuse('a{b="c" 1\n', 'expected , or } after label "b"')
    refuse('a{b="c} 1\n', 'expected a quoted value of label "b"')
    refuse('a{b="c",b="d"} 1\n', 'label "b" is there twice')
    refuse('a{1b="c"} 1\n', "expected a label name at column 3")
    refuse("a{b} 1\n", 'expected = after label "b"')
    refuse('a{b="\\x"} 1\n', "unknown escape \\x")
    refuse("{} 1\n", "no metric name")
    refuse("a 1\na 2\n", "series a is there twice")
    refuse("# TYPE a gauge\n# TYPE a gauge\na 1\n", "a second TYPE line for metric a")
    refuse("# HELP a b\n# HELP a c\na 1\n", "a second HELP line for metric a")
    refuse("a 1\n# TYPE a gauge\n", "comes after its samples")
    refuse("# TYPE a thing\na 1\n", "unknown type 'thing'")


names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
any_name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
label_sets = st.dictionaries(any_name, st.text(st.characters(codec="utf-8"), max_size=10), max_size=4)
values = st.one_of(st.floats(), st.integers(min_value=-(2**53), max_value=2**53))


@given(name=st.one_of(names, any_name), labels=label_sets, value=values)
def test_what_is_printed_reads_back(name: str, labels: dict[str, str], value: float) -> None:
    pairs = tuple(sorted(labels.items()))
    (family,) = parse(f"{series(name, pairs)} {number(value)}\n").values()
    (sample,) = family.samples
    assert (sample.name, sample.labels) == (name, pairs)
    assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))


@given(
    st.from_regex(
        r'[ab:]{1,2}(\{((a|b|1)=?"[}x,\\n"]{0,2}",? ?){0,3}\}?)? {0,2}[-+]?[0-9.eE]{1,4}( 1)?', fullmatch=True
    )
)
def test_the_short_way_reads_as_the_long_one(line: str) -> None:
    def outcome(read: Callable[[str], Sample]) -> Sample | str:
        try:
            return read(line)
        except ParseError as e:
            return str(e)

    parser = _Parser()
    assert outcome(parser._sample) == outcome(parser._any_sample)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ParseError):
        parse(text)


@given(st.floats(allow_nan=False))
def test_go_numbers_read_back(value: float) -> None:
    assert float(go_number(value)) == value


def test_go_numbers_are_spelled_as_go_does() -> None:
    cases = {
        0.0: "0", 1.0: "1", 123456.0: "123456", 1e6: "1e+06", 1234567.0: "1.234567e+06", 0.0001: "0.0001",
        1e-5: "1e-05", 1e21: "1e+21", 99999.5: "99999.5", 1795494993.25: "1.79549499325e+09", math.inf: "+Inf",
        -math.inf: "-Inf",
    }  # fmt: skip
    assert {value: go_number(value) for value in cases} == cases
    assert (go_number(math.nan), go_number(-0.0)) == ("NaN", "-0")


def page() -> Page:
    page = Page()
    page.counter("seen_total", 'A "counter" with \\ and\nlines.', 3, '{x="1"}')
    page.counter("odd", "A counter that does not end in total.", 1)
    page.gauge("level", "A gauge.", math.nan)
    page.untyped("thing", "Nobody knows.", 2.5)
    page.family("empty", GAUGE, "It has no samples and is not shown.")
    return page


def test_a_page_is_text() -> None:
    families = parse(page().text())
    assert {name: family.type for name, family in families.items()} == {
        "seen_total": COUNTER,
        "odd": COUNTER,
        "level": GAUGE,
        "thing": UNTYPED,
    }
    assert families["seen_total"].help == 'A "counter" with \\ and\nlines.'


def test_a_page_is_openmetrics() -> None:
    families = list(text_string_to_metric_families(page().openmetrics() + "# EOF\n"))  # type: ignore[no-untyped-call]
    assert {family.name: family.type for family in families} == {
        "seen": "counter",
        "odd": "unknown",
        "level": "gauge",
        "thing": "unknown",
    }
