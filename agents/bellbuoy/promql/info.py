"""info(): series with the labels of the info metric that describes the same target.

Which info series describes a target may change from step to step (the newest sample counts), so a series becomes
several, each present at the steps where its labels are those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bellbuoy._core import LabelSets
from bellbuoy.labels import Matcher, format_labels
from bellbuoy.promql.errors import ExecutionError
from bellbuoy.promql.values import Mask, Vector, empty

IDENTIFYING = ("instance", "job")
DEFAULT_METRIC = "target_info"


@dataclass(frozen=True)
class _Info:
    """One info series: its labels, and the steps at which it is the one that counts."""

    labels: dict[str, str]
    counts: Mask


def is_info(matchers: Sequence[Matcher], name: str) -> bool:
    """Whether a metric of this name is itself what describes others."""
    named = [matcher for matcher in matchers if matcher.name == "__name__"]
    return all(matcher.matches_value(name) for matcher in named) and bool(named)


def selection(base: Vector, matchers: Sequence[Matcher]) -> list[tuple[str, str, str]] | None:
    """What to select for these series; None when none of them names a target."""
    found = [(matcher.name, matcher.operator, matcher.value) for matcher in matchers]
    anything = False
    for label in IDENTIFYING:
        values = sorted({value for value in base.labels.get(label) if value})
        if values:
            anything = True
            found.append((label, "=~", "|".join(_literal(value) for value in values)))
    return found if anything else None


def _literal(text: str) -> str:
    """A pattern of RE2 that matches exactly the text."""
    return "".join("\\" + character if character in "\\.+*?()|[]{}^$" else character for character in text)


def combine(base: Vector, times: Vector, matchers: Sequence[Matcher], exempt: Sequence[bool]) -> Vector:
    """The base series, but those exempt, with the info series' labels; `times` holds when info samples are from."""
    data = [matcher for matcher in matchers if matcher.name != "__name__"]
    may_lack = all(matcher.matches_value("") for matcher in data)
    wanted = {matcher.name for matcher in data}
    infos = _by_target(times)
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


def _by_target(times: Vector) -> dict[tuple[str, ...], dict[str, list[_Info]]]:
    """Info series by target and metric, each with the steps at which none of the same is newer."""
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    sets = times.labels.to_dicts()
    for row, labels in enumerate(sets):
        groups.setdefault((_target(labels), labels.get("__name__", "")), []).append(row)
    found: dict[tuple[str, ...], dict[str, list[_Info]]] = {}
    for (target, name), rows in groups.items():
        when = np.where(times.present[rows], times.values[rows], -np.inf)
        newest = times.present[rows] & (when == when.max(axis=0))
        for step in np.flatnonzero(newest.sum(axis=0) > 1):
            rivals = np.flatnonzero(newest[:, step])[:2]
            first, second = (format_labels(sets[rows[place]]) for place in rivals)
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
        if name == "__name__" or (wanted and name not in wanted):
            continue
        if extra.get(name, value) != value:
            raise ExecutionError(f"conflicting label: {name}")
        if name not in labels:
            data[name] = value
    return data
