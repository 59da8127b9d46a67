"""Numbers as Go prints them: the shortest digits that read back to the same.

Label values such as `le="1e+06"` and the strings of JSON APIs are compared as text, so they must be spelled as there.
Of two forms each place has its own: a scalar 1e-7 of the query API is `0.0000001`, a million in a template `1e+06`.
Samples of vectors and matrices, and exemplars, have a third one, which for samples the core prints.
"""

import math
from decimal import Decimal


def go_number(value: float) -> str:
    """What Go's `%v`, `%g` and `'g', -1` write: with an exponent below 1e-4 and from a million on."""
    if not math.isfinite(value):
        return _not_finite(value)
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if value == 0 or -4 <= exponent < 6:
        return go_decimal(value)
    sign, digits, _ = exact.as_tuple()
    first, *rest = map(str, digits)
    mantissa = f"{first}.{''.join(rest)}" if rest else first
    return f"{'-' if sign else ''}{mantissa}e{exponent:+03d}"


def go_decimal(value: float) -> str:
    """What Go's `'f', -1` writes: never an exponent."""
    if not math.isfinite(value):
        return _not_finite(value)
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def go_json(value: float) -> str:
    """What Prometheus's JSON has of samples and exemplars: an exponent below 1e-6 and from 1e21 on."""
    return go_decimal(value) if value == 0 or 1e-6 <= abs(value) < 1e21 else go_number(value)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
