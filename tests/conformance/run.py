"""Runs the conformance cases and says how many pass: `python -m tests.conformance.run [file or folder …]`.

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

from bellbuoy._core import HISTOGRAM_MARK
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
from tests.conformance.language import STALE_BITS, Broken, Clear, Eval, Labels, Load, Mark, Value, read
from tests.conformance.native import CUSTOM, Native, natives_of_classics
from tests.conformance.storage import CoreStorage, MemoryStorage, Sample

CASES = Path(__file__).parent / "promqltest"
OWN_CASES = Path(__file__).parents[1] / "promql" / "cases"
OPTIONS = EngineOptions(max_samples=10_000)
STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
_UNSAFE = frozenset(
    {"day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"}
    | {"predict_linear", "time", "timestamp", "start", "end", "range", "step"}
)
_EDGES = re.compile(r"\b(?:start|end|range|step)\(\)", re.IGNORECASE)


Key: TypeAlias = tuple[tuple[str, str], ...]
Found: TypeAlias = float | Native
Points: TypeAlias = dict[Key, dict[int, Found]]


class Store(Queryable, Protocol):
    """What cases are loaded into."""

    def append(self, labels: dict[str, str], samples: Sequence[Sample]) -> None: ...
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
        self.last: dict[Key, Native | None] = {}

    def run(self, path: Path) -> Tally:
        """How the file's evals do."""
        tally = Tally()
        for command in read(path):
            match command:
                case Clear():
                    self.clear()
                case Load():
                    try:
                        self.load(command)
                    except ValueError as e:
                        tally.failures.append(f"{path.name}:{command.line}: cannot load it: {e}")
                case Broken():
                    tally += Tally(int(command.is_eval), 0, int(command.is_eval), 0)
                    tally.failures.append(f"{path.name}:{command.line}: {command.reason}")
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
        self.last.clear()

    def load(self, command: Load) -> None:
        """Append the series' samples; remember which series have native histograms."""
        series = {_key(one[0]): one for one in command.series}  # of equal ones the last counts
        for labels, values, starts in series.values():
            self.append(labels, _timed(values, starts, command.interval_ms))
        if command.with_native_buckets:
            for labels, natives in natives_of_classics(series.values()):
                at = [place * command.interval_ms for place in natives]
                self.append(labels, [(time, value, 0) for time, value in zip(at, natives.values(), strict=True)])

    def append(self, labels: Labels, samples: list[tuple[int, float | Native, int]]) -> None:
        """Samples of one series, histograms with the hints that Prometheus's storage gives them."""
        known = self.last.get(_key(labels))
        ready: list[Sample] = []
        for time, value, began in samples:
            if not isinstance(value, Native):
                ready.append((time, value, began))
                known = None
                continue
            hint = "gauge" if value.hint == "gauge" else "unknown"
            if known is not None and value.continues(known):
                hint = "not_reset"
            ready.append((time, replace(value, hint=hint).to_core(), began))
            known = value
        self.last[_key(labels)] = known
        if any(isinstance(value, Native) for _, value, _ in samples):
            self.native.append(labels)
        self.store.append(labels, ready)

    def touches_native(self, case: Eval) -> bool:
        """Whether native histograms are selected or expected."""
        if any(isinstance(value, Native) for _, values in case.series for value in values):
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


def _timed(values: list[Value], starts: list[int | None], interval_ms: int) -> list[tuple[int, float | Native, int]]:
    samples: list[tuple[int, float | Native, int]] = []
    for position, value in enumerate(values):
        time = position * interval_ms
        start = starts[position] if starts else None
        began = 0 if start is None else time + start
        if value is Mark.STALE:
            samples.append((time, STALE, began))
        elif isinstance(value, float | Native):
            samples.append((time, value, began))
    return samples


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
    found = [(_key(labels), value) for labels, _, value in _points(result)]
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
    for labels, time, value in _points(result):
        found.setdefault(_key(labels), {})[time] = value
    _compare_points(case, found, case.start_ms, case.step_ms)
    names = [tuple(sorted(labels.items())) for labels in result.labels.to_dicts()]
    if names != sorted(names):
        raise Mismatch("series are not sorted by their labels")


def _check_range_vector(case: Eval, result: QueryResult) -> None:
    found: Points = {}
    for labels, time, value in _points(result):
        found.setdefault(_key(labels), {})[time] = value
    start, _, step = case.range_vector or (0, 0, 1)
    _compare_points(case, found, start, step)


def _compare_points(case: Eval, found: Points, start: int, step: int) -> None:
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


def _points(result: QueryResult) -> Iterator[tuple[Labels, int, Found]]:
    """Every sample of the result, histograms as such."""
    for labels, time, value in result.samples():
        bits = struct.unpack("<q", struct.pack("<d", value))[0]
        if result.histograms is not None and bits >> 32 == HISTOGRAM_MARK:
            yield labels, time, Native.of(result.histograms[bits & 0xFFFFFFFF])
        else:
            yield labels, time, value


def _equal(found: Found, wanted: Value) -> bool:
    if isinstance(found, Native) or isinstance(wanted, Native):
        return isinstance(found, Native) and isinstance(wanted, Native) and _equal_natives(found, wanted)
    if wanted is Mark.STALE:
        return struct.pack("<d", found) == struct.pack("<d", STALE)
    return isinstance(wanted, float) and _close(found, wanted)


def _equal_natives(found: Native, wanted: Native) -> bool:
    if (found.schema, found.zero_threshold) != (wanted.schema, wanted.zero_threshold):
        return False
    if wanted.schema == CUSTOM and found.custom != wanted.custom:
        return False
    if wanted.has_hint and found.hint != wanted.hint:
        return False
    pairs = [(found.count, wanted.count), (found.sum, wanted.sum), (found.zero, wanted.zero)]
    for own, other in ((found.positive, wanted.positive), (found.negative, wanted.negative)):
        other = tuple(bucket for bucket in other if bucket[1])
        if [index for index, _ in own] != [index for index, _ in other]:
            return False
        pairs += [(a, b) for (_, a), (_, b) in zip(own, other, strict=True)]
    return all(_close(a, b) for a, b in pairs)


def _close(found: float, wanted: float) -> bool:
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


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files, and those of the folders."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob("*.test")) if path.is_dir() else [path]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print failures, a table and the sum; the exit code is zero, since a floor is a test's business."""
    parser = argparse.ArgumentParser(description="Run cases in Prometheus's test language against our engine.")
    parser.add_argument(
        "paths", nargs="*", type=Path, help="files, or folders of *.test files (default: Prometheus's, and our own)"
    )
    parser.add_argument("-n", "--limit", type=int, default=1000, help="failures to show a file (default: 1000)")
    parser.add_argument("--float", action="store_true", help="show only failures without native histograms")
    parser.add_argument(
        "--storage", choices=("memory", "core"), default="memory", help="what to load into (default: memory)"
    )
    options = parser.parse_args(arguments)
    total = Tally()
    files = files_of(options.paths or [CASES, OWN_CASES])
    print(f"{'file':28} {'evals':>6} {'passed':>6} {'%':>6}   {'float':>6} {'passed':>6} {'%':>6}")
    for path in files:
        tally = run_file(path, storage=options.storage)
        total += tally
        _print(path.stem, tally)
        shown = [text for text in tally.failures if not (options.float and "(native)" in text)]
        for failure in shown[: options.limit]:
            print("  " + failure)
    _print("all", total)
    print(f"{total.passed} of {total.evals} evals pass")
    return 0


def _print(name: str, tally: Tally) -> None:
    share = 100 * tally.passed / max(tally.evals, 1)
    float_share = 100 * tally.float_passed / max(tally.float_evals, 1)
    floats = f"{tally.float_evals:6} {tally.float_passed:6} {float_share:6.1f}"
    print(f"{name:28} {tally.evals:6} {tally.passed:6} {share:6.1f}   {floats}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
