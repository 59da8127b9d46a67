"""What a push becomes: its families with the group's labels put in, checked one by one.

The group's labels win over the sample's, and every sample has an `instance`, empty if nobody gave one: so that the
scraping server, which must honour labels here, does not put in the pushgateway's own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bellbuoy.exposition import ParsedFamily, Sample, number, series
from bellbuoy.exposition.text import SUFFIXES
from bellbuoy.pushgateway.grouping import Labels

PUSH_TIME = "push_time_seconds"
PUSH_TIME_HELP = "Last Unix time when changing this group in the Pushgateway succeeded."
FAILURE_TIME = "push_failure_time_seconds"
FAILURE_TIME_HELP = "Last Unix time when changing this group in the Pushgateway failed."
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


class PushError(ValueError):
    """A push that cannot be taken because of what it says."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One family of one group, and how it is printed. It never changes, a push replaces it: readers need no lock."""

    name: str
    type: str
    help: str
    samples: tuple[Sample, ...]
    lines: tuple[str, ...]
    pushed_at: float


def stored(name: str, kind: str, about: str, samples: Iterable[Sample], *, pushed_at: float) -> Stored:
    """A family with its lines made."""
    kept = tuple(samples)
    lines = tuple(f"{series(sample.name, sample.labels)} {number(_plain(sample.value))}" for sample in kept)
    return Stored(name, kind, about, kept, lines, pushed_at)


def _plain(value: float) -> int | float:
    # A count reads better without its ".0"; past 2**53 the exponent tells more than digits that nobody pushed.
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def timestamp_family(name: str, about: str, labels: Labels, seconds: float) -> Stored:
    """One of the two gauges that each group has."""
    return stored(name, "gauge", about, [_labelled(Sample(name, (), seconds), dict(labels))], pushed_at=seconds)


def _labelled(sample: Sample, group: dict[str, str]) -> Sample:
    merged = {"instance": "", **dict(sample.labels), **group}
    return Sample(sample.name, tuple(sorted(merged.items())), sample.value)


def prepare(
    parsed: Iterable[ParsedFamily], labels: Labels, *, pushed_at: float, utf8_names: bool = False
) -> dict[str, Stored]:
    """The families of a push to the group of these labels. Raises PushError."""
    group = dict(labels)
    out: dict[str, Stored] = {}
    for family in parsed:
        if family.name in (PUSH_TIME, FAILURE_TIME):
            continue
        if any(sample.timestamp_ms is not None for sample in family.samples):
            raise PushError(
                f"metric {family.name} has timestamps: push it without, it is scraped as of the scrape's time"
            )
        _check_names(family, utf8_names=utf8_names)
        _check_parts(family)
        samples = [_labelled(sample, group) for sample in family.samples]
        seen: set[tuple[str, Labels]] = set()
        for sample in samples:
            if (sample.name, sample.labels) in seen:
                text = series(sample.name, sample.labels)
                raise PushError(
                    f"series {text} is there twice once it has the group's labels: give it a label of its own"
                )
            seen.add((sample.name, sample.labels))
        out[family.name] = stored(family.name, family.type, family.help or "", samples, pushed_at=pushed_at)
    return out


def _check_names(family: ParsedFamily, *, utf8_names: bool) -> None:
    if utf8_names:
        return
    if not _METRIC.match(family.name):
        raise PushError(f"metric name {family.name!r} needs --push.enable-utf8-names")
    for sample in family.samples:
        for label, _ in sample.labels:
            if not _LABEL.match(label):
                raise PushError(f"label name {label!r} of {family.name} needs --push.enable-utf8-names")


def _check_parts(family: ParsedFamily) -> None:
    """A histogram and a summary are several lines; each must be one of those that make it."""
    suffixes = SUFFIXES.get(family.type)
    if suffixes is None:
        return
    for sample in family.samples:
        labels = dict(sample.labels)
        if family.type == "summary" and sample.name == family.name:
            _check_number(sample, labels, "quantile")
        elif sample.name == family.name:
            raise PushError(
                f"{family.type} {family.name} has a sample of that name: it must end in {', '.join(suffixes)}"
            )
        elif sample.name.endswith("_bucket"):
            _check_number(sample, labels, "le")


def _check_number(sample: Sample, labels: dict[str, str], name: str) -> None:
    try:
        float(labels[name])
    except (KeyError, ValueError):
        raise PushError(f'sample {sample.name} needs a number in label "{name}"') from None
