"""Series as unit tests of rules write them: `up{job="a"} 1 0+2x3 _ _x2 stale {{schema:0 count:3 buckets:[1 2]}}`.

The notation is Prometheus's: `a+bxn` is a, then n more, each b larger; `axn` is a and n more of it; `_` is a time
without a sample, `stale` a stale marker; native histograms stand in double braces and may be added up in the same way.
Text goes in, label sets and values come out, and a histogram goes back to its text to be compared.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from bellbuoy import promql
from bellbuoy.exposition import go_number
from bellbuoy.labels import NAME
from bellbuoy.tsdb import Histogram

# Values of one series: a year of them, one a minute, is half of it.
VALUES_LIMIT = 1_000_000
_ITEM = re.compile(r"\{\{.*?\}\}(?:[+-]\{\{.*?\}\})?(?:x\d+)?|\S+", re.DOTALL)
_NUMBER = r"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[iI]nf|[nN]a[nN])"
_SEQUENCE = re.compile(rf"([+-]?{_NUMBER})(?:([+-]{_NUMBER})?x(\d+))?")
_HISTOGRAMS = re.compile(r"\{\{(.*?)\}\}(?:([+-])\{\{(.*?)\}\})?(?:x(\d+))?", re.DOTALL)
_FIELD = re.compile(r"(\w+):(\[[^\]]*\]|\S+)\s*")


class SeriesTextError(ValueError):
    """A text that is no series; it says what cannot be read, and how to write it."""


class Stale:
    """A stale marker."""


STALE = Stale()
Value: TypeAlias = float | Histogram | Stale | None


def read_series(text: str) -> tuple[dict[str, str], list[Value]]:
    """Labels and values of a whole line."""
    end = _end_of_labels(text)
    return read_labels(text[:end]), read_values(text[end:])


def _end_of_labels(text: str) -> int:
    """Where the braces of the labels end, or the name, if there are none."""
    found, depth, quote = re.match(r"\s*[^\s{]*", text), 0, ""
    at = found.end() if found else 0
    if not text[at:].startswith("{") or text[at:].startswith("{{"):
        return at
    while at < len(text):
        one = text[at]
        if quote:
            at += one == "\\" and quote != "`"
            quote = "" if one == quote else quote
        elif one in "\"'`":
            quote = one
        else:
            depth += (one == "{") - (one == "}")
            if depth == 0:
                return at + 1
        at += 1
    return len(text)


def read_labels(text: str) -> dict[str, str]:
    """The labels of `name{a="b"}`; none of an empty text."""
    if not text.strip() or re.fullmatch(r"\s*\{\s*\}\s*", text):
        return {}
    try:
        tree = promql.parse(text)
    except promql.QueryError as e:
        # One that matches nothing but the empty text is fine here, and not in a query.
        raise SeriesTextError(f"cannot read series {text.strip()!r}: {e}") from e
    plain = isinstance(tree, promql.VectorSelector) and tree.offset is None and tree.at is None
    if not isinstance(tree, promql.VectorSelector) or not plain or any(one.operator != "=" for one in tree.matchers):
        raise SeriesTextError(f'cannot read series {text.strip()!r}: write it as name{{label="value"}}')
    labels = {one.name: one.value for one in tree.matchers if one.value}
    return labels | ({NAME: tree.name} if tree.name else {})


def read_values(text: str) -> list[Value]:
    """The values of a sequence."""
    out: list[Value] = []
    for item in _ITEM.findall(text):
        if item.startswith("{{"):
            out += _histogram_items(item)
        elif blank := re.fullmatch(r"_(?:x(\d+))?", item):
            out += [None] * _bounded(int(blank[1]) if blank[1] else 1, item)
        elif stale := re.fullmatch(r"stale(?:x(\d+))?", item):
            out += [STALE] * (_bounded(int(stale[1]), item) + 1 if stale[1] else 1)
        else:
            out += _number_items(item)
        if len(out) > VALUES_LIMIT:
            raise SeriesTextError(f"more than {VALUES_LIMIT} values in one series; write fewer")
    return out


def _bounded(count: int, item: str) -> int:
    if count > VALUES_LIMIT:
        raise SeriesTextError(f"{item!r} has more than {VALUES_LIMIT} values; write fewer")
    return count


def _number_items(item: str) -> list[Value]:
    match = _SEQUENCE.fullmatch(item)
    if match is None:
        raise SeriesTextError(f"cannot read value {item!r}: write a number, _, stale, 1+2x3, 1x3 or {{{{…}}}}")
    first, step, times = match.groups()
    value, change = float(first), float(step) if step else 0.0
    out: list[Value] = [value]
    for _ in range(_bounded(int(times or 0), item)):
        value = value + change if step else value
        out.append(value)
    return out


def _histogram_items(item: str) -> list[Value]:
    match = _HISTOGRAMS.fullmatch(item)
    if match is None or (match[2] and not match[4]):
        raise SeriesTextError(
            f"cannot read histogram {item!r}: write it as {{{{schema:0 count:3 sum:4 buckets:[1 2]}}}}"
        )
    histogram = read_histogram(match[1])
    out: list[Value] = [histogram]
    change = read_histogram(match[3]) if match[2] else None
    for _ in range(_bounded(int(match[4] or 0), item)):
        if change is not None:
            histogram = _added(histogram, change, -1.0 if match[2] == "-" else 1.0)
        out.append(histogram)
    return out


def read_histogram(text: str) -> Histogram:
    """The histogram of what stands between double braces."""
    fields: dict[str, str] = {}
    at = len(text) - len(text.lstrip())
    while at < len(text):
        match = _FIELD.match(text, at)
        if match is None:
            raise SeriesTextError(f"cannot read histogram {text!r}: write name:value pairs, such as count:3")
        fields[match[1].lower()] = match[2]
        at = match.end()

    def numbers(name: str) -> list[float]:
        return [float(one) for one in fields.pop(name, "").strip("[]").split()]

    def number(name: str) -> float:
        return float(fields.pop(name, "0"))

    try:
        positive, negative = numbers("buckets"), numbers("n_buckets")
        offsets = int(fields.pop("offset", "0")), int(fields.pop("n_offset", "0"))
        hint = fields.pop("counter_reset_hint", "unknown")
        histogram = Histogram(
            schema=int(fields.pop("schema", "0")),
            count=number("count"),
            sum=number("sum"),
            zero_threshold=number("z_bucket_w"),
            zero_count=number("z_bucket"),
            positive_spans=[(offsets[0], len(positive))] if positive else [],
            positive_buckets=positive,
            negative_spans=[(offsets[1], len(negative))] if negative else [],
            negative_buckets=negative,
            custom_values=numbers("custom_values"),
            counter_reset_hint=hint,
            is_float=True,
        )
    except ValueError as e:
        raise SeriesTextError(f"cannot read histogram {text!r}: {e}") from e
    if fields:
        raise SeriesTextError(f"cannot read histogram {text!r}: it has no field {', '.join(sorted(fields))}")
    return histogram


def _buckets(spans: Sequence[tuple[int, int]], counts: Sequence[float]) -> dict[int, float]:
    out: dict[int, float] = {}
    at = 0
    left = iter(counts)
    for offset, length in spans:
        at += offset
        for _ in range(length):
            out[at] = next(left)
            at += 1
    return out


def _sides(histogram: Histogram) -> tuple[dict[int, float], dict[int, float]]:
    """Positive and negative buckets."""
    positive = _buckets(histogram.positive_spans, histogram.positive_buckets.tolist())
    return positive, _buckets(histogram.negative_spans, histogram.negative_buckets.tolist())


def _spans(buckets: Mapping[int, float]) -> tuple[int, list[float]]:
    """The first bucket that is not empty, and all up to the last one."""
    full = [at for at, count in buckets.items() if count]
    if not full:
        return 0, []
    return min(full), [buckets.get(at, 0.0) for at in range(min(full), max(full) + 1)]


def _added(a: Histogram, b: Histogram, factor: float) -> Histogram:
    same = (a.schema, a.zero_threshold, a.custom_values.tolist())
    if same != (b.schema, b.zero_threshold, b.custom_values.tolist()):
        raise SeriesTextError("histograms of a sequence must have the same schema, z_bucket_w and custom_values")
    sides: list[tuple[int, list[float]]] = []
    for one, other in zip(_sides(a), _sides(b), strict=True):
        sides.append(_spans({at: one.get(at, 0.0) + factor * other.get(at, 0.0) for at in {*one, *other}}))
    (first, positive), (n_first, negative) = sides
    return Histogram(
        schema=a.schema,
        count=a.count + factor * b.count,
        sum=a.sum + factor * b.sum,
        zero_threshold=a.zero_threshold,
        zero_count=a.zero_count + factor * b.zero_count,
        positive_spans=[(first, len(positive))] if positive else [],
        positive_buckets=positive,
        negative_spans=[(n_first, len(negative))] if negative else [],
        negative_buckets=negative,
        custom_values=a.custom_values.tolist(),
        counter_reset_hint=a.counter_reset_hint,
        is_float=True,
    )


def with_hints(values: Sequence[Value]) -> list[Value]:
    """The values as a storage gives them back: a histogram that follows another one says whether there was a reset."""
    out: list[Value] = []
    last: Histogram | None = None
    for value in values:
        if isinstance(value, Histogram):
            known = value.counter_reset_hint != "unknown"
            out.append(
                value if last is None or known else _hinted(value, "reset" if _is_reset(last, value) else "not_reset")
            )
            last = value
        else:
            out.append(value)
            last = last if value is None else None
    return out


def _is_reset(last: Histogram, now: Histogram) -> bool:
    if (last.schema, last.zero_threshold) != (now.schema, now.zero_threshold) or now.count < last.count:
        return True
    for before, after in zip(_sides(last), _sides(now), strict=True):
        if any(count > after.get(at, 0.0) for at, count in before.items()):
            return True
    return now.zero_count < last.zero_count or last.custom_values.tolist() != now.custom_values.tolist()


def _hinted(histogram: Histogram, hint: str) -> Histogram:
    return Histogram(
        schema=histogram.schema,
        count=histogram.count,
        sum=histogram.sum,
        zero_threshold=histogram.zero_threshold,
        zero_count=histogram.zero_count,
        positive_spans=histogram.positive_spans,
        positive_buckets=histogram.positive_buckets.tolist(),
        negative_spans=histogram.negative_spans,
        negative_buckets=histogram.negative_buckets.tolist(),
        custom_values=histogram.custom_values.tolist(),
        counter_reset_hint=hint,
        is_float=True,
    )


def histogram_text(histogram: Histogram) -> str:
    """The histogram as a test would write it; equal texts are equal histograms."""
    parts = []
    if histogram.schema:
        parts.append(f"schema:{histogram.schema}")
    for name, value in (
        ("count", histogram.count), ("sum", histogram.sum), ("z_bucket", histogram.zero_count),
        ("z_bucket_w", histogram.zero_threshold),
    ):  # fmt: skip
        if value or math.isnan(value):
            parts.append(f"{name}:{go_number(value)}")
    if histogram.custom_values.size:
        parts.append(f"custom_values:[{' '.join(map(go_number, histogram.custom_values.tolist()))}]")
    if histogram.counter_reset_hint != "unknown":
        parts.append(f"counter_reset_hint:{histogram.counter_reset_hint}")
    for prefix, spans, counts in (
        ("", histogram.positive_spans, histogram.positive_buckets),
        ("n_", histogram.negative_spans, histogram.negative_buckets),
    ):
        first, full = _spans(_buckets(spans, counts.tolist()))
        if full:
            parts += [f"{prefix}offset:{first}"] if first else []
            parts.append(f"{prefix}buckets:[{' '.join(map(go_number, full))}]")
    return "{{" + " ".join(parts) + "}}"
