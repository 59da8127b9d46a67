"""Floats print as Go prints them: the digits and exponents of `strconv.FormatFloat`."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from bellbuoy.exposition import go_decimal, go_json, go_number


def test_each_form_is_the_one_of_go() -> None:
    # value, 'f' -1, 'g' -1: as strconv printed them.
    for value, plain, shortest in (
        (0.0, "0", "0"),
        (-0.0, "-0", "-0"),
        (1.0, "1", "1"),
        (-2.5, "-2.5", "-2.5"),
        (100000.0, "100000", "100000"),
        (123456.7, "123456.7", "123456.7"),
        (999999.5, "999999.5", "999999.5"),
        (1e6, "1000000", "1e+06"),
        (1234567.0, "1234567", "1.234567e+06"),
        (123456789.125, "123456789.125", "1.23456789125e+08"),
        (1e20, "100000000000000000000", "1e+20"),
        (1e21, "1000000000000000000000", "1e+21"),
        (12345678901234567890.0, "12345678901234567000", "1.2345678901234567e+19"),
        (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
        (0.0001, "0.0001", "0.0001"),
        (0.00012345, "0.00012345", "0.00012345"),
        (0.00001, "0.00001", "1e-05"),
        (1e-7 * 3, "0.0000003", "3e-07"),
        (-2.5e-7, "-0.00000025", "-2.5e-07"),
        (1e300, "1" + "0" * 300, "1e+300"),
        (5e-324, "0." + "0" * 323 + "5", "5e-324"),
        (math.inf, "+Inf", "+Inf"),
        (-math.inf, "-Inf", "-Inf"),
        (math.nan, "NaN", "NaN"),
    ):
        assert (go_decimal(value), go_number(value)) == (plain, shortest)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.0)
def test_what_is_printed_reads_back(value: float) -> None:
    for text in (go_decimal(value), go_number(value)):
        assert float(text).hex() == value.hex()
    assert "e" not in go_decimal(value)


def test_json_has_an_exponent_for_what_is_very_small_or_large() -> None:
    for value, text in (
        (0.0, "0"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-07"),
        (-1e-10, "-1e-10"),
        (5e-324, "5e-324"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.25e300, "1.25e+300"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ):
        assert go_json(value) == text
