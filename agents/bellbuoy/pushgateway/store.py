"""The groups in memory: what a push does to them, and whether what comes out is still one consistent set of metrics.

Consistent means that a metric has one type in all groups, no series comes from two groups, and no histogram's or
summary's lines are another metric's. A push that would break this is refused, and only marks its group as failed: a
scrape must never fail because of one job. All of it happens in the event loop's thread; families never change.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bellbuoy.exposition import Page, Sample, series
from bellbuoy.exposition.text import SUFFIXES
from bellbuoy.pushgateway.families import (
    FAILURE_TIME,
    FAILURE_TIME_HELP,
    PUSH_TIME,
    PUSH_TIME_HELP,
    PushError,
    Stored,
    timestamp_family,
)
from bellbuoy.pushgateway.grouping import Labels


class LimitError(Exception):
    """A push above a limit: nothing is wrong with it, there is too much already."""


@dataclass
class Group:
    """The metrics under one set of labels."""

    labels: Labels
    families: dict[str, Stored] = field(default_factory=dict)
    push_time: float = 0.0
    failure_time: float = 0.0

    @property
    def series(self) -> int:
        """How many series were pushed; the two times are not counted."""
        return sum(len(family.samples) for family in self.families.values())

    @property
    def last_push_successful(self) -> bool:
        """Whether the last push was taken."""
        return self.push_time > 0 and self.push_time >= self.failure_time

    def times(self) -> tuple[Stored, Stored]:
        """The two gauges that say when the group was pushed to."""
        return (
            timestamp_family(PUSH_TIME, PUSH_TIME_HELP, self.labels, self.push_time),
            timestamp_family(FAILURE_TIME, FAILURE_TIME_HELP, self.labels, self.failure_time),
        )


class Store:
    """All groups. `own_types` are those of the pushgateway's own metrics, which a push may join but not contradict."""

    def __init__(
        self,
        *,
        group_limit: int,
        series_limit: int,
        ttl_seconds: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._group_limit, self._series_limit = group_limit, series_limit
        self._ttl_seconds = ttl_seconds
        self.own_types: Mapping[str, str] = {}
        self._now = now
        self.groups: dict[Labels, Group] = {}
        # Each metric's families by group, so that a push looks only at those of its own names.
        self._by_name: dict[str, dict[Labels, Stored]] = {}
        self.series = 0
        # Counts changes: who writes the file knows by it whether there is anything to write.
        self.version = 0

    def push(self, labels: Labels, families: Mapping[str, Stored], *, replace: bool) -> None:
        """Put the families into the group: with `replace` in place of all it had, else of those with the same names.

        Raises PushError or LimitError, and then nothing is changed.
        """
        self.expire()
        group = self.groups.get(labels)
        if group is None and len(self.groups) >= self._group_limit:
            raise LimitError(f"there are {len(self.groups)} groups already: delete some, or raise --limit.groups")
        before = group.families if group is not None else {}
        gone = before.values() if replace else [before[name] for name in families if name in before]
        count = self.series + sum(len(f.samples) for f in families.values()) - sum(len(f.samples) for f in gone)
        if count > self._series_limit:
            raise LimitError(f"there would be {count} series: push less, delete groups, or raise --limit.series")
        kept = {} if replace else {name: family for name, family in before.items() if name not in families}
        for family in families.values():
            self._check(labels, family, families, kept)
        group = self.groups.setdefault(labels, Group(labels))
        for family in list(gone):
            self._remove(labels, family)
        group.families = {**kept, **families}
        for family in families.values():
            self._by_name.setdefault(family.name, {})[labels] = family
        self.series = count
        group.push_time = self._now()
        self.version += 1

    def failed(self, labels: Labels) -> None:
        """Note that a push to this group was refused; a group that is not there begins with that."""
        if labels not in self.groups and len(self.groups) >= self._group_limit:
            return
        self.groups.setdefault(labels, Group(labels)).failure_time = self._now()
        self.version += 1

    def delete(self, labels: Labels) -> bool:
        """Drop a group; whether it was there."""
        group = self.groups.pop(labels, None)
        if group is None:
            return False
        for family in group.families.values():
            self._remove(labels, family)
            self.series -= len(family.samples)
        self.version += 1
        return True

    def wipe(self) -> int:
        """Drop every group; how many there were."""
        count = len(self.groups)
        for labels in list(self.groups):
            self.delete(labels)
        return count

    def expire(self) -> None:
        """Drop the groups that nobody pushed to for as long as the TTL. Called before anything is read or pushed."""
        if not self._ttl_seconds:
            return
        oldest = self._now() - self._ttl_seconds
        for labels in [g.labels for g in self.groups.values() if max(g.push_time, g.failure_time) <= oldest]:
            self.delete(labels)

    def restore(self, groups: list[Group]) -> None:
        """Begin with these groups, which were consistent when they were written."""
        for group in groups:
            self.groups[group.labels] = group
            self.series += group.series
            for family in group.families.values():
                self._by_name.setdefault(family.name, {})[group.labels] = family
        self.expire()

    def page(self) -> Page:
        """Everything, as it is scraped. Of differing helps the first group's is shown."""
        self.expire()
        page = Page()
        for group in self.groups.values():
            for family in (*group.families.values(), *group.times()):
                page.family(family.name, family.type, family.help).lines.extend(family.lines)
        return page

    def _remove(self, labels: Labels, family: Stored) -> None:
        of_name = self._by_name[family.name]
        of_name.pop(labels, None)
        if not of_name:
            del self._by_name[family.name]

    def _check(self, labels: Labels, family: Stored, pushed: Mapping[str, Stored], kept: Mapping[str, Stored]) -> None:
        name = family.name
        others = {key: other for key, other in self._by_name.get(name, {}).items() if key != labels}
        other_type = next((other.type for other in others.values()), self.own_types.get(name))
        if other_type is not None and other_type != family.type:
            raise PushError(
                f"metric {name} is a {family.type} here and a {other_type} elsewhere: rename it, or delete that group"
            )

        def used(other_name: str) -> str | None:
            """The type of a metric of that name in what there would be."""
            found = pushed.get(other_name) or kept.get(other_name)
            if found is not None:
                return found.type
            elsewhere = self._by_name.get(other_name, {})
            return next((o.type for key, o in elsewhere.items() if key != labels), self.own_types.get(other_name))

        for suffix in SUFFIXES.get(family.type, ()):
            if used(name + suffix) is not None:
                raise PushError(
                    f"{family.type} {name} has lines {name}{suffix}, which is a metric of its own: rename one"
                )
        for kind, suffixes in SUFFIXES.items():
            for suffix in suffixes:
                if name.endswith(suffix) and used(name.removesuffix(suffix)) == kind:
                    raise PushError(f"metric {name} is a line of {kind} {name.removesuffix(suffix)}: rename one")
        self._check_series(labels, family, others)

    @staticmethod
    def _check_series(labels: Labels, family: Stored, others: Mapping[Labels, Stored]) -> None:
        """No other group has one of these series.

        A series has all the labels of its group. So two groups with the same label names cannot share one, as they
        differ in a value; nor can two that differ in the value of a common name. That leaves few to compare.
        """
        own = dict(labels)
        keys: set[tuple[str, Labels]] | None = None
        for other_labels, other in others.items():
            theirs = dict(other_labels)
            if own.keys() == theirs.keys() or any(own.get(name, value) != value for name, value in other_labels):
                continue
            if keys is None:
                keys = {_key(sample) for sample in family.samples}
            for sample in other.samples:
                if _key(sample) in keys:
                    text = series(*_key(sample))
                    raise PushError(
                        f"series {text} is in group {theirs} already: push it to that group, or delete that"
                    )


def _key(sample: Sample) -> tuple[str, Labels]:
    return sample.name, sample.labels
