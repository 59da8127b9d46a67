"""Unit tests of rules: the input is stored, the rules are evaluated over it in time, and what comes out is compared.

All of it is the server's own: a storage in a folder that goes again, the engine, and `RuleGroup`s that are evaluated
by hand. So that a rule sees at each time what it would have seen then, samples are stored as time goes on.
"""

import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from bellbuoy.archive.source import KEEP_SECONDS
from bellbuoy.configuration import ConfigError, load_yaml, resolve_path, validate
from bellbuoy.durations import format_duration
from bellbuoy.exposition import go_number
from bellbuoy.labels import format_labels
from bellbuoy.promql import Engine, EngineOptions, QueryError
from bellbuoy.rules import FIRING, AlertingRule, BrokenRule, LoadedGroup, RuleGroup, RuleOptions, load_groups
from bellbuoy.rules.evaluation import RuleWorld, sample_values
from bellbuoy.rules.metrics import RuleMetrics
from bellbuoy.rules_tools.series_text import (
    SeriesTextError,
    Stale,
    histogram_text,
    read_histogram,
    read_labels,
    read_series,
    with_hints,
)
from bellbuoy.rules_tools.unit_test_file import AlertTest, ExpressionTest, TestFile, TestGroup
from bellbuoy.tsdb import STALE_BITS, Histogram, LabelSets, Storage

_STALE = float(np.array([STALE_BITS], np.uint64).view(np.float64)[0])
Row = tuple[dict[str, str], float | str]


@dataclass
class Outcome:
    """How the tests of one file went."""

    file: str
    tests: int = 0
    errors: list[str] = field(default_factory=list)
    """What failed, test by test; nothing: all went well."""


def run_file(path: Path, *, only: str = "") -> Outcome:
    """Run the tests of a file whose names match. Raises ConfigError when a file cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read {path}: {e}; name a readable file") from e
    file = validate(TestFile, load_yaml(text, name=str(path)) or {}, name=str(path))
    rules = dict(_rule_files(file.rule_files, path.resolve().parent))
    interval = file.evaluation_interval or 60.0
    outcome = Outcome(str(path))
    order = {group: at for at, group in enumerate(file.group_eval_order)}

    @cache
    def groups(seconds: float) -> list[LoadedGroup]:
        return sorted(load_groups(rules, interval_seconds=seconds), key=lambda group: order.get(group.name, 0))

    for number, test in enumerate(file.tests):
        if only and not re.search(only, test.name):
            continue
        outcome.tests += 1
        name = test.name or f"unnamed#{number}"
        with _Run(test, groups(test.interval or interval), interval_seconds=interval, fuzzy=file.fuzzy_compare) as run:
            outcome.errors += [f'test "{name}": {error}' for error in run.errors()]
    return outcome


def _rule_files(patterns: Sequence[str], base: Path) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        full = Path(resolve_path(pattern, base))
        for file in sorted(full.parent.glob(full.name)):
            try:
                yield str(file), file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                raise ConfigError(f"cannot read rule file {file}: {e}; mend rule_files") from e


class _Input:
    """The input of a test in the order of time, stored little by little."""

    def __init__(self, test: TestGroup, *, interval_ms: int, start_ms: int) -> None:
        labels, rows = [], []
        for number, one in enumerate(test.input_series):
            found, values = read_series(f"{one.series} {one.values}")
            labels.append(found)
            whole = enumerate(with_hints(values))
            rows += [(start_ms + at * interval_ms, number, value) for at, value in whole if value is not None]
        rows.sort(key=lambda row: row[0])
        self._labels, self._rows, self._at = LabelSets.from_dicts(labels), rows, 0

    def store_until(self, at_ms: int, storage: Storage) -> None:
        first = self._at
        while self._at < len(self._rows) and self._rows[self._at][0] <= at_ms:
            self._at += 1
        rows = self._rows[first : self._at]
        histograms = [(time, number, value) for time, number, value in rows if isinstance(value, Histogram)]
        numbers = [
            (time, number, _STALE if isinstance(value, Stale) else float(value))
            for time, number, value in rows
            if not isinstance(value, Histogram | None)
        ]
        if numbers:
            times, which, values = zip(*numbers, strict=True)
            storage.append(self._labels.take(np.array(which)), np.array(times, np.int64), np.array(values))
        if histograms:
            when, which, what = zip(*histograms, strict=True)
            storage.append_histograms(self._labels.take(np.array(which)), np.array(when, np.int64), what)


class _Run:
    """One test: storage, engine and groups, for as long as it takes."""

    def __init__(self, test: TestGroup, groups: Iterable[LoadedGroup], *, interval_seconds: float, fuzzy: bool) -> None:
        self._test, self._loaded, self._interval, self._fuzzy = test, list(groups), interval_seconds, fuzzy
        self._start_ms = round(test.start_timestamp * 1000)

    def __enter__(self) -> "_Run":
        self._folder = tempfile.TemporaryDirectory(prefix="bellbuoy-rules-test-")
        self._storage = Storage(self._folder.name, retention_seconds=KEEP_SECONDS)
        self._engine = Engine(self._storage, EngineOptions(subquery_step_seconds=self._interval))
        self._executor = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *raised: object) -> None:
        self._executor.shutdown()
        self._storage.close()
        self._folder.cleanup()

    def errors(self) -> Iterator[str]:
        """Run it; what went wrong."""
        broken = [rule for group in self._loaded for rule in group.rules if isinstance(rule, BrokenRule)]
        if broken:
            yield from (f"{rule.error}; `bellbuoy rules check` says more" for rule in broken)
            return
        interval = self._test.interval or self._interval
        try:
            self._input = _Input(self._test, interval_ms=round(interval * 1000), start_ms=self._start_ms)
        except SeriesTextError as e:
            yield f"input_series: {e}"
            return
        failed = False
        for error in self._evaluate():
            failed = failed or error.startswith("rule ")
            yield error
        if not failed:
            for one in self._test.promql_expr_test:
                yield from self._expression(one)

    def _evaluate(self) -> Iterator[str]:
        """All evaluations; alerts are compared as time goes by. An error of a rule ends the test."""
        options = RuleOptions(for_outage_tolerance_seconds=0.0, external_url=self._test.external_url)
        metrics = RuleMetrics(CollectorRegistry())
        world = RuleWorld(
            self._engine, self._storage, self._executor, options, metrics, lambda *_: None, self._test.external_labels
        )
        groups = [RuleGroup(group, world, started=self._start_ms / 1000) for group in self._loaded]
        alerts = sorted(self._test.alert_rule_test, key=lambda one: one.eval_time)
        interval_ms, last_ms = round(self._interval * 1000), round(self._test.last_seconds * 1000)
        for after_ms in range(0, last_ms + 1, interval_ms):
            at_ms = self._start_ms + after_ms
            self._input.store_until(at_ms, self._storage)
            errors = []
            for group in groups:
                group.evaluate(at_ms / 1000)
                errors += [
                    f"rule {state.name} at {format_duration(after_ms / 1000)}: {state.last_error}"
                    for state in group.rules
                    if state.last_error
                ]
            if errors:
                yield from errors
                return
            while alerts and round(alerts[0].eval_time * 1000) < after_ms + interval_ms:
                yield from self._alerts(alerts.pop(0), groups)

    def _alerts(self, test: AlertTest, groups: Iterable[RuleGroup]) -> Iterator[str]:
        got = [
            (dict(alert.labels), dict(alert.annotations))
            for group in groups
            for state in group.rules
            if isinstance(state.rule, AlertingRule) and state.name == test.alertname
            for alert in state.rule.active.values()
            if alert.state == FIRING
        ]
        wanted = [({**one.exp_labels, "alertname": test.alertname}, one.exp_annotations) for one in test.exp_alerts]
        missing, surplus = _differences(wanted, got)
        if missing or surplus:
            lines = [f"alert {test.alertname} at {format_duration(test.eval_time)}:"]
            lines += [f"      expected {_alert_text(*one)}" for one in missing]
            lines += [f"      got      {_alert_text(*one)}" for one in surplus]
            yield "\n".join(lines)

    def _expression(self, test: ExpressionTest) -> Iterator[str]:
        place = f"expression {test.expr} at {format_duration(test.eval_time)}"
        try:
            wanted = [_expected(one.labels, one.value, one.histogram) for one in test.exp_samples]
            got = self._query(test.expr, self._start_ms + round(test.eval_time * 1000))
        except (QueryError, SeriesTextError) as e:
            yield f"{place}: {e}"
            return
        left = list(got)
        missing = []
        for one in wanted:
            found = next((other for other in left if one[0] == other[0] and self._equal(one[1], other[1])), None)
            if found is None:
                missing.append(one)
            else:
                left.remove(found)
        if missing or left:
            lines = [f"{place}:"]
            lines += [f"      expected {_row_text(*one)}" for one in missing]
            lines += [f"      got      {_row_text(*one)}" for one in left]
            yield "\n".join(lines)

    def _query(self, expr: str, at_ms: int) -> list[Row]:
        result = self._engine.instant(expr, at_ms)
        if result.kind not in ("vector", "scalar"):
            raise SeriesTextError(f"the result is a {result.kind}, not a vector or scalar; change the expression")
        values = sample_values(np.asarray(result.values, np.float64).reshape(-1), result.histograms)
        return [
            (labels, histogram_text(value) if isinstance(value, Histogram) else value)
            for labels, value in zip(result.labels.to_dicts(), values, strict=True)
        ]

    def _equal(self, a: float | str, b: float | str) -> bool:
        if isinstance(a, str) or isinstance(b, str):
            return a == b
        return a == b or (self._fuzzy and b in (math.nextafter(a, -math.inf), math.nextafter(a, math.inf)))


def _expected(labels: str, value: float, histogram: str) -> Row:
    if not histogram:
        return read_labels(labels), value
    text = histogram.strip()
    if not text.startswith("{{") or not text.endswith("}}"):
        raise SeriesTextError(f"cannot read histogram {text!r}: write it in double braces")
    return read_labels(labels), histogram_text(read_histogram(text[2:-2]))


def _differences(
    wanted: list[tuple[dict[str, str], dict[str, str]]], got: list[tuple[dict[str, str], dict[str, str]]]
) -> tuple[list[tuple[dict[str, str], dict[str, str]]], list[tuple[dict[str, str], dict[str, str]]]]:
    """What is missing, and what is there beside it."""
    surplus, missing = list(got), []
    for one in wanted:
        if one in surplus:
            surplus.remove(one)
        else:
            missing.append(one)
    return missing, surplus


def _alert_text(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    return format_labels(labels) + (f" with annotations {format_labels(annotations)}" if annotations else "")


def _row_text(labels: Mapping[str, str], value: float | str) -> str:
    return f"{format_labels(labels)} {value if isinstance(value, str) else go_number(value)}"
