"""What the arithmetic of histograms means, in plain Python: a histogram is its buckets by index.

The core does the same on spans and arrays. Buckets that are empty are left out here, so results are compared compacted.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bellbuoy._core import Histogram

CUSTOM_SCHEMA = -53
Buckets = Mapping[int, float]


class IncompatibleError(Exception):
    """Exponential and custom buckets."""


@dataclass(frozen=True)
class Plain:
    schema: int
    count: float
    sum: float
    positive: Buckets
    negative: Buckets = field(default_factory=dict)
    threshold: float = 0.0
    zero: float = 0.0
    custom: tuple[float, ...] = ()
    hint: str = "unknown"

    @staticmethod
    def of(histogram: Histogram) -> "Plain":
        def side(spans: Sequence[tuple[int, int]], counts: Iterable[float]) -> Buckets:
            start, indexes = 0, list[int]()
            for offset, length in spans:
                indexes += range(start + offset, start + offset + length)
                start += offset + length
            return filled({index: float(count) for index, count in zip(indexes, counts, strict=True)})

        return Plain(
            schema=histogram.schema,
            count=histogram.count,
            sum=histogram.sum,
            positive=side(histogram.positive_spans, histogram.positive_buckets),
            negative=side(histogram.negative_spans, histogram.negative_buckets),
            threshold=histogram.zero_threshold,
            zero=histogram.zero_count,
            custom=tuple(histogram.custom_values),
            hint=histogram.counter_reset_hint,
        )

    def histogram(self, *, is_float: bool = True) -> Histogram:
        """Each bucket in a span of its own, which the core must not mind."""

        def spans(side: Buckets) -> list[tuple[int, int]]:
            indexes = sorted(side)
            return [(index - (indexes[at - 1] + 1 if at else 0), 1) for at, index in enumerate(indexes)]

        return Histogram(
            schema=self.schema,
            count=self.count,
            sum=self.sum,
            zero_threshold=self.threshold,
            zero_count=self.zero,
            positive_spans=spans(self.positive),
            positive_buckets=[self.positive[index] for index in sorted(self.positive)],
            negative_spans=spans(self.negative),
            negative_buckets=[self.negative[index] for index in sorted(self.negative)],
            custom_values=self.custom,
            counter_reset_hint=self.hint,
            is_float=is_float,
        )

    @property
    def is_custom(self) -> bool:
        return self.schema == CUSTOM_SCHEMA

    def reduced(self, schema: int) -> "Plain":
        """In a schema that is as coarse or coarser."""
        width = 2 ** (self.schema - schema)
        sides = []
        for side in (self.positive, self.negative):
            merged: dict[int, float] = {}
            for index, count in side.items():
                coarser = -(-index // width)
                merged[coarser] = merged.get(coarser, 0) + count
            sides.append(merged)
        return replace(self, schema=schema, positive=sides[0], negative=sides[1])

    def widened(self, threshold: float) -> "Plain":
        """With a zero bucket at least so wide, that ends where a bucket does."""
        inside = [i for side in (self.positive, self.negative) for i in side if bound(self.schema, i - 1) < threshold]
        wide = max([threshold, *(bound(self.schema, i) for i in inside)])
        if wide > threshold:
            return self.widened(wide)
        zero = self.zero + sum(side.get(i, 0) for side in (self.positive, self.negative) for i in set(inside))
        outside = [{i: c for i, c in side.items() if i not in inside} for side in (self.positive, self.negative)]
        return replace(self, threshold=wide, zero=zero, positive=outside[0], negative=outside[1])

    def cut_to(self, bounds: tuple[float, ...]) -> "Plain":
        """With fewer custom bounds."""
        positive: dict[int, float] = {}
        for index, count in self.positive.items():
            upper = self.custom[index] if index < len(self.custom) else math.inf
            at = sum(b < upper for b in bounds)
            positive[at] = positive.get(at, 0) + count
        return replace(self, custom=bounds, positive=positive)


def bound(schema: int, index: int) -> float:
    return float(2.0 ** (index / 2.0**schema))


def filled(side: Buckets) -> Buckets:
    return {index: count for index, count in side.items() if count}


def common(one: Plain, other: Plain) -> tuple[Plain, Plain]:
    """Both with the same buckets. Raises IncompatibleError."""
    if one.is_custom != other.is_custom:
        raise IncompatibleError
    if one.is_custom:
        bounds = tuple(b for b in one.custom if b in other.custom)
        return one.cut_to(bounds), other.cut_to(bounds)
    while one.threshold != other.threshold:
        threshold = max(one.threshold, other.threshold)
        one, other = one.widened(threshold), other.widened(threshold)
    schema = min(one.schema, other.schema)
    return one.reduced(schema), other.reduced(schema)


def combined(one: Plain, other: Plain, sign: int = 1) -> Plain:
    """The sum, or the difference. Raises IncompatibleError."""
    one, other = common(one, other)
    hints = {one.hint, other.hint}
    hint = hints.pop() if len(hints) == 1 else "gauge" if "gauge" in hints else "unknown"

    def side(mine: Buckets, theirs: Buckets) -> Buckets:
        return filled({i: mine.get(i, 0) + sign * theirs.get(i, 0) for i in mine.keys() | theirs.keys()})

    return replace(
        one,
        count=one.count + sign * other.count,
        sum=one.sum + sign * other.sum,
        zero=one.zero + sign * other.zero,
        positive=side(one.positive, other.positive),
        negative=side(one.negative, other.negative),
        hint=hint,
    )


def was_reset(current: Plain, previous: Plain) -> bool:
    if current.hint in ("reset", "not_reset"):
        return current.hint == "reset"
    if current.count < previous.count or current.is_custom != previous.is_custom:
        return True
    if not current.is_custom and (current.schema > previous.schema or current.threshold < previous.threshold):
        return True
    before, now = common(previous, current)
    if now.threshold != current.threshold or now.zero < before.zero:
        return True
    sides = ((before.positive, now.positive), (before.negative, now.negative))
    return any(new.get(i, 0) < count for old, new in sides for i, count in old.items())


def growth(window: Sequence[Plain]) -> Plain:
    """How much a counter grew. Raises IncompatibleError."""
    first, *rest = window
    if was_reset(rest[0], first):
        first = Plain(rest[0].schema, 0, 0, {}, custom=rest[0].custom)
    schemas = [one.schema for one in (first, *rest)]
    if CUSTOM_SCHEMA in schemas and set(schemas) != {CUSTOM_SCHEMA}:
        raise IncompatibleError
    last = rest[-1] if rest[-1].is_custom else rest[-1].reduced(min(schemas))
    result = combined(last, first, -1)
    for previous, current in zip((first, *rest), rest, strict=False):
        if was_reset(current, previous):
            result = combined(result, previous)
    return replace(result, hint="gauge")


def below(histogram: Histogram, value: float) -> float:
    """How many observations are below a value, spread within buckets as they are taken to be."""
    total = 0.0
    one_sided = {(True, False): (0, 1), (False, True): (-1, 0)}
    has = (len(histogram.positive_buckets) > 0, len(histogram.negative_buckets) > 0)
    for lower, upper, _, _, count in histogram.buckets():
        is_linear = histogram.schema == CUSTOM_SCHEMA or lower <= 0 <= upper
        if histogram.schema == CUSTOM_SCHEMA:
            lower = 0.0 if lower == -math.inf and upper > 0 else lower
        elif is_linear and has in one_sided:
            lower, upper = (bound * histogram.zero_threshold for bound in one_sided[has])
        if value >= upper:
            total += count
        elif value > lower:
            if lower == -math.inf:
                total += count
            elif is_linear:
                total += count * (value - lower) / (upper - lower)
            else:
                logs = [math.log2(abs(v)) for v in (lower, value, upper)]
                total += count * (logs[1] - logs[0]) / (logs[2] - logs[0])
    return total
