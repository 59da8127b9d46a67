"""Values as Go prints them, since rules were written for it: `%v` of numbers, lists and maps, and `printf`.

A verb that does not fit its value prints `%!d(float64=1.5)`, as in Go: a wrong annotation must not hide the alert.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from bellbuoy.exposition import go_number

_VERB = re.compile(r"%([-+# 0]*)(\d+)?(?:\.(\d*))?(.)", re.DOTALL)
# Widths and precisions past this are cut: nobody reads them, and they cost memory.
WIDTH_LIMIT = 1000


def format_value(value: Any) -> str:
    """Go's %v of what templates can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, float):
        return go_number(value)
    if isinstance(value, Mapping):
        if "Labels" in value and "Value" in value:
            return f"{{{format_value(value['Labels'])} {format_value(value['Value'])}}}"
        return "map[" + " ".join(f"{key}:{format_value(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(format_value(item) for item in value) + "]"
    return str(value)


def _type_name(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string"}
    return names.get(type(value), "<nil>" if value is None else "map" if isinstance(value, Mapping) else "slice")


def _one(verb: str, flags: str, precision: int | None, value: Any) -> str | None:
    """The value in this verb's form, unpadded; None when it does not fit."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb == "v":
        return format_value(value)
    if verb == "t":
        return format_value(value) if isinstance(value, bool) else None
    if verb == "s":
        if number or isinstance(value, bool) or value is None:
            return None
        text = format_value(value)
        return text if precision is None else text[:precision]
    if verb == "q":
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else None
    if verb in "dxXob" and isinstance(value, int) and not isinstance(value, bool):
        return format(value, ("+" if "+" in flags else "") + verb)
    if verb in "xX" and isinstance(value, str):
        text = value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb == "c" and isinstance(value, int) and 0 <= value < 0x110000:
        return chr(value)
    if verb in "eEfFgG" and isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return go_number(value)
        if verb in "gG" and precision is None:
            text = go_number(value)
            return text.upper() if verb == "G" else text
        return format(value, f"{'+' if '+' in flags else ''}.{6 if precision is None else precision}{verb}")
    return None


def sprintf(form: str, *values: Any) -> str:
    """Go's fmt.Sprintf for the verbs that templates use."""
    used = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal used
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if used >= len(values):
            return f"%!{verb}(MISSING)"
        value = values[used]
        used += 1
        cut = None if precision is None else min(int(precision or 0), WIDTH_LIMIT)
        text = _one(verb, flags, cut, value)
        if text is None:
            return f"%!{verb}({_type_name(value)}={format_value(value)})" if value is not None else f"%!{verb}(<nil>)"
        size = min(int(width or 0), WIDTH_LIMIT)
        if "-" in flags:
            return text.ljust(size)
        return text.zfill(size) if "0" in flags and verb in "dfFeEgGxX" else text.rjust(size)

    out = _VERB.sub(replace, form)
    if used < len(values):
        extra = ", ".join(f"{_type_name(value)}={format_value(value)}" for value in values[used:])
        out += f"%!(EXTRA {extra})"
    return out
