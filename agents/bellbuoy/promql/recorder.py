"""What a query did, node by node: how long, how many series, how many samples were read and looked at.

The evaluator hands each node to `node()` on its way; whoever selects says what was found by `selected()`. What comes
out is the tree of evaluations as they happened: a chain of operators is one node with all its operands, what `@` pins
was evaluated once.

Samples are counted as in Prometheus's `stats`. *Queryable* is what each step would look at by itself: one sample of
each series for a selector, a whole window for a range, so that windows that overlap count twice. *Read* counts each
once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bellbuoy.promql.nodes import Expr, MatrixSelector, Subquery, VectorSelector
from bellbuoy.promql.printer import format_expr
from bellbuoy.promql.values import Ints, Vector
from bellbuoy.promql.windows import Windows

# A tree of more nodes than this is cut: it is for people to read.
MOST_NODES = 2000


@dataclass
class Node:
    """One evaluation of one expression over its grid of steps; the arrays have one number a step."""

    expr: Expr
    times: Ints
    queryable: Ints
    read: Ints
    seconds: float = 0.0
    series: int = 0
    selected_series: int = 0
    selected_samples: int = 0
    children: "list[Node]" = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. `seconds` include the nodes below, `selfSeconds` do not."""
        out: dict[str, Any] = {
            "node": type(self.expr).__name__,
            "expr": format_expr(self.expr),
            "seconds": self.seconds,
            "selfSeconds": max(0.0, self.seconds - sum(one.seconds for one in self.children)),
            "steps": len(self.times),
            "series": self.series,
            "samples": int(self.queryable.sum()),
        }
        if self.selected_series or self.selected_samples:
            out |= {"selectedSeries": self.selected_series, "selectedSamples": self.selected_samples}
        return out | {"children": [one.to_dict() for one in self.children]}


class Recorder:
    """Watches one query; it runs on one thread."""

    def __init__(self) -> None:
        self.roots: list[Node] = []
        self._open: list[Node] = []
        self._count = 0

    def node(self, expr: Expr, times: Ints, evaluate: Callable[[Expr], Any]) -> Any:
        """What `evaluate` gives for the node, which is written down."""
        self._count += 1
        if self._count > MOST_NODES:
            return evaluate(expr)
        none = np.zeros(len(times), np.int64)
        node = Node(expr, times, none, none)
        if self._open:
            self._open[-1].children.append(node)
        self._open.append(node)
        start = time.perf_counter()
        try:
            value = evaluate(expr)
        finally:
            node.seconds = time.perf_counter() - start
            self._open.pop()
        _count(node, value)
        if not self._open:
            # One that failed is none: it had too many samples, and what it was for is asked again in pieces.
            self.roots.append(node)
        return value

    def selected(self, *, series: int, samples: int) -> None:
        """The storage gave so much for the node at work."""
        if self._open:
            self._open[-1].selected_series += series
            self._open[-1].selected_samples += samples

    def queryable(self, steps: int) -> Ints:
        """Samples looked at for each step of the whole query."""
        if len(self.roots) == 1:
            # One that `@` pins was evaluated once, and is looked at by each step.
            return np.broadcast_to(self.roots[0].queryable, (steps,)).copy()
        return _in_row([one.queryable for one in self.roots], steps)

    def read(self, steps: int) -> Ints:
        """Samples read at each step."""
        return _in_row([one.read for one in self.roots], steps)

    def to_dict(self) -> dict[str, Any]:
        """The plan, for JSON; empty for a query that evaluated nothing. One that went in pieces has these below it."""
        if len(self.roots) < 2:
            return self.roots[0].to_dict() if self.roots else {}
        times = np.concatenate([one.times for one in self.roots])
        whole = Node(self.roots[0].expr, times, self.queryable(len(times)), self.read(len(times)))
        whole.seconds = sum(one.seconds for one in self.roots)
        whole.series = max(one.series for one in self.roots)
        whole.children = self.roots
        return whole.to_dict()


def _in_row(parts: list[Ints], steps: int) -> Ints:
    """Parts one after the other in time; the last ones may be missing."""
    out = np.zeros(steps, np.int64)
    flat = np.concatenate(parts) if parts else out[:0]
    out[: len(flat)] = flat
    return out


def _sum(parts: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    times = max((times for times, _ in parts), key=len)
    return times, np.asarray(sum((np.broadcast_to(counts, times.shape) for _, counts in parts), np.int64(0)))


def _count(node: Node, value: Any) -> None:
    if isinstance(value, Vector):
        node.series = len(value.labels)
    elif isinstance(value, Windows):
        node.series = len(value.samples.labels)
    match node.expr:
        case VectorSelector() if isinstance(value, Vector):
            node.queryable = node.read = value.present.sum(axis=0, dtype=np.int64)
        case MatrixSelector() if isinstance(value, Windows):
            node.queryable, node.read = _of_windows(value, len(node.times))
        case Subquery() if isinstance(value, Windows):
            node.queryable, node.read = _of_subquery(node, value)
        case _:
            for one in node.children:
                if len(one.times) in (1, len(node.times)):
                    # What is evaluated once for all steps is looked at by each of them, and read at the first.
                    node.queryable = node.queryable + one.queryable
                    node.read = node.read + (
                        one.read if len(one.times) == len(node.times) else _at_first(one.read, len(node.times))
                    )


def _at_first(read: Ints, steps: int) -> Ints:
    out = np.zeros(steps, np.int64)
    out[0] = read[0]
    return out


def _of_windows(windows: Windows, steps: int) -> tuple[Ints, Ints]:
    queryable, read = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
    for block in windows.blocks():
        counts = block.high - block.low
        queryable += counts.sum(axis=0)
        fresh = counts.copy()
        fresh[:, 1:] = block.high[:, 1:] - np.maximum(block.low[:, 1:], block.high[:, :-1])
        read += np.maximum(fresh, 0).sum(axis=0)
    return queryable, read


def _of_subquery(node: Node, windows: Windows) -> tuple[Ints, Ints]:
    """Each step's window takes the inner steps that lie in it, with all that they looked at."""
    times, inner = _sum([(one.times, one.queryable) for one in node.children])
    _, inner_read = _sum([(one.times, one.read) for one in node.children])
    if not len(times):
        return node.queryable, node.read
    low = times.searchsorted(windows.ends - windows.range_ms, "right")
    high = times.searchsorted(windows.ends, "right")
    total = np.concatenate([[0], np.cumsum(inner)])
    total_read = np.concatenate([[0], np.cumsum(inner_read)])
    fresh = np.concatenate([low[:1], np.maximum(low[1:], high[:-1])]) if len(high) else low
    return total[high] - total[low], np.maximum(total_read[high] - total_read[np.minimum(fresh, high)], 0)
