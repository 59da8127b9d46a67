"""How functions of windows run: a kernel over blocks of windows, and beside it what becomes of native histograms.

A kernel is about floats. What it is given where there are histograms, too, is one of four: all samples, since it does
not look at values; the floats, with an info that others were left out; the floats, and a function of histograms that
has the windows without floats; or it is a kernel that knows what marks are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bellbuoy.promql import fused, native_windows, over_time, rates, start_times
from bellbuoy.promql.errors import TOO_MANY, ExecutionError
from bellbuoy.promql.native import Cells
from bellbuoy.promql.native_windows import Native, Share
from bellbuoy.promql.nodes import Call, Expr, MatrixSelector, Span, Subquery, unwrap
from bellbuoy.promql.values import Floats, Mask, Vector, empty
from bellbuoy.promql.windows import Block, Windows

if TYPE_CHECKING:
    from bellbuoy.promql.evaluator import Evaluator

Kernel: TypeAlias = Callable[[Block], tuple[Floats, Mask]]

COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
KEEPS_NAME = frozenset({"first_over_time", "last_over_time"})

EXTENDED = {
    "anchored": ("changes", "delta", "increase", "rate", "resets"),
    "smoothed": ("delta", "increase", "rate"),
}

OF_ALL: dict[str, Kernel] = {
    "count_over_time": over_time.counts,
    "first_over_time": over_time.firsts,
    "last_over_time": over_time.lasts,
    "present_over_time": over_time.presence,
    "ts_of_first_over_time": over_time.first_times,
    "ts_of_last_over_time": over_time.last_times,
}
"""They take a sample whatever it is; those that keep its name give it as it is."""

OF_FLOATS: dict[str, Kernel] = {
    "mad_over_time": over_time.absolute_deviations,
    "max_over_time": lambda block: over_time.extremes(block, np.fmax),
    "min_over_time": lambda block: over_time.extremes(block, np.fmin),
    "stddev_over_time": lambda block: over_time.variances(block, root=True),
    "stdvar_over_time": lambda block: over_time.variances(block, root=False),
    "ts_of_max_over_time": lambda block: over_time.extreme_times(block, largest=True),
    "ts_of_min_over_time": lambda block: over_time.extreme_times(block, largest=False),
    "deriv": over_time.slopes,
}

OF_EITHER: dict[str, tuple[Kernel, Native]] = {
    "avg_over_time": (over_time.averages, lambda share: native_windows.combined(share, mean=True)),
    "sum_over_time": (over_time.sums, lambda share: native_windows.combined(share, mean=False)),
}

FUNCTIONS = frozenset(
    [*OF_ALL, *OF_FLOATS, *OF_EITHER, "changes", "delta", "idelta", "increase", "irate", "rate", "resets"]
)


def place_of(argument: Expr) -> Expr:
    """What annotations of a range vector are about: of a subquery, the beginning of the query, as in Prometheus."""
    return replace(argument, span=Span()) if isinstance(unwrap(argument), Subquery) else argument


def call(ev: Evaluator, expr: Call) -> Vector:
    """A function of one range vector and nothing else."""
    name = expr.function
    windows = ev.windows(expr.arguments[0])
    argument = place_of(expr.arguments[0])
    if name in OF_ALL:
        return of_all(ev, windows, fused.kernel(name, OF_ALL[name]), keeps=name in KEEPS_NAME)
    if name in OF_FLOATS:
        return of_floats(ev, windows, argument, fused.kernel(name, OF_FLOATS[name]))
    if name in OF_EITHER:
        kernel, native = OF_EITHER[name]
        return of_either(ev, windows, argument, fused.kernel(name, kernel), native)
    if name in ("irate", "idelta"):
        return _instant_rate(ev, windows, argument, name)
    selector = unwrap(argument)
    anchored = isinstance(selector, MatrixSelector) and selector.selector.anchored
    if name in ("changes", "resets"):
        return _transitions(ev, windows, name, is_anchored=anchored)
    return _rate(ev, windows, argument, name)


def of_all(ev: Evaluator, windows: Windows, kernel: Kernel, *, keeps: bool = False) -> Vector:
    """A kernel that takes any sample; one that `keeps` gives samples as they are, with their names."""
    result = run(ev, windows, kernel, drop_name=not keeps)
    return replace(result, histograms=windows.samples.histograms) if keeps else result


def of_floats(ev: Evaluator, windows: Windows, expr: Expr, kernel: Kernel) -> Vector:
    """A kernel of floats only. Where a window has histograms beside them, an info says that they were left out."""
    samples = windows.samples
    if samples.histograms is None:
        return run(ev, windows, kernel)
    for block in windows.blocks():
        share = Share(block, expr, ev.notes)
        for metric in share.metrics(share.mixed):
            ev.notes.ignored_in_window(expr, metric)
    return run(ev, replace(windows, samples=samples.floats()), kernel)


def of_either(ev: Evaluator, windows: Windows, expr: Expr, kernel: Kernel, native: Native) -> Vector:
    """A kernel of floats, and a function of histograms. Windows with both have no result."""
    samples = windows.samples
    if samples.histograms is None:
        return run(ev, windows, kernel)
    floats = run(ev, replace(windows, samples=samples.floats()), kernel, compact=False)
    cells, present = Cells(floats.values), floats.present
    weight = 0
    for block in windows.blocks():
        ev.query.check()
        share = Share(block, expr, ev.notes)
        present[block.rows] &= share.histograms == 0
        where, found = native(share)
        weight += int(found.weights().sum())
        if weight > ev.query.max_samples:
            raise ExecutionError(TOO_MANY)
        cells.put(where, found, block.rows)
        present[block.rows] |= where
    names = np.ones(len(samples.labels), np.bool_)
    return Vector(samples.labels, cells.values, present, names, cells.histograms).compact()


def run(ev: Evaluator, windows: Windows, kernel: Kernel, *, drop_name: bool = True, compact: bool = True) -> Vector:
    """The kernel over every window; without `compact`, series without any value are there, too."""
    samples, steps = windows.samples, len(windows.ends)
    count = len(samples.labels)
    if count == 0 or (compact and len(samples.timestamps) == 0):
        return empty(steps)
    if count * steps > ev.query.max_samples:
        raise ExecutionError(TOO_MANY)
    names = np.ones(count, np.bool_) if drop_name else samples.drop_name
    there = len(samples.timestamps) > 0
    if there and isinstance(kernel, fused.Fused) and kernel.takes(windows):
        values, present = kernel.whole(windows, ev.query.check)
    else:
        values, present = np.zeros((count, steps)), np.zeros((count, steps), np.bool_)
        for block in windows.blocks() if there else ():
            ev.query.check()
            values[block.rows], present[block.rows] = kernel(block)
    result = Vector(samples.labels, values, present, names)
    return result.compact() if compact else result


def check_extended(expr: Call) -> None:
    """Raises ExecutionError when the function takes no selector that is anchored or smoothed, and is given one."""
    for argument in map(unwrap, expr.arguments):
        if not isinstance(argument, MatrixSelector):
            continue
        for modifier, allowed in EXTENDED.items():
            if getattr(argument.selector, modifier) and expr.function not in allowed:
                names = ", ".join(allowed)
                text = f"{modifier} modifier can only be used with: {names} - not with {expr.function}"
                raise ExecutionError(text)


def _rate(ev: Evaluator, windows: Windows, argument: Expr, name: str) -> Vector:
    """rate, increase and delta, whose selector may be anchored or smoothed."""
    inner = unwrap(argument)
    selector = inner.selector if isinstance(inner, MatrixSelector) else None
    is_counter, is_rate = name != "delta", name == "rate"
    samples = windows.samples
    if selector is not None and (selector.anchored or selector.smoothed):
        smoothed = selector.smoothed
        form = rates.smoothed if smoothed else rates.anchored

        def kernel(block: Block) -> tuple[Floats, Mask]:
            if samples.starts is not None and is_counter:
                return start_times.extended(block, ev.query.lookback_ms, is_rate=is_rate, smoothed=smoothed)
            return form(block, is_counter=is_counter, is_rate=is_rate)

        def native(share: Share) -> native_windows.Found:
            return native_windows.extended_rate(share, is_counter=is_counter, is_rate=is_rate, smoothed=smoothed)
    else:
        reset = native_windows.resets(samples) if samples.histograms is not None and is_counter else None
        if is_counter and samples.starts is not None:
            _say_overlaps(ev, windows, argument)

        def kernel(block: Block) -> tuple[Floats, Mask]:
            return rates.extrapolated(block, is_counter=is_counter, is_rate=is_rate)

        def native(share: Share) -> native_windows.Found:
            return native_windows.rate(share, reset, is_counter=is_counter, is_rate=is_rate)

    result = of_either(ev, windows, argument, fused.kernel(name, kernel), native)
    if is_counter:
        floats = result.floats().compact() if result.histograms is not None else result
        for metric in dict.fromkeys(floats.labels.get("__name__")):
            if metric and not metric.endswith(COUNTER_SUFFIXES):
                ev.notes.possible_non_counter(argument, metric)
    return result


def _say_overlaps(ev: Evaluator, windows: Windows, argument: Expr) -> None:
    for block in windows.blocks():
        series, counts = rates.overlaps(block)
        names = windows.samples.labels.take(series).get("__name__")
        for metric, count in zip(names, counts.tolist(), strict=True):
            ev.notes.overlapping_starts(argument, metric, count)


def _instant_rate(ev: Evaluator, windows: Windows, argument: Expr, name: str) -> Vector:
    samples, is_rate = windows.samples, name == "irate"
    kernel = fused.kernel(name, lambda block: rates.instant(block, is_rate=is_rate))
    floats = run(ev, windows, kernel, compact=samples.histograms is None)
    if samples.histograms is None or len(floats.labels) == 0:
        return floats
    cells, present = Cells(floats.values), floats.present
    reset = native_windows.resets(samples)
    for block in windows.blocks():
        where, found, mixed = native_windows.instant_rate(Share(block, argument, ev.notes), reset, is_rate=is_rate)
        present[block.rows] &= ~mixed & ~samples.is_marked[np.maximum(block.high - 1, 0)]
        cells.put(where, found, block.rows)
        present[block.rows] |= where
    return replace(floats, values=cells.values, present=present, histograms=cells.histograms).compact()


def _transitions(ev: Evaluator, windows: Windows, name: str, *, is_anchored: bool) -> Vector:
    samples, only_falls = windows.samples, name == "resets"
    adjust = None
    if samples.histograms is not None:
        adjust = native_windows.transitions(samples, only_falls=only_falls).adjust

    def kernel(block: Block) -> tuple[Floats, Mask]:
        return rates.transitions(block, only_falls=only_falls, is_anchored=is_anchored, adjust=adjust)

    return run(ev, windows, fused.kernel(name, kernel))
