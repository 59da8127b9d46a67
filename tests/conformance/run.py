"""Runs the conformance cases and says how many pass: `python -m tests.conformance.run [-v] [file …]`.

Each instant eval is also run with `@` on its selectors at five other times, and as the middle of a range query, as
Prometheus's own runner does. `float` counts the cases that touch no native histogram.
"""

import argparse
import math
import re
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from bellbuoy.labels import Matcher
from bellbuoy.promql import Engine, EngineOptions, Queryable, QueryError, QueryResult, format_expr, parse
from bellbuoy.promql.nodes import (
    Aggregate,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    Paren,
    Subquery,
    Unary,
    VectorSelector,
    walk,
)
from tests.conformance.language import STALE_BITS, Clear, Eval, Labels, Load, Mark, Value, read
from tests.conformance.storage import CoreStorage, MemoryStorage

CASES = Path(__file__).parent / "promqltest"
OPTIONS = EngineOptions(max_samples=10_000)
STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
_UNSAFE = frozenset(
    {"day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"}
    | {"predict_linear", "time", "timestamp", "start", "end", "range", "step"}
)
_EDGES = re.compile(r"\b(?:start|end|range|step)\(\)", re.IGNORECASE)


Key: TypeAlias = tuple[tuple[str, str], ...]
Points: TypeAlias = dict[Key, dict[int, float]]


class Store(Queryable, Protocol):
    """What cases are loaded into."""

    def append(self, labels: dict[str, str], samples: Sequence[tuple[int, float]]) -> None: ...
    def clear(self) -> None: ...


class Mismatch(Exception):
    """A result that is not the expected one."""


@dataclass
class Tally:
    """How the cases of one file did."""

    evals: int = 0
    passed: int = 0
    float_evals: int = 0
    float_passed: int = 0
    failures: list[str] = field(default_factory=list)

    def __add__(self, other: "Tally") -> "Tally":
        numbers = ("evals", "passed", "float_evals", "float_passed")
        sums = {name: getattr(self, name) + getattr(other, name) for name in numbers}
        return Tally(**sums, failures=self.failures + other.failures)


class Runner:
    """Runs the commands of one file in order on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = Engine(store, OPTIONS)
        self.native: list[Labels] = []

    def run(self, path: Path) -> Tally:
        """How the file's evals do."""
        tally = Tally()
        for command in read(path):
            match command:
                case Clear():
                    self.clear()
                case Load():
                    self.load(command)
                case Eval():
                    error = self.attempt(command)
                    is_float = not self.touches_native(command)
                    tally += Tally(1, error is None, is_float, is_float and error is None)
                    if error is not None:
                        mark = "" if is_float else " (native)"
                        tally.failures.append(f"{path.name}:{command.line}{mark}: {command.query}\n    {error}")
        return tally

    def clear(self) -> None:
        """Forget what was loaded."""
        self.store.clear()
        self.native.clear()

    def load(self, command: Load) -> None:
        """Append the series' float samples; remember which series have native histograms."""
        series = {_key(labels): (labels, values) for labels, values in command.series}  # of equal ones the last counts
        for labels, values in series.values():
            if any(value is Mark.NATIVE for value in values):
                self.native.append(labels)
            name = labels.get("__name__", "")
            if command.with_native_buckets and name.endswith(("_bucket", "_count", "_sum")):
                base = name.rsplit("_", 1)[0]
                self.native.append({key: value for key, value in labels.items() if key != "le"} | {"__name__": base})
            self.store.append(labels, list(_samples(values, command.interval_ms)))

    def touches_native(self, case: Eval) -> bool:
        """Whether native histograms are selected or expected."""
        if any(value is Mark.NATIVE for _, values in case.series for value in values):
            return True
        try:
            expr = parse(case.query)
        except QueryError:
            return False
        for node in walk(expr):
            if isinstance(node, VectorSelector):
                matchers = [Matcher(*matcher) for matcher in node.all_matchers]
                if any(all(matcher.matches(labels) for matcher in matchers) for labels in self.native):
                    return True
        return False

    def attempt(self, case: Eval) -> str | None:
        """What is wrong with the result, if anything."""
        try:
            if case.is_range:
                self.check(case, lambda: self.engine.range(case.query, case.start_ms, case.end_ms, case.step_ms))
            else:
                self.check(case, lambda: self.engine.instant(case.query, case.start_ms))
                self.variants(case)
        except Mismatch as e:
            return str(e)
        except Exception as e:  # noqa: BLE001 - a crash is one case's failure, and is shown with it
            return f"crash: {type(e).__name__}: {e}"
        return None

    def check(self, case: Eval, ask: Callable[[], QueryResult]) -> None:
        """Raises Mismatch unless the answer is the expected one, with its annotations."""
        try:
            result = ask()
        except QueryError as e:
            _check_failure(case, e)
            return
        if case.expects("fail"):
            raise Mismatch("expected to fail")
        for kind, found in (("warn", result.warnings), ("info", result.infos)):
            _check_annotations(case, kind, found)
        if case.is_range:
            _check_matrix(case, result)
        else:
            _check_instant(case, result)

    def variants(self, case: Eval) -> None:
        """The same at other times with @, and as the middle of a range query."""
        if case.expects("fail"):
            return
        expr = parse(case.query)
        calls = {node.function for node in walk(expr) if isinstance(node, Call)}
        at = case.start_ms
        if not calls & _UNSAFE:
            query = format_expr(_pinned(expr, at / 1000))
            for time in (-10 * at, 0, at // 5, at, 10 * at) if at else (-1000, 0, 1000):
                try:
                    _check_instant(case, self.engine.instant(query, time))
                except QueryError as e:
                    raise Mismatch(f"as {query} at {time}: {e}") from e
                except Mismatch as e:
                    raise Mismatch(f"as {query} at {time}: {e}") from e
        no_range = case.expects("ordered") or case.text is not None or case.range_vector or expr.type == "matrix"
        if no_range or expr.type == "string" or _EDGES.search(case.query):
            return
        try:
            result = self.engine.range(case.query, at - 60_000, at + 60_000, 60_000)
        except QueryError as e:
            raise Mismatch(f"as a range query: {e}") from e
        middle = replace(result, values=result.values[:, 1:2], present=result.present[:, 1:2], times=result.times[1:2])
        there = middle.present[:, 0]
        rows = np.flatnonzero(there)
        middle = replace(
            middle, labels=middle.labels.take(rows), values=middle.values[rows], present=middle.present[rows]
        )
        try:
            _check_instant(case, middle)
        except Mismatch as e:
            raise Mismatch(f"as a range query: {e}") from e


def _samples(values: list[Value], interval_ms: int) -> Iterator[tuple[int, float]]:
    for position, value in enumerate(values):
        if value is Mark.STALE:
            yield position * interval_ms, STALE
        elif isinstance(value, float):
            yield position * interval_ms, value


def _check_failure(case: Eval, error: QueryError) -> None:
    wanted = case.expects("fail")
    if not wanted:
        raise Mismatch(f"failed: {error}")
    for expectation in wanted:
        if not expectation.matches(str(error)):
            raise Mismatch(f"failed with {error}, expected {expectation.text or expectation.pattern}")


def _check_annotations(case: Eval, kind: str, found: list[str]) -> None:
    if case.expects(f"no_{kind}") and found:
        raise Mismatch(f"unexpected {kind}: {found}")
    wanted = case.expects(kind)
    for expectation in wanted:
        if not any(expectation.matches(message) for message in found):
            raise Mismatch(f"expected {kind} {expectation.text or expectation.pattern or ''}, got {found}")
    for message in found:
        if wanted and not any(expectation.matches(message) for expectation in wanted):
            raise Mismatch(f"unexpected {kind}: {message}")


def _key(labels: Labels) -> Key:
    return tuple(sorted(labels.items()))


def _check_instant(case: Eval, result: QueryResult) -> None:
    if case.text is not None:
        if result.text != case.text:
            raise Mismatch(f"got string {result.text!r}, expected {case.text!r}")
        return
    if case.range_vector is not None:
        _check_range_vector(case, result)
        return
    if case.scalar is not None:
        values = [value for _, _, value in result.samples()]
        if len(values) != 1 or not _equal(values[0], case.scalar):
            raise Mismatch(f"got {values}, expected {case.scalar}")
        return
    found = [(_key(labels), value) for labels, _, value in result.samples()]
    wanted = [(_key(labels), values[0] if values else None) for labels, values in case.series]
    _check_keys([key for key, _ in found], [key for key, _ in wanted], ordered=bool(case.expects("ordered")))
    actual = dict(found)
    for key, value in wanted:
        if not _equal(actual[key], value):
            raise Mismatch(f"{dict(key)}: got {actual[key]!r}, expected {value!r}")


def _check_keys(found: list[Key], wanted: list[Key], *, ordered: bool) -> None:
    for key in found:
        if key not in wanted:
            raise Mismatch(f"unexpected series {dict(key)}")
    for key in wanted:
        if key not in found:
            raise Mismatch(f"missing series {dict(key)}")
    if len(found) != len(wanted) or (ordered and found != wanted):
        raise Mismatch(f"order: got {[dict(key) for key in found]}")


def _check_matrix(case: Eval, result: QueryResult) -> None:
    found: Points = {}
    for labels, time, value in result.samples():
        found.setdefault(_key(labels), {})[time] = value
    _compare_points(case, found, case.start_ms, case.step_ms)
    names = [tuple(sorted(labels.items())) for labels in result.labels.to_dicts()]
    if names != sorted(names):
        raise Mismatch("series are not sorted by their labels")


def _check_range_vector(case: Eval, result: QueryResult) -> None:
    found: Points = {}
    for labels, time, value in result.samples():
        found.setdefault(_key(labels), {})[time] = value
    start, _, step = case.range_vector or (0, 0, 1)
    _compare_points(case, found, start, step)


def _compare_points(
    case: Eval, found: dict[tuple[tuple[str, str], ...], dict[int, float]], start: int, step: int
) -> None:
    wanted = {
        _key(labels): {start + step * place: value for place, value in enumerate(values) if value is not None}
        for labels, values in case.series
    }
    wanted = {key: points for key, points in wanted.items() if points}
    _check_keys(list(found), list(wanted), ordered=False)
    for key, points in wanted.items():
        if found[key].keys() != points.keys():
            raise Mismatch(f"{dict(key)}: got samples at {sorted(found[key])}, expected {sorted(points)}")
        for time, value in points.items():
            if not _equal(found[key][time], value):
                raise Mismatch(f"{dict(key)} at {time}: got {found[key][time]!r}, expected {value!r}")


def _equal(found: float, wanted: Value) -> bool:
    if wanted is Mark.STALE:
        return struct.pack("<d", found) == struct.pack("<d", STALE)
    if not isinstance(wanted, float):
        return False
    if math.isnan(found) or math.isnan(wanted):
        return math.isnan(found) and math.isnan(wanted)
    if found == wanted:
        return True
    total, difference = abs(found) + abs(wanted), abs(found - wanted)
    if found == 0 or wanted == 0 or total < sys.float_info.min:
        return difference < 1e-6 * sys.float_info.min
    return difference / min(total, sys.float_info.max) < 1e-6


def _pinned(expr: Expr, at: float) -> Expr:
    """The expression with `@ at` on every selector that has none, outermost subqueries first."""
    match expr:
        case VectorSelector():
            return replace(expr, at=at if expr.at is None or isinstance(expr.at, str) else expr.at)
        case Subquery():
            return replace(expr, at=at if expr.at is None or isinstance(expr.at, str) else expr.at)
        case MatrixSelector():
            pinned = _pinned(expr.selector, at)
            return replace(expr, selector=pinned) if isinstance(pinned, VectorSelector) else expr
        case Call():
            return replace(expr, arguments=tuple(_pinned(argument, at) for argument in expr.arguments))
        case Aggregate():
            parameter = None if expr.parameter is None else _pinned(expr.parameter, at)
            return replace(expr, expr=_pinned(expr.expr, at), parameter=parameter)
        case Unary() | Paren():
            return replace(expr, expr=_pinned(expr.expr, at))
        case Binary():
            return replace(expr, left=_pinned(expr.left, at), right=_pinned(expr.right, at))
    return expr


def run_file(path: Path, *, storage: str = "memory") -> Tally:
    """How the evals of one file do: loaded into memory, or into the real storage (`core`)."""
    if storage == "memory":
        return Runner(MemoryStorage()).run(path)
    core = CoreStorage()
    try:
        return Runner(core).run(path)
    finally:
        core.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is zero, since a floor is a test's business."""
    parser = argparse.ArgumentParser(description="Run Prometheus's PromQL cases against our engine.")
    parser.add_argument("files", nargs="*", type=Path, help="files to run (default: all)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the failures (default: only the table)")
    parser.add_argument("-n", "--limit", type=int, default=1000, help="failures to show a file (default: 1000)")
    parser.add_argument("--float", action="store_true", help="show only failures without native histograms")
    parser.add_argument(
        "--storage", choices=("memory", "core"), default="memory", help="what to load into (default: memory)"
    )
    options = parser.parse_args(arguments)
    total = Tally()
    print(f"{'file':28} {'evals':>6} {'passed':>6} {'%':>6}   {'float':>6} {'passed':>6} {'%':>6}")
    for path in options.files or sorted(CASES.glob("*.test")):
        tally = run_file(path, storage=options.storage)
        total += tally
        _print(path.stem, tally)
        if options.verbose:
            shown = [text for text in tally.failures if not (options.float and "(native)" in text)]
            for failure in shown[: options.limit]:
                print("  " + failure)
    _print("all", total)
    return 0


def _print(name: str, tally: Tally) -> None:
    share = 100 * tally.passed / max(tally.evals, 1)
    float_share = 100 * tally.float_passed / max(tally.float_evals, 1)
    floats = f"{tally.float_evals:6} {tally.float_passed:6} {float_share:6.1f}"
    print(f"{name:28} {tally.evals:6} {tally.passed:6} {share:6.1f}   {floats}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
