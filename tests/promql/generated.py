"""Queries by chance: the same seed gives the same ones.

Each is grown from the language's grammar, over the metrics of `same_data`. A vector is made together with the names of
labels that tell its series apart, so that most binary operators match as they should; some are left to chance, since
errors are compared too. What depends on more than the data is not asked: limitk takes the first series in the
storage's order, so it takes none or all here; so does topk of equal values, so its argument has hardly any.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.promql.same_data import LENGTH_SECONDS, START_MS

_DEEPEST = 3
_PLACE = frozenset({"job", "instance"})
METRICS: dict[str, frozenset[str]] = {
    "requests_total": _PLACE | {"code"},
    "cpu_seconds_total": _PLACE,
    "queue_length": _PLACE,
    "build_info": _PLACE | {"version"},
    "temperature_celsius": frozenset({"room", "floor"}),
    "flaky": frozenset({"part"}),
    "latency_seconds_bucket": frozenset({"job", "le"}),
    "latency_seconds_count": frozenset({"job"}),
    "latency_seconds_sum": frozenset({"job"}),
    '{"room.light"}': frozenset({"where is"}),
    "not_a_number": frozenset(),
    "nothing": frozenset(),
}
_COUNTERS = ("requests_total", "cpu_seconds_total", "latency_seconds_bucket", "latency_seconds_count")
_MATCHERS = {
    "job": ('job="api"', 'job!="api"', 'job=~"a.+|w.*"', 'job=~"none"'),
    "instance": ('instance="a:1"', 'instance!~"[ab]:1"', 'instance=~".*:1"', 'instance!=""'),
    "code": ('code=~"5.."', 'code="200"', 'code!~"2.*"'),
    "room": ('room=~"hall|attic"', 'room!="cellar"'),
    "floor": ('floor="0"', 'floor!~"-.*"'),
    "part": ('part!="x"', 'part=~"[xyz]"'),
    "le": ('le!="+Inf"', 'le="1"'),
    "version": ('version="1.0"',),
    "where is": ('"where is"="hall"',),
}
_MATH = (
    "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "deg", "rad", "round",
)  # fmt: skip
_CALENDAR = ("day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year")
_RATES = ("rate", "increase", "irate", "idelta", "delta", "deriv", "changes", "resets")
_OVER_TIME = (
    "avg", "count", "sum", "min", "max", "stddev", "stdvar", "last", "first", "present", "absent", "mad",
    "ts_of_first", "ts_of_last", "ts_of_max", "ts_of_min",
)  # fmt: skip
_GROUPS = ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar")
_ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
# What times are less it: small enough for their variance to be exact.
_WHOLE = START_MS // 1000
_SETS = ("and", "or", "unless")


@dataclass(frozen=True)
class Query:
    """A text, and when it is asked for; milliseconds since the epoch."""

    text: str
    start_ms: int
    end_ms: int
    step_ms: int
    """Zero: at `start_ms` alone."""
    is_cut: bool = False
    """Something of the text is missing, so it may be no query."""

    @property
    def parameters(self) -> dict[str, str]:
        """What the API takes."""
        if not self.step_ms:
            return {"query": self.text, "time": f"{self.start_ms / 1000:.3f}"}
        times = {"start": self.start_ms, "end": self.end_ms, "step": self.step_ms}
        return {"query": self.text, **{name: f"{at / 1000:.3f}" for name, at in times.items()}}


@dataclass(frozen=True)
class Vector:
    """An expression, and the labels that tell its series apart."""

    text: str
    labels: frozenset[str]


class Generator:
    """Grows queries from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._makers: tuple[tuple[int, Callable[[int], Vector]], ...] = (
            (5, self._rate), (4, self._over_time), (5, self._aggregation), (6, self._binary), (3, self._with_scalar),
            (2, self._math), (2, self._chosen), (2, self._quantile_of_buckets), (2, self._labelled), (1, self._sign),
            (1, self._set), (1, self._calendar), (1, self._absent), (1, self._sorted), (1, self._from_scalar),
            (1, self._info), (2, self._clamped), (1, self._timestamp), (1, self._values_counted),
        )  # fmt: skip

    def query(self) -> Query:
        """The next one."""
        pick = self._chance.random()
        text = self._scalar(2) if pick < 0.05 else self._vector(0).text
        is_cut = self._often(0.04)
        if is_cut:
            at = self._chance.randrange(len(text))
            text = text[:at] + text[at + self._chance.randrange(1, 4) :]
        first = START_MS + self._chance.randrange(60_000, 1000 * LENGTH_SECONDS)
        if self._chance.random() < 0.5:
            return Query(self._window(0).text if pick > 0.97 else text, first, first, 0, is_cut)
        step = self._chance.choice((7_000, 15_000, 30_000, 60_000, 90_500))
        return Query(text, first, first + step * self._chance.randrange(40), step, is_cut)

    def _one(self, *choices: str) -> str:
        return self._chance.choice(choices)

    def _often(self, share: float) -> bool:
        return self._chance.random() < share

    def _duration(self) -> str:
        return self._one("30s", "1m", "1m30s", "2m", "5m", "5m", "10m", "45s500ms", "step() + 1m", "2 * 50s", "90")

    def _moved(self) -> str:
        """An offset, or a fixed time, or both."""
        out = ""
        if self._often(0.12):
            out += f" offset {self._one('1m', '-2m', '30s', '7m', '(step() + 10s)')}"
        if self._often(0.08):
            at = f"{START_MS / 1000 + self._chance.randrange(LENGTH_SECONDS * 4) / 4}"
            out += f" @ {self._one(at, at, 'start()', 'end()')}"
        return out

    def _selector(self, *metrics: str) -> Vector:
        name = self._one(*(metrics or tuple(METRICS)))
        labels = METRICS[name]
        matchers = [self._one(*_MATCHERS[label]) for label in sorted(labels) if self._often(0.15)]
        if name.startswith("{"):
            text = "{" + ", ".join([name[1:-1], *matchers]) + "}"
        else:
            text = name + ("{" + ", ".join(matchers) + "}" if matchers else "")
        return Vector(text, labels)

    def _series(self, *metrics: str) -> Vector:
        """A selector with its modifiers."""
        found = self._selector(*metrics)
        smoothed = " smoothed" if self._often(0.04) else ""
        return Vector(found.text + smoothed + self._moved(), found.labels)

    def _window(self, depth: int, *metrics: str, extended: bool = False) -> Vector:
        if depth < _DEEPEST and self._often(0.2):
            inner = self._vector(depth + 2)
            step = self._one("", "10s", "30s", "1m", "25s")
            return Vector(f"({inner.text})[{self._one('2m', '5m', '4m30s')}:{step}]{self._moved()}", inner.labels)
        found = self._selector(*metrics)
        how = self._one(" anchored", " smoothed") if extended and self._often(0.15) else ""
        return Vector(f"{found.text}[{self._duration()}]{how}{self._moved()}", found.labels)

    def _vector(self, depth: int) -> Vector:
        if depth >= _DEEPEST or self._often(0.08):
            return self._series()
        weights = [weight for weight, _ in self._makers]
        (maker,) = self._chance.choices([maker for _, maker in self._makers], weights)
        return maker(depth)

    def _scalar(self, depth: int) -> str:
        number = self._one("2", "0.5", "-1.25", "0", "1e3", "0x1F", "Inf", "NaN", "3", "7", "1h30m")
        if depth >= _DEEPEST or self._often(0.5):
            return number
        return self._chance.choice(
            (
                lambda: f"scalar({self._vector(depth + 2).text})",
                lambda: f"scalar({self._one('sum', 'max', 'count')}({self._vector(depth + 2).text}))",
                lambda: self._one("time()", "pi()", "start()", "end()", "step()", "range()"),
                lambda: f"({self._scalar(depth + 1)} {self._one(*_ARITHMETIC)} {self._scalar(depth + 1)})",
                lambda: f"({self._scalar(depth + 1)} {self._one(*_COMPARISONS)} bool {self._scalar(depth + 1)})",
                lambda: f"-{self._scalar(depth + 1)}",
                lambda: f"{self._one('max_of', 'min_of')}({self._scalar(depth + 1)}, {self._scalar(depth + 1)})",
            )
        )()

    def _rate(self, depth: int) -> Vector:
        name = self._one(*_RATES)
        window = self._window(depth, *(_COUNTERS if self._often(0.7) else ()), extended=name not in ("irate", "idelta"))
        return Vector(f"{name}({window.text})", window.labels)

    def _over_time(self, depth: int) -> Vector:
        window = self._window(depth)
        pick = self._chance.randrange(8)
        if pick == 0:
            level = self._one("0", "0.3", "0.9", "1", "1.5", "-1", "NaN")
            return Vector(f"quantile_over_time({level}, {window.text})", window.labels)
        if pick == 1:
            return Vector(f"predict_linear({window.text}, {self._one('60', '-600', '3600')})", window.labels)
        if pick == 2:
            factors = self._one("0.5, 0.5", "0.1, 0.9", "0.8, 0.3")
            return Vector(f"double_exponential_smoothing({window.text}, {factors})", window.labels)
        name = self._one(*_OVER_TIME)
        if name.startswith("ts_"):
            return Vector(f"({name}_over_time({window.text}) - {_WHOLE})", window.labels)
        return Vector(f"{name}_over_time({window.text})", frozenset() if name == "absent" else window.labels)

    def _grouping(self, labels: frozenset[str]) -> tuple[str, frozenset[str]]:
        """A clause, and the labels that are left."""
        plain = sorted(labels)
        chosen = [label for label in plain if self._often(0.5)]
        if self._often(0.05):
            chosen.append("absent_label")
        named = ", ".join(f'"{label}"' if " " in label else label for label in chosen)
        pick = self._chance.randrange(3)
        if pick == 0:
            return "", frozenset()
        if pick == 1:
            return f" by ({named})", labels.intersection(chosen)
        return f" without ({named})", labels.difference(chosen)

    def _aggregation(self, depth: int) -> Vector:
        inner = self._vector(depth + 1)
        clause, labels = self._grouping(inner.labels)
        if self._often(0.15):
            return Vector(f"quantile{clause}({self._one('0.5', '0.95', '0', '1.1', 'NaN')}, {inner.text})", labels)
        name = self._one(*_GROUPS)
        if self._often(0.5):
            return Vector(f"{name}{clause}({inner.text})", labels)
        return Vector(f"{name}({inner.text}){clause}", labels)

    def _chosen(self, depth: int) -> Vector:
        """Some series of a vector whose values differ."""
        if self._often(0.3):
            inner = self._vector(depth + 1)
            share = self._one("0.3", "-0.5", "1", "0", "-1")
            return Vector(f"limit_ratio{self._grouping(inner.labels)[0]}({share}, {inner.text})", inner.labels)
        inner = self._selector("cpu_seconds_total", "queue_length", "requests_total")
        inner = Vector(f"deriv({inner.text}[5m]{self._moved()})", inner.labels)
        name = self._one("topk", "bottomk", "topk", "bottomk", "limitk")
        count = self._one("0", "100") if name == "limitk" else self._one("1", "2", "3", "100", "0")
        return Vector(f"{name}{self._grouping(inner.labels)[0]}({count}, {inner.text})", inner.labels)

    def _values_counted(self, depth: int) -> Vector:
        # Of what is exact: a value becomes a label to its last digit.
        inner = self._series() if depth else Vector(f"count by (job) ({self._vector(2).text})", frozenset({"job"}))
        clause, labels = self._grouping(inner.labels)
        return Vector(f'count_values{clause}("value", {inner.text})', labels | {"value"})

    def _binary(self, depth: int) -> Vector:
        left, right = self._vector(depth + 1), self._vector(depth + 1)
        if self._often(0.5):
            right = self._like(left, depth)
        operator = self._one(*_ARITHMETIC, *_COMPARISONS)
        left = self._for(operator, left)
        kind = " bool" if operator in _COMPARISONS and self._often(0.5) else ""
        shared = left.labels & right.labels
        on = f" on ({', '.join(self._quoted(shared))})"
        many, labels = "", left.labels
        if self._often(0.1):
            on = self._one(" on (job)", " on ()", " ignoring (code)", " ignoring (job, instance)", "")
            many = self._one("", " group_left ()", " group_right (job)") if on else ""
        elif left.labels == right.labels:
            on = self._one("", on, " ignoring ()")
        elif right.labels <= left.labels:
            many = " group_left ()"
            on = self._one(on, f" ignoring ({', '.join(self._quoted(left.labels - shared))})")
        elif left.labels <= right.labels:
            many, labels = " group_right ()", right.labels
        else:
            # Both sides are brought to what they share.
            names = ", ".join(self._quoted(shared))
            left, right = (Vector(f"sum by ({names}) ({one.text})", shared) for one in (left, right))
            labels = shared
        fill = ""
        if self._often(0.12):
            fill = f" {self._one('fill', 'fill_left', 'fill_right')} ({self._one('0', '-1', 'NaN', '5')})"
            many = "" if left.labels == right.labels else many
        text = f"({left.text}) {operator}{kind}{on}{many}{fill} ({right.text})"
        return Vector(text, labels)

    @staticmethod
    def _for(operation: str, operand: Vector) -> Vector:
        """Of remainders and waves of large numbers the last digit of the number decides, so these are kept small."""
        if operation not in ("%", "sin", "cos", "tan"):
            return operand
        return Vector(f"clamp({operand.text}, -1e4, 1e4)", operand.labels)

    def _like(self, left: Vector, depth: int) -> Vector:
        """A vector of the same labels, or of fewer."""
        names = sorted(name for name, labels in METRICS.items() if labels and labels <= left.labels)
        if not names:
            return self._vector(depth + 1)
        name = self._one(*names)
        if name in _COUNTERS and self._often(0.5):
            return Vector(f"rate({name}[5m])", METRICS[name])
        return self._series(name)

    @staticmethod
    def _quoted(labels: frozenset[str]) -> list[str]:
        return [f'"{label}"' if " " in label else label for label in sorted(labels)]

    def _with_scalar(self, depth: int) -> Vector:
        operator = self._one(*_ARITHMETIC, *_COMPARISONS)
        inner = self._for(operator, self._vector(depth + 1))
        kind = " bool" if operator in _COMPARISONS and self._often(0.4) else ""
        sides = [f"({inner.text})", self._scalar(depth + 1)]
        if self._often(0.3):
            sides.reverse()
        return Vector(f"{sides[0]} {operator}{kind} {sides[1]}", inner.labels)

    def _set(self, depth: int) -> Vector:
        left, right = self._vector(depth + 1), self._vector(depth + 1)
        shared = left.labels & right.labels
        on = self._one("", f" on ({', '.join(self._quoted(shared))})", f" ignoring ({self._one('job', 'code', 'le')})")
        return Vector(f"({left.text}) {self._one(*_SETS)}{on} ({right.text})", left.labels)

    def _math(self, depth: int) -> Vector:
        name = self._one(*_MATH)
        inner = self._for(name, self._vector(depth + 1))
        more = f", {self._one('0.5', '10', '0.001')}" if name == "round" and self._often(0.6) else ""
        return Vector(f"{name}({inner.text}{more})", inner.labels)

    def _clamped(self, depth: int) -> Vector:
        inner = self._vector(depth + 1)
        name = self._one("clamp_min", "clamp_max", "clamp")
        bounds = self._one("-1, 5", "5, -1", "0, Inf") if name == "clamp" else self._one("1", "-2.5", "NaN")
        return Vector(f"{name}({inner.text}, {bounds})", inner.labels)

    def _quantile_of_buckets(self, depth: int) -> Vector:
        window = self._duration()
        buckets = self._one(
            "latency_seconds_bucket", f"rate(latency_seconds_bucket[{window}])",
            f"sum by (le) (rate(latency_seconds_bucket[{window}]))", 'latency_seconds_bucket{le!="+Inf"}',
            f"increase(latency_seconds_bucket[{window}]{self._moved()})",
        )  # fmt: skip
        labels = frozenset() if "by (le)" in buckets else frozenset({"job"})
        level = self._one("0.5", "0.99", "0", "1", "-0.1", "1.2", "NaN", "0.25")
        if self._often(0.2):
            return Vector(f"histogram_fraction({self._one('0, 1', '-Inf, 0.7', '0.3, 2')}, {buckets})", labels)
        if self._often(0.2):
            return Vector(f'histogram_quantiles({buckets}, "q", {level}, 0.75)', labels | {"q"})
        return Vector(f"histogram_quantile({level}, {buckets})", labels)

    def _labelled(self, depth: int) -> Vector:
        inner = self._vector(depth + 1)
        source = self._one(*(sorted(inner.labels) or ("job",)))
        if self._often(0.4):
            more = ", ".join(f'"{label}"' for label in sorted(inner.labels)[:2] or ["job"])
            return Vector(f'label_join({inner.text}, "joined", "{self._one("-", "", "/")}", {more})', inner.labels)
        pattern, new = (
            self._one('"(.*)", "$1-x"', '"(.).*", "${1}"', '"none", "y"', '"(?P<first>[a-z]).*", "$first"'),
            "",
        )
        regex, replacement = pattern.split(", ")
        new = self._one("copy", "copy", source)
        return Vector(f'label_replace({inner.text}, "{new}", {replacement}, "{source}", {regex})', inner.labels)

    def _sign(self, depth: int) -> Vector:
        inner = self._vector(depth + 1)
        return Vector(f"{self._one('-', '+')}({inner.text})", inner.labels)

    def _calendar(self, depth: int) -> Vector:
        name = self._one(*_CALENDAR)
        if self._often(0.3):
            return Vector(f"{name}()", frozenset())
        inner = self._vector(depth + 1)
        # What is no date gives NaN here, and in Prometheus what the processor makes of it.
        dates = f"({inner.text}) * {self._one('1', '86400', '1e6')} > -1e12 < 1e12"
        return Vector(f"{name}({dates})", inner.labels)

    def _absent(self, depth: int) -> Vector:
        inner = self._selector() if self._often(0.6) else self._vector(depth + 1)
        return Vector(f"absent({inner.text})", frozenset())

    def _sorted(self, depth: int) -> Vector:
        inner = self._vector(depth + 1)
        # Sorting a constant warns, and in Prometheus does not if it sees that it is one.
        if not inner.labels or "timestamp" in inner.text:
            inner = self._series("temperature_celsius")
        if self._often(0.3):
            label = self._one(*(sorted(inner.labels) or ("job",)))
            return Vector(f'{self._one("sort_by_label", "sort_by_label_desc")}({inner.text}, "{label}")', inner.labels)
        return Vector(f"{self._one('sort', 'sort_desc')}({inner.text})", inner.labels)

    def _from_scalar(self, depth: int) -> Vector:
        return Vector(f"vector({self._scalar(depth + 1)})", frozenset())

    def _timestamp(self, depth: int) -> Vector:
        inner = self._series() if self._often(0.6) else self._vector(depth + 1)
        return Vector(f"(timestamp({inner.text}) - {_WHOLE})", inner.labels)

    def _info(self, depth: int) -> Vector:
        inner = self._series("queue_length", "cpu_seconds_total", "requests_total")
        chosen = self._one("", ', {region=~".+"}', ', {version="1.0"}', ', {__name__="build_info"}')
        return Vector(f"info({inner.text}{chosen})", inner.labels)
