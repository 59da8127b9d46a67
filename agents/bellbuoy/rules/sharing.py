"""What rules have in common is evaluated once: equal expressions at the same time, within one evaluation of a group.

A thousand rules look at a few hundred metrics, many of them through the same `rate(metric[5m])`. `Plan` finds, when the
group is loaded, which parts of its expressions are equal, selectors as well as what is made of them, and how often each
is needed. `Round` keeps their values in one evaluation, each until the last rule that needs it has had it. What rules
write in the round is seen by those after them: `forget` drops what may read it. Rules may ask from several threads;
those that need the same wait for the first. What is held is bounded in samples: past it rules compute for themselves.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from bellbuoy.labels import NAME, Matcher
from bellbuoy.promql import (
    Expr,
    MatrixSelector,
    Subquery,
    Value,
    Vector,
    Windows,
    selectors,
)
from bellbuoy.promql.nodes import bare_selectors

# What is worth a look: a number is made faster than it is found.
_CHEAP = ("NumberLiteral", "StringLiteral", "Paren")


class Plan:
    """Which parts of these expressions are equal. The expressions themselves are asked for, not copies of them.

    A selector of whose histograms nobody looks at the buckets is loaded without them: it is not equal to one with them.
    """

    def __init__(self, exprs: Iterable[Expr]) -> None:
        numbers: dict[tuple[Expr, tuple[bool, ...]], int] = {}
        parts: list[Expr] = []
        self.numbers: dict[int, int] = {}
        """The number of what a node is equal to, by the node's identity."""
        counts: Counter[int] = Counter()
        for root in exprs:
            apart = bare_selectors(root)
            stack = [root]
            while stack:
                node = stack.pop()
                if type(node).__name__ in _CHEAP:
                    stack.extend(node.children())
                    continue
                flags = tuple(id(selector) in apart for selector in selectors(node))
                number = numbers.setdefault((node, flags), len(numbers))
                if number == len(parts):
                    parts.append(node)
                self.numbers[id(node)] = number
                counts[number] += 1
                # What is below something that is known already is not asked for again.
                if counts[number] == 1 and not isinstance(node, Subquery | MatrixSelector):
                    stack.extend(node.children())
        self.wanted = {number: count for number, count in counts.items() if count > 1}
        self.numbers = {node: number for node, number in self.numbers.items() if number in self.wanted}
        self._by_name: dict[str, set[int]] = {}
        self._by_pattern: list[tuple[int, Matcher | None]] = []
        """Parts with a selector that names no metric, and what it asks of the name."""
        for number in self.wanted:
            for selector in selectors(parts[number]):
                if selector.name:
                    self._by_name.setdefault(selector.name, set()).add(number)
                else:
                    of_name = next((matcher for matcher in selector.matchers if matcher.name == NAME), None)
                    self._by_pattern.append((number, of_name))

    def reading(self, names: Collection[str]) -> set[int]:
        """The parts that may read series of these metrics."""
        out = {number for name in names for number in self._by_name.get(name, ())}
        for number, matcher in self._by_pattern:
            if matcher is None or any(matcher.matches_value(name) for name in names):
                out.add(number)
        return out


class _Slot:
    """One value: the lock is held by who makes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: Value | None = None
        self.size = 0


class Round:
    """The values of one evaluation."""

    def __init__(self, plan: Plan, *, max_samples: int) -> None:
        self._plan, self._room = plan, max_samples
        self._left = dict(plan.wanted)
        self._lock = threading.Lock()
        self._slots: dict[int, _Slot] = {}
        self.hits = 0

    def value(self, expr: Expr, make: Callable[[], Value]) -> Value:
        """What the engine asks for each node."""
        number = self._plan.numbers.get(id(expr))
        if number is None:
            return make()
        with self._lock:
            slot = self._slots.get(number)
            if slot is None and self._left[number] > 1 and self._room > 0:
                slot = self._slots[number] = _Slot()
            self._left[number] -= 1
        if slot is None:
            return make()
        # What is made below this one is part of it, so that nobody waits in a circle.
        with slot.lock:
            value = slot.value
            if value is None:
                value = slot.value = make()
                self._keep(number, slot, _size(value))
            else:
                self.hits += 1
        if self._left[number] <= 0:
            self._drop([number])
        return value

    def _keep(self, number: int, slot: _Slot, size: int) -> None:
        with self._lock:
            if self._slots.get(number) is not slot:
                return
            if size > self._room:
                del self._slots[number]
                return
            slot.size = size
            self._room -= size

    def _drop(self, numbers: Iterable[int]) -> None:
        with self._lock:
            for number in numbers:
                slot = self._slots.pop(number, None)
                self._room += slot.size if slot is not None else 0

    def forget(self, names: Collection[str]) -> None:
        """Series of these metrics were written: what reads them is evaluated anew."""
        self._drop(self._plan.reading(names))


def _size(value: Value) -> int:
    if isinstance(value, Windows):
        return len(value.samples.timestamps)
    return int(value.values.size) if isinstance(value, Vector) else 1
