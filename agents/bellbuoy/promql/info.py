"""info(): series with the labels of the info metric that describes the same target.

Which info series describes a target may change from step to step (the newest sample counts), so a series becomes
several, each present at the steps where its labels are those.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bellbuoy._core import LabelSets
from bellbuoy.labels import Matcher
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.labelling import show_labels
from bellbuoy.promql.nodes import At, Call, Duration, Expr, NumberLiteral, Subquery, VectorSelector
from bellbuoy.promql.values import METADATA, Mask, Vector, empty

IDENTIFYING = ("instance", "job")
DEFAULT_METRIC = "target_info"


@dataclass(frozen=True)
class _Info:
    """One info series: its labels, and the steps at which it is the one that counts."""

    labels: dict[str, str]
    counts: Mask


def name_matchers(matchers: Sequence[Matcher]) -> list[Matcher]:
    """Which metrics are taken: those named, or all of that kind but those named, or the usual one."""
    named = [matcher for matcher in matchers if matcher.name == "__name__"]
    if any(matcher.operator in ("=", "=~") for matcher in named):
        return named
    if named:
        return [Matcher("__name__", "=~", ".+_info"), *named]
    return [Matcher("__name__", "=", DEFAULT_METRIC)]


def identities(base: Vector) -> list[list[Matcher]]:
    """What the info series of these series must have: for each combination of identifying labels, and their values."""
    columns = [base.labels.get(label) for label in IDENTIFYING]
    groups: dict[tuple[bool, ...], list[set[str]]] = {}
    for values in zip(*columns, strict=True):
        there = tuple(bool(value) for value in values)
        if any(there):
            group = groups.setdefault(there, [set() for _ in IDENTIFYING])
            for known, value in zip(group, values, strict=True):
                known.add(value)
    found = []
    for there, group in groups.items():
        patterns = ["|".join(_literal(value) for value in sorted(known)) for known in group]
        parts = zip(IDENTIFYING, there, patterns, strict=True)
        found.append(
            [Matcher(name, "=~", text) if is_there else Matcher(name, "=", "") for name, is_there, text in parts]
        )
    return found


@dataclass(frozen=True)
class _Look:
    """When a selector looks: at a time of its own, or at the step's; and how long before, in milliseconds."""

    at: float | None
    offset_ms: int

    def is_like(self, other: "_Look") -> bool:
        if self.at is None or other.at is None:
            return self.at == other.at and self.offset_ms == other.offset_ms
        return round(self.at * 1000) - self.offset_ms == round(other.at * 1000) - other.offset_ms


def looking(
    argument: Expr,
    selector: VectorSelector,
    moment: Callable[[At | None], float | None],
    offset_ms: Callable[[Duration | None], int],
) -> VectorSelector:
    """The selector of info series, looking when all selectors of the argument look; at the step's time if they differ.

    `moment` gives the seconds of an @, `offset_ms` the milliseconds of an offset.
    """
    looks: list[_Look | None] = []

    def visit(node: Expr, above: tuple[Subquery, ...]) -> bool:
        if node.type not in ("vector", "matrix"):
            return False
        if isinstance(node, VectorSelector):
            look = _Look(moment(node.at), offset_ms(node.offset))
            for subquery in reversed(above):
                if look.at is None:
                    look = _Look(moment(subquery.at), look.offset_ms + offset_ms(subquery.offset))
            looks.append(look)
            return True
        if isinstance(node, Subquery):
            above = (*above, node)
        is_info = isinstance(node, Call) and node.function == "info"
        children = node.children()[:1] if is_info else node.children()
        selects = [visit(child, above) for child in children]
        if not any(selects):
            looks.append(None)  # it has a value at the step's time whatever selectors say
        return any(selects)

    visit(argument, ())
    first = looks[0] if looks else None
    if first is None or not all(look is not None and look.is_like(first) for look in looks):
        return selector
    return replace(selector, at=first.at, offset=NumberLiteral(first.offset_ms / 1000))


def _literal(text: str) -> str:
    """A pattern of RE2 that matches exactly the text."""
    return "".join("\\" + character if character in "\\.+*?()|[]{}^$" else character for character in text)


def combine(base: Vector, times: Vector, data: Sequence[Matcher], exempt: Sequence[bool]) -> Vector:
    """The base series, but those exempt, with the info series' labels; `times` holds when info samples are from."""
    may_lack = all(matcher.matches_value("") for matcher in data)
    wanted = {matcher.name for matcher in data}
    infos = _by_target(times, np.asarray(base.present.any(axis=0)))
    sets: list[dict[str, str]] = []
    rows: list[int] = []
    masks: list[Mask] = []
    for row, labels in enumerate(base.labels.to_dicts()):
        if exempt[row]:
            sets.append(labels)
            rows.append(row)
            masks.append(base.present[row])
            continue
        for extra, mask, described in _descriptions(labels, infos.get(_target(labels), {}), base.present[row], wanted):
            if mask.any() and (described or may_lack):
                sets.append(labels | extra)
                rows.append(row)
                masks.append(mask)
    if not rows:
        return empty(base.steps)
    index = np.array(rows, np.int64)
    parts = base.values[index], np.stack(masks), base.drop_name[index]
    return Vector(LabelSets.from_dicts(sets), *parts, base.histograms)


def _target(labels: dict[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(label, "") for label in IDENTIFYING)


def _by_target(times: Vector, asked: Mask) -> dict[tuple[str, ...], dict[str, list[_Info]]]:
    """Info series by target and metric, each with the steps at which none of the same is newer.

    Two that are equally new are an error at the steps at which anything is to be described.
    """
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    sets = times.labels.to_dicts()
    for row, labels in enumerate(sets):
        groups.setdefault((_target(labels), labels.get("__name__", "")), []).append(row)
    found: dict[tuple[str, ...], dict[str, list[_Info]]] = {}
    for (target, name), rows in groups.items():
        when = np.where(times.present[rows], times.values[rows], -np.inf)
        newest = times.present[rows] & (when == when.max(axis=0))
        for step in np.flatnonzero((newest.sum(axis=0) > 1) & asked):
            rivals = np.flatnonzero(newest[:, step])[:2]
            first, second = (show_labels(sets[rows[place]]) for place in rivals)
            at = round(float(when[:, step].max()) * 1000)
            series = f"existing {first} @ {at}, new {second} @ {at}"
            raise ExecutionError(f"found duplicate series for info metric: {series}")
        found.setdefault(target, {})[name] = [_Info(sets[row], newest[place]) for place, row in enumerate(rows)]
    return found


def _descriptions(
    labels: dict[str, str], metrics: dict[str, list[_Info]], present: Mask, wanted: set[str]
) -> list[tuple[dict[str, str], Mask, bool]]:
    """`(labels to add, at which steps, whether any info series says so)`; together they cover the series' steps."""
    parts: list[tuple[dict[str, str], Mask, bool]] = [({}, present, False)]
    for infos in metrics.values():
        split: list[tuple[dict[str, str], Mask, bool]] = []
        for extra, mask, described in parts:
            rest = mask
            for info in infos:
                here = mask & info.counts
                if here.any():
                    split.append((extra | _data_labels(labels, extra, info.labels, wanted), here, True))
                    rest = rest & ~here
            split.append((extra, rest, described))
        parts = split
    return parts


def _data_labels(
    labels: dict[str, str], extra: dict[str, str], info: dict[str, str], wanted: set[str]
) -> dict[str, str]:
    data = {}
    for name, value in info.items():
        if name in METADATA or (wanted and name not in wanted):
            continue
        if extra.get(name, value) != value:
            raise ExecutionError(f"conflicting label: {name}")
        if name not in labels:
            data[name] = value
    return data
