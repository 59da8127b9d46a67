"""The rules' own metrics."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_GROUP = ["rule_group"]
_SECONDS = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclass
class RuleMetrics:
    """Counters and gauges of all groups, by group; durations of all together."""

    registry: CollectorRegistry
    evaluations: Counter = field(init=False)
    failures: Counter = field(init=False)
    iterations: Counter = field(init=False)
    missed: Counter = field(init=False)
    group_rules: Gauge = field(init=False)
    group_interval: Gauge = field(init=False)
    group_last_evaluation: Gauge = field(init=False)
    group_duration: Gauge = field(init=False)
    group_rule_sum: Gauge = field(init=False)
    group_restore: Gauge = field(init=False)
    group_samples: Gauge = field(init=False)

    def __post_init__(self) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, _GROUP, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, _GROUP, registry=self.registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, registry=self.registry, buckets=_SECONDS)

        self.evaluations = counter("bellbuoy_rule_evaluations", "Evaluations of rules.")
        self.failures = counter("bellbuoy_rule_evaluation_failures", "Evaluations of rules that failed.")
        self.iterations = counter(
            "bellbuoy_rule_group_iterations", "Evaluations of a whole group, those missed as well."
        )
        self.missed = counter(
            "bellbuoy_rule_group_iterations_missed", "Evaluations left out because the one before took too long."
        )
        self.group_rules = gauge("bellbuoy_rule_group_rules", "Rules of the group.")
        self.group_interval = gauge("bellbuoy_rule_group_interval_seconds", "The group's interval.")
        self.group_last_evaluation = gauge(
            "bellbuoy_rule_group_last_evaluation_timestamp_seconds", "The time that the group was last evaluated for."
        )
        self.group_duration = gauge("bellbuoy_rule_group_last_duration_seconds", "What the last evaluation took.")
        self.group_rule_sum = gauge(
            "bellbuoy_rule_group_last_rule_duration_sum_seconds",
            "What the rules of the last evaluation took together; more than all of it where some went side by side.",
        )
        self.group_restore = gauge(
            "bellbuoy_rule_group_last_restore_duration_seconds",
            "What it took to read the alerts from before a restart.",
        )
        self.group_samples = gauge("bellbuoy_rule_group_last_samples", "Samples that the last evaluation stored.")
        self.evaluation_seconds = seconds("bellbuoy_rule_evaluation_duration_seconds", "Time to evaluate a rule.")
        self.group_seconds = seconds("bellbuoy_rule_group_duration_seconds", "Time to evaluate a group.")
        self.shared = Counter(
            "bellbuoy_rule_shared_values",
            "Parts of expressions whose value another rule of the group had left in the same evaluation.",
            registry=self.registry,
        )
        self._expansions = Counter(
            "bellbuoy_template_text_expansions", "Templates of alerts that were expanded.", registry=self.registry
        )
        self._expansion_failures = Counter(
            "bellbuoy_template_text_expansion_failures",
            "Templates of alerts that could not be expanded.",
            registry=self.registry,
        )

    def expanded(self, well: bool) -> None:
        """Count a template's expansion."""
        self._expansions.inc()
        if not well:
            self._expansion_failures.inc()

    def of_a_group(self) -> Iterator[Counter | Gauge]:
        """Those by group."""
        yield from (self.evaluations, self.failures, self.iterations, self.missed)
        yield from (self.group_rules, self.group_interval, self.group_last_evaluation, self.group_duration)
        yield from (self.group_rule_sum, self.group_restore, self.group_samples)

    def forget(self, group: str) -> None:
        """Remove a group that is gone."""
        for metric in self.of_a_group():
            if (group,) in metric._metrics:
                metric.remove(group)
