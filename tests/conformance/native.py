"""Native histograms as the test language writes them: `{{schema:0 sum:5 count:4 buckets:[1 2 1]}}`.

They are held here plainly, buckets by their index: what is loaded becomes the core's, what is expected is compared
with the core's, and may be what no storage takes, such as negative counts.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bellbuoy._core import Histogram

HINTS = ("unknown", "reset", "not_reset", "gauge")
CUSTOM = -53
_FIELD = re.compile(r"([a-z_]+):(\[[^\]]*\]|\S+)")

Buckets = tuple[tuple[int, float], ...]


class NativeError(ValueError):
    """What is no native histogram."""


@dataclass(frozen=True)
class Native:
    """A histogram; `has_hint` says that its hint was written, and is to be compared."""

    schema: int = 0
    count: float = 0.0
    sum: float = 0.0
    zero: float = 0.0
    zero_threshold: float = 0.0
    positive: Buckets = ()
    negative: Buckets = ()
    custom: tuple[float, ...] = ()
    hint: str = "unknown"
    has_hint: bool = False

    @staticmethod
    def read(text: str) -> "Native":
        """The histogram of the text between `{{` and `}}`."""
        fields = dict(_FIELD.findall(text))
        if _FIELD.sub("", text).strip():
            raise NativeError(f"no histogram: {text}")

        def numbers(name: str) -> list[float]:
            return [number(part) for part in fields.get(name, "[]").strip("[]").split()]

        def buckets(name: str, offset: str) -> Buckets:
            return tuple(enumerate(numbers(name), int(fields.get(offset, "0"))))

        return Native(
            schema=int(fields.get("schema", "0")),
            count=number(fields.get("count", "0")),
            sum=number(fields.get("sum", "0")),
            zero=number(fields.get("z_bucket", "0")),
            zero_threshold=number(fields.get("z_bucket_w", "0")),
            positive=buckets("buckets", "offset"),
            negative=buckets("n_buckets", "n_offset"),
            custom=tuple(numbers("custom_values")),
            hint=fields.get("counter_reset_hint", "unknown"),
            has_hint="counter_reset_hint" in fields,
        )

    @staticmethod
    def of(histogram: Histogram) -> "Native":
        """The core's, without empty buckets."""

        def buckets(spans: list[tuple[int, int]], counts: list[float]) -> Buckets:
            found, index, position = [], 0, 0
            for offset, length in spans:
                index += offset
                for _ in range(length):
                    if counts[position] != 0:
                        found.append((index, counts[position]))
                    index, position = index + 1, position + 1
            return tuple(found)

        return Native(
            schema=histogram.schema,
            count=histogram.count,
            sum=histogram.sum,
            zero=histogram.zero_count,
            zero_threshold=histogram.zero_threshold,
            positive=buckets(histogram.positive_spans, histogram.positive_buckets.tolist()),
            negative=buckets(histogram.negative_spans, histogram.negative_buckets.tolist()),
            custom=tuple(histogram.custom_values.tolist()),
            hint=histogram.counter_reset_hint,
        )

    def to_core(self) -> Histogram:
        """The core's, as it is stored."""
        positive, positive_buckets = _spans(self.positive)
        negative, negative_buckets = _spans(self.negative)
        return Histogram(
            schema=self.schema,
            count=self.count,
            sum=self.sum,
            zero_threshold=self.zero_threshold,
            zero_count=self.zero,
            positive_spans=positive,
            positive_buckets=positive_buckets,
            negative_spans=negative,
            negative_buckets=negative_buckets,
            custom_values=self.custom,
            counter_reset_hint=self.hint,
            is_float=True,
        )

    def plus(self, other: "Native", sign: int) -> "Native":
        """The sum, or with sign -1 the difference: the next one of a sequence."""
        if self.schema > other.schema or (self.schema == CUSTOM) != (other.schema == CUSTOM):
            raise NativeError(f"cannot add schema {other.schema} to {self.schema}")
        other = other.reduced(self.schema)
        hints = {self.hint, other.hint}
        hint = self.hint if len(hints) == 1 else "gauge" if "gauge" in hints else "unknown"
        return replace(
            self,
            count=self.count + sign * other.count,
            sum=self.sum + sign * other.sum,
            zero=self.zero + sign * other.zero,
            zero_threshold=max(self.zero_threshold, other.zero_threshold),
            positive=_sum(self.positive, other.positive, sign),
            negative=_sum(self.negative, other.negative, sign),
            hint=hint,
            has_hint=other.has_hint,
        )

    def reduced(self, schema: int) -> "Native":
        """The same in a coarser schema."""
        shift = self.schema - schema
        if shift == 0:
            return self

        def side(buckets: Buckets) -> Buckets:
            return _sum(tuple((((index - 1) >> shift) + 1, count) for index, count in buckets), (), 1)

        return replace(self, schema=schema, positive=side(self.positive), negative=side(self.negative))

    def continues(self, before: "Native") -> bool:
        """Whether Prometheus would store it behind the one before, in one chunk: the counter goes on."""
        if self.hint == "gauge" or before.hint == "gauge" or self.hint == "reset":
            return False
        same = ("schema", "zero_threshold", "custom")
        if any(getattr(self, name) != getattr(before, name) for name in same):
            return False
        if self.count < before.count or self.zero < before.zero:
            return False
        return all(
            dict(getattr(self, side)).get(index, 0.0) >= count
            for side in ("positive", "negative")
            for index, count in getattr(before, side)
            if count
        )


def number(text: str) -> float:
    """A number of Go: decimal, hexadecimal, infinite or none."""
    if text[0] in "+-":
        return number(text[1:]) * (-1.0 if text[0] == "-" else 1.0)
    try:
        return float(int(text, 0))
    except ValueError:
        return float.fromhex(text) if "0x" in text.lower() else float(text)


def _spans(buckets: Buckets) -> tuple[list[tuple[int, int]], list[float]]:
    spans: list[tuple[int, int]] = []
    end = 0
    for index, _ in buckets:
        if spans and index == end:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
        else:
            spans.append((index - end, 1))
        end = index + 1
    return spans, [count for _, count in buckets]


def _sum(left: Buckets, right: Buckets, sign: int) -> Buckets:
    counts: dict[int, float] = {}
    for index, count in left:
        counts[index] = counts.get(index, 0.0) + count
    for index, count in right:
        counts[index] = counts.get(index, 0.0) + sign * count
    return tuple(sorted(counts.items()))


def from_classic(buckets: dict[float, float], count: float | None, total: float) -> Native:
    """The histogram with custom buckets that classic ones are: counts up to each bound."""
    bounds = sorted(buckets)
    if count is None:
        count = buckets[bounds[-1]]
    if not bounds or bounds[-1] != float("inf"):
        buckets = buckets | {float("inf"): count}
        bounds.append(float("inf"))
    counts = [buckets[bound] for bound in bounds]
    own = [after - before for before, after in zip([0.0, *counts], counts, strict=False)]
    return Native(
        schema=CUSTOM,
        count=count,
        sum=total,
        positive=tuple((index, value) for index, value in enumerate(own) if value),
        custom=tuple(bounds[:-1]),
    )


def natives_of_classics(
    series: Iterable[tuple[dict[str, str], list[Any], Any]],
) -> Iterator[tuple[dict[str, str], dict[int, Native]]]:
    """Classic histograms among the series, as native ones: their labels, and samples by position."""
    parts: dict[tuple[tuple[str, str], ...], dict[int, dict[float | str, float]]] = {}
    for labels, values, _ in series:
        base, _, suffix = labels.get("__name__", "").rpartition("_")
        if suffix not in ("bucket", "count", "sum"):
            continue
        key: float | str = suffix
        if suffix == "bucket":
            key = float(labels["le"])
        bare = {name: value for name, value in labels.items() if name != "le"} | {"__name__": base}
        points = parts.setdefault(tuple(sorted(bare.items())), {})
        for position, value in enumerate(values):
            if isinstance(value, float):
                points.setdefault(position, {})[key] = value
    for labels_key, points in parts.items():
        samples = {}
        for position in sorted(points):
            point = points[position]
            buckets = {bound: count for bound, count in point.items() if isinstance(bound, float)}
            samples[position] = from_classic(buckets, point.get("count"), point.get("sum", 0.0))
        yield dict(labels_key), samples
