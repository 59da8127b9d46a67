"""Anchored and smoothed rates of counters whose samples say when they began to count.

Where a start lies between two samples the counter was zero then, which takes the place of a sample. There are many
cases at a window's two ends, and few storages that know starts: so it is written window by window.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bellbuoy.promql.rates import is_start_reset
from bellbuoy.promql.values import Floats, Mask
from bellbuoy.promql.windows import Block


class _Point(NamedTuple):
    time: int
    value: float
    start: int = 0


def extended(block: Block, lookback_ms: int, *, is_rate: bool, smoothed: bool) -> tuple[Floats, Mask]:
    """The counters' increase in each window, or that per second."""
    values, present = np.zeros(block.counts.shape), block.counts > 0
    for row, step in np.argwhere(present).tolist():
        low, high = int(block.low[row, step]), int(block.high[row, step])
        window = _Window.of(block, low, high, step, lookback_ms=lookback_ms, smoothed=smoothed)
        increase = window.increase()
        present[row, step] = increase is not None
        if increase is not None:
            values[row, step] = increase / block.range_seconds if is_rate else increase
    return values, present


def _is_reset(before: _Point, point: _Point) -> bool:
    return bool(is_start_reset(*np.array([before.start, before.time, point.start, point.time])[:, None])[0])


def _is_reset_after(time: int, point: _Point) -> bool:
    """Whether the counter began after the time, which is before the sample."""
    return point.start > time and point.time > time and _is_reset(_Point(time, 0.0, time), point)


def _line(before: _Point, after: _Point, time: int) -> float:
    first = 0.0 if after.value < before.value else before.value
    return first + (after.value - first) * (time - before.time) / (after.time - before.time)


@dataclass(frozen=True)
class _Window:
    points: list[_Point]
    start: int
    end: int
    looks_back_to: int
    smoothed: bool

    @staticmethod
    def of(block: Block, low: int, high: int, step: int, *, lookback_ms: int, smoothed: bool) -> "_Window":
        starts = block.samples.starts
        began = [0] * (high - low) if starts is None else starts[low:high].tolist()
        columns = block.timestamps[low:high].tolist(), block.values[low:high].tolist(), began
        points = [_Point(*point) for point in zip(*columns, strict=True)]
        start, end = int(block.starts[step]), int(block.ends[step])
        return _Window(points, start, end, start - lookback_ms, smoothed)

    def increase(self) -> float | None:
        """None where there is nothing to measure."""
        times = [point.time for point in self.points]
        last = len(times) - 1
        first = max(0, bisect_right(times, self.start, 0, last) - 1)
        if self.smoothed:
            last = bisect_left(times, self.end, 0, last)
        if times[last] <= self.start:
            return None
        if self.smoothed and times[first] > self.end:
            point = self.points[first]
            if not _is_reset_after(self.looks_back_to, point) or _is_reset_after(self.end, point):
                return None
        left, right = self._left(first), self._right(last)
        inside = self.points[first + (times[first] <= self.start) : last + (times[last] < self.end)]
        result = right.value - left.value
        before = left
        for point in [*inside, right]:
            if point.value < before.value or _is_reset(before, point):
                result += before.value
            before = point
        return result

    def _left(self, first: int) -> _Point:
        """What the counter was at the window's start."""
        point = self.points[first]
        known = point.start if point.start <= self.start else 0
        if point.time == self.start:
            return _Point(self.start, point.value, point.start)
        if point.time > self.start:
            if not _is_reset_after(self.looks_back_to, point):
                return _Point(self.start, point.value, known)
            if _is_reset_after(self.start, point) or not self.smoothed:
                return _Point(self.start, 0.0, known)
            return _Point(self.start, _line(_Point(point.start, 0.0), point, self.start), known)
        after = self.points[first + 1]
        if _is_reset_after(self.start, after):
            after = _Point(after.start, 0.0)
        elif _is_reset(point, after):
            known = after.start
            point = _Point(after.start, 0.0)
        value = _line(point, after, self.start) if self.smoothed else point.value
        return _Point(self.start, value, known)

    def _right(self, last: int) -> _Point:
        """What the counter was at the window's end."""
        point = self.points[last]
        known = point.start if point.start <= self.end else 0
        if point.time <= self.end:
            return _Point(self.end, point.value, known)
        if last == 0:
            if not _is_reset_after(self.looks_back_to, point):
                return _Point(self.end, point.value, known)
            if _is_reset_after(self.end, point) or not self.smoothed:
                return _Point(self.end, 0.0, known)
            return _Point(self.end, _line(_Point(point.start, 0.0), point, self.end), known)
        before = self.points[last - 1]
        if _is_reset_after(self.end, point):
            known = before.start
            point = _Point(point.start, 0.0)
        elif _is_reset(before, point):
            before = _Point(point.start, 0.0)
        value = _line(before, point, self.end) if self.smoothed else before.value
        return _Point(self.end, value, known)
