"""Functions that change labels or the order of series by them."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bellbuoy._core import Regex
from bellbuoy.labels import Matcher, is_legacy_label_name
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.lexer import quote
from bellbuoy.promql.nodes import Call, Expr, MatrixSelector, VectorSelector, unwrap
from bellbuoy.promql.values import METADATA, Ints, Vector, merge_equal

_RUN = re.compile(r"\d+|\D+")
# A reference of a template, or a dollar that is none and stays.
_REFERENCE = re.compile(r"(\$\$|\$\{\w+\}|\$\w+)|\$")


def check_label_name(name: str, context: str, *, nothing: str = '""') -> None:
    """Raises ExecutionError unless the name is one: any text of UTF-8 that is not empty, which shows as `nothing`."""
    if not name or any("\udc80" <= character <= "\udcff" for character in name):
        raise ExecutionError(f"invalid {context} {quote(name) if name else nothing}")


def replace_label(vector: Vector, target: str, template: str, source: str, pattern: str) -> Vector:
    """label_replace: where the pattern matches all of the source label's value, the target becomes the template."""
    try:
        regex = Regex(f"(?s:{pattern})")
    except ValueError as e:
        raise ExecutionError(f"invalid regular expression in label_replace(): {pattern}") from e
    check_label_name(target, "destination label name in label_replace():", nothing="")
    template = _REFERENCE.sub(lambda found: found[1] or "$$", template)
    sources = vector.labels.get(source)
    known: dict[str, str | None] = {}
    for value in sources:
        if value not in known:
            known[value] = regex.expand(value, template)
    matched = np.array([known[value] is not None for value in sources], np.bool_)
    if not matched.any():
        return vector
    previous = sources if target == source else vector.labels.get(target)
    texts = [known[value] for value in sources]
    values = [old if new is None else new for old, new in zip(previous, texts, strict=True)]
    drop = vector.drop_name & ~matched if target == "__name__" else vector.drop_name
    return merge_equal(replace(vector, labels=vector.labels.set(target, values), drop_name=drop))


def join_labels(vector: Vector, target: str, separator: str, sources: Sequence[str]) -> Vector:
    """label_join: the target becomes the sources' values, joined."""
    for source in sources:
        check_label_name(source, "source label name in label_join():", nothing="")
    check_label_name(target, "destination label name in label_join():", nothing="")
    columns = [vector.labels.get(source) for source in sources]
    values = [separator.join(row) for row in zip(*columns, strict=True)] if columns else [""] * len(vector.labels)
    drop = np.zeros_like(vector.drop_name) if target == "__name__" else vector.drop_name
    return merge_equal(replace(vector, labels=vector.labels.set(target, values), drop_name=drop))


def show_labels(labels: dict[str, str]) -> str:
    """The labels as errors show them, the name among them."""
    pairs = (
        f"{name if is_legacy_label_name(name) else quote(name)}={quote(value)}"
        for name, value in sorted(labels.items())
    )
    return "{" + ", ".join(pairs) + "}"


def order_by_value(vector: Vector, *, descending: bool) -> Ints:
    """The rows by their last value; NaN last either way."""
    values = vector.values[:, -1]
    return np.lexsort((np.where(np.isnan(values), 0.0, -values if descending else values), np.isnan(values)))


def order_by_labels(vector: Vector, labels: Sequence[str], *, descending: bool) -> Ints:
    """The rows by these labels' values, numbers in them by size; then by all labels."""
    ranks = np.empty(len(vector.labels), np.int64)
    ranks[vector.labels.order()] = np.arange(len(ranks))
    columns = [vector.labels.get(label) for label in labels]
    keys = [[_natural(value) for value in column] for column in columns]
    rows = sorted(range(len(ranks)), key=lambda row: ([key[row] for key in keys], int(ranks[row])), reverse=descending)
    return np.array(rows, np.int64)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which 4m5 comes before 4m600, and before 4m1000, and -1 before both."""
    return [(0, int(run), run) if run.isdecimal() else (1 if run > "9" else -1, 0, run) for run in _RUN.findall(text)]


def labels_of_absent(call: Call) -> dict[str, str]:
    """The labels absent() gives to what is not there: those that its selector pins to one value."""
    selector: Expr = unwrap(call.arguments[0])
    if isinstance(selector, MatrixSelector):
        selector = selector.selector
    if not isinstance(selector, VectorSelector):
        return {}
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in selector.matchers:
        if matcher.name in METADATA:
            continue
        if _pins(matcher) and matcher.name not in seen:
            labels[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            labels.pop(matcher.name, None)
    return {name: value for name, value in labels.items() if value}


def _pins(matcher: Matcher) -> bool:
    return matcher.operator == "="
