"""`bellbuoy tsdb analyze`: which metrics, labels and targets make the series, and which of them come and go.

A server's memory goes with the series that are not in blocks yet (`recent`), its disk with bytes, its index with
labels that have many values. So each metric is told with the label that multiplies it, each target with what it has
brought and lost, and the worst in a sentence with what to do. It works on labels and counts, never on samples.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bellbuoy.labels import NAME
from bellbuoy.tsdb import Survey
from bellbuoy.tsdb_tools.tables import Cell, size_text, table, time_text

Codes = NDArray[np.int64]

# A series that begins or ends within this of the window's ends was there all along: it is the staleness of queries.
CHURN_SLACK_MS = 5 * 60_000
# Who has less of the series is no culprit, nor is a folder with so few.
CULPRIT_SHARE = 0.1
CULPRIT_SERIES = 1000
# A label with values for so much of a metric's series is what multiplies it.
WIDE_SHARE = 0.5
CULPRITS = 3


@dataclass(frozen=True)
class Row:
    """What one metric or target takes."""

    name: str
    series: int
    recent: int
    """Series that are not in blocks yet."""
    samples: int
    bytes: int
    appeared: int
    """Series that began after the window did."""
    gone: int
    """Series that ended before the window did."""
    widest_label: str = ""
    """Of a metric: the label with most values, and how many it has."""
    widest_values: int = 0


@dataclass(frozen=True)
class Counted:
    """A label name or pair, and how many series or values it has."""

    name: str
    series: int
    values: int = 0


@dataclass(frozen=True)
class Analysis:
    """All tables, each with its largest rows first."""

    start: int
    end: int
    series: int
    recent: int
    samples: int
    bytes: int
    index_bytes: int
    metrics: tuple[Row, ...]
    metric_count: int
    targets: tuple[Row, ...]
    target_count: int
    labels: tuple[Counted, ...]
    label_count: int
    pairs: tuple[Counted, ...]
    pair_count: int
    churning_metrics: tuple[Row, ...]
    churning_targets: tuple[Row, ...]
    culprits: tuple[str, ...]


def analyze(survey: Survey, *, index_bytes: int, top: int) -> Analysis:
    """The tables of a survey, with so many rows each."""
    count = len(survey.labels)
    start, end = (int(survey.first.min()), int(survey.last.max())) if count else (0, 0)
    appeared, gone = survey.first > start + CHURN_SLACK_MS, survey.last < end - CHURN_SLACK_MS
    names, of_metric = _numbered(survey.labels.get(NAME))
    targets, of_target = _targets(survey)

    def rows(keys: Sequence[str], codes: Codes) -> list[Row]:
        def total(weights: NDArray[Any]) -> list[int]:
            return [round(one) for one in np.bincount(codes, weights.astype(np.float64), minlength=len(keys)).tolist()]

        columns = zip(
            keys,
            np.bincount(codes, minlength=len(keys)).tolist(),
            *(total(one) for one in (survey.recent, survey.samples, survey.bytes, appeared, gone)),
            strict=True,
        )
        return [Row(*one) for one in columns]

    by_metric, by_target = rows(names, of_metric), rows(targets, of_target)
    largest = _largest(by_metric, top)
    churning = _churning(by_metric, top)
    number = {name: i for i, name in enumerate(names)}
    members = {row.name: np.flatnonzero(of_metric == number[row.name]) for row in {*largest, *churning}}
    widest: dict[str, tuple[int, str]] = {}
    labels, pairs, pair_count = [], [], 0
    for label in survey.label_names:
        values, codes = _numbered(survey.labels.get(label))
        counts = np.bincount(codes, minlength=len(values))
        there = {value: int(counts[i]) for i, value in enumerate(values) if value}
        labels.append(Counted(label, sum(there.values()), len(there)))
        pair_count += len(there)
        pairs += [Counted(f'{label}="{value}"', series) for value, series in Counter(there).most_common(top)]
        if label != NAME:
            for metric, at in members.items():
                # A label that a series lacks is no value of it.
                found = len({code for code in np.unique(codes[at]).tolist() if values[code]})
                widest[metric] = max(widest.get(metric, (0, "")), (found, label))

    def told(of: Sequence[Row]) -> tuple[Row, ...]:
        return tuple(
            replace(row, widest_values=widest.get(row.name, (0, ""))[0], widest_label=widest.get(row.name, (0, ""))[1])
            for row in of
        )

    metrics, churning_targets = told(largest), tuple(_churning(by_target, top))
    return Analysis(
        start=start,
        end=end,
        series=count,
        recent=int(survey.recent.sum()),
        samples=int(survey.samples.sum()),
        bytes=round(float(survey.bytes.sum())),
        index_bytes=index_bytes,
        metrics=metrics,
        metric_count=len(names),
        targets=tuple(_largest(by_target, top)),
        target_count=len(targets),
        labels=tuple(sorted(labels, key=lambda one: (-one.values, one.name))[:top]),
        label_count=len(labels),
        pairs=tuple(sorted(pairs, key=lambda one: (-one.series, one.name))[:top]),
        pair_count=pair_count,
        churning_metrics=told(churning),
        churning_targets=churning_targets,
        culprits=tuple(_culprits(count, metrics, by_target, told(churning))),
    )


def _numbered(texts: Sequence[str]) -> tuple[list[str], Codes]:
    """Each text once, and the number of each."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    return list(numbers), codes


def _targets(survey: Survey) -> tuple[list[str], Codes]:
    """Pool and labels of each target; series that came without rows have their own job and instance."""
    labels = [", ".join(f'{name}="{value}"' for name, value in one.items()) for one in survey.targets.to_dicts()]
    known = [f"{pool} {{{of}}}" if of else pool for pool, of in zip(survey.pools, labels, strict=True)]
    own = zip(survey.labels.get("job"), survey.labels.get("instance"), survey.target.tolist(), strict=True)
    return _numbered(
        [
            known[at] if at >= 0 else f'without a target {{instance="{instance}", job="{job}"}}'
            for job, instance, at in own
        ]
    )


def _largest(rows: Sequence[Row], top: int) -> list[Row]:
    return sorted(rows, key=lambda row: (-row.series, row.name))[:top]


def _churning(rows: Sequence[Row], top: int) -> list[Row]:
    found = [row for row in rows if row.appeared or row.gone]
    return sorted(found, key=lambda row: (-max(row.appeared, row.gone), row.name))[:top]


def _culprits(count: int, metrics: Sequence[Row], targets: Sequence[Row], churning: Sequence[Row]) -> list[str]:
    """Sentences that name who makes the series, and what to do."""
    if count < CULPRIT_SERIES:
        return []
    out = []
    for row in metrics[:CULPRITS]:
        if row.series < CULPRIT_SHARE * count or row.series < CULPRIT_SERIES:
            break
        said = f"{row.name} has {row.series:,} of {count:,} series ({_percent(row.series, count)})"
        label, values = row.widest_label, row.widest_values
        if values >= WIDE_SHARE * row.series:
            said += (
                f": its label {label} has {values:,} values; drop the label where the metric is made, or the metric by "
                f'metric_relabel_configs (source_labels: [__name__], regex: "{row.name}", action: drop)'
            )
        else:
            said += f"; its widest label is {label}, with {values:,} values"
        out.append(said)
    largest = _largest(targets, 1)[0]
    if len(targets) > 1 and largest.series > max(CULPRIT_SHARE, 3 / len(targets)) * count:
        out.append(
            f"the target {largest.name} has {largest.series:,} of {count:,} series "
            f"({_percent(largest.series, count)}); a series_budget bounds it without failing its scrape"
        )
    for row in churning[:1]:
        if max(row.appeared, row.gone) > CULPRIT_SHARE * count:
            out.append(
                f"series of {row.name} come and go: {row.appeared:,} appeared and {row.gone:,} ended in the window; "
                f"its label {row.widest_label} has {row.widest_values:,} values; ids, times, versions make new series"
            )
    return out


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def text(found: Analysis, losses: Sequence[str]) -> str:
    """For people."""
    if not found.series:
        return "no series match\n"
    hours = (found.end - found.start) / 3_600_000
    out = (
        f"{time_text(found.start)} to {time_text(found.end)}, {hours:.1f} h: {found.series:,} series, of which "
        f"{found.recent:,} recent (not in blocks yet: they are in a server's memory), {found.samples:,} samples, "
        f"{size_text(found.bytes)}, and {size_text(found.index_bytes)} of indexes\n"
    )
    out += "".join(f"damaged: {loss}\n" for loss in losses)
    out += "".join(f"⚠ {one}\n" for one in found.culprits)
    head = ("METRIC", "SERIES", "RECENT", "SAMPLES", "BYTES", "SHARE", "WIDEST LABEL", "VALUES")
    out += f"\nmetrics with most series, of {found.metric_count:,}\n"
    out += table(head, [[*_cells(row, found), row.widest_label, row.widest_values] for row in found.metrics])
    out += f"\ntargets with most series, of {found.target_count:,}\n"
    out += table(("TARGET", *head[1:6]), [_cells(row, found) for row in found.targets])
    out += f"\nlabels with most values, of {found.label_count:,}\n"
    out += table(("LABEL", "VALUES", "SERIES"), [(one.name, one.values, one.series) for one in found.labels])
    out += f"\nlabel pairs with most series, of {found.pair_count:,}\n"
    out += table(("PAIR", "SERIES"), [(one.name, one.series) for one in found.pairs])
    churn = ("SERIES", "APPEARED", "GONE")
    out += "\nmetrics whose series come and go\n"
    rows: list[list[Cell]] = [
        [row.name, row.series, row.appeared, row.gone, row.widest_label, row.widest_values]
        for row in found.churning_metrics
    ]
    out += table(("METRIC", *churn, *head[6:]), rows)
    out += "\ntargets whose series come and go\n"
    rows = [[row.name, row.series, row.appeared, row.gone] for row in found.churning_targets]
    return out + table(("TARGET", *churn), rows)


def _cells(row: Row, found: Analysis) -> list[Cell]:
    return [row.name, row.series, row.recent, row.samples, row.bytes, _percent(row.series, found.series)]
