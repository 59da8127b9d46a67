"""The text formats, in Python: a page of metrics as it is printed, and the parser of what people push or put in files.

The server does not use it: what it scrapes is parsed by the core, a thousand times faster.
"""

from bellbuoy.exposition.numbers import go_decimal, go_json, go_number
from bellbuoy.exposition.page import COUNTER, GAUGE, UNTYPED, Family, Page, Value, escape, labels, number, series
from bellbuoy.exposition.respond import respond
from bellbuoy.exposition.text import ParsedFamily, ParseError, Sample, parse

__all__ = [
    "COUNTER",
    "GAUGE",
    "UNTYPED",
    "Family",
    "Page",
    "ParseError",
    "ParsedFamily",
    "Sample",
    "Value",
    "escape",
    "go_decimal",
    "go_json",
    "go_number",
    "labels",
    "number",
    "parse",
    "respond",
    "series",
]
