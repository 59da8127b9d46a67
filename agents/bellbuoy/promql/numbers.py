"""Floats as text, in the two forms that Prometheus has beside its JSON of vectors and matrices (`_core`).

Which one it takes where is part of its API: a scalar `1e-7` is `0.0000001`, the same value in a vector is `1e-07`, and
in a template or a warning a million is `1e+06`.
"""

import math
from decimal import Decimal


def decimal_text(value: float) -> str:
    """Go's `'f', -1`: the shortest digits that read back, never an exponent."""
    if not math.isfinite(value):
        return _not_finite(value)
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def shortest_text(value: float) -> str:
    """Go's `%v` and `%g`: the shortest digits that read back, with an exponent below 1e-4 and from 1e6 on."""
    if not math.isfinite(value):
        return _not_finite(value)
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if value == 0 or -4 <= exponent < 6:
        return decimal_text(value)
    sign, digits, _ = exact.as_tuple()
    first, *rest = map(str, digits)
    mantissa = f"{first}.{''.join(rest)}" if rest else first
    return f"{'-' if sign else ''}{mantissa}e{exponent:+03d}"


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
