"""Numbers as Go prints them: the shortest digits that read back to the same, with an exponent from a million on.

Label values such as `le="1e+06"` and the strings of JSON APIs are compared as text, so they must be spelled as there.
"""

import math


def go_number(value: float) -> str:
    """What Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")
    if value == 0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    for precision in range(17):
        text = f"{value:.{precision}e}"
        if float(text) == value:
            break
    digits, _, exponent_text = text.partition("e")
    exponent = int(exponent_text)
    if -4 <= exponent < 6:
        decimals = len(digits.partition(".")[2])
        return f"{value:.{max(0, decimals - exponent)}f}"
    return f"{digits}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
