"""The rules' own metrics."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

_GROUP = ["rule_group"]


@dataclass
class RuleMetrics:
    """Counters and gauges of all groups, by group."""

    registry: CollectorRegistry
    evaluations: Counter = field(init=False)
    failures: Counter = field(init=False)
    iterations: Counter = field(init=False)
    missed: Counter = field(init=False)
    group_rules: Gauge = field(init=False)
    group_interval: Gauge = field(init=False)
    group_last_evaluation: Gauge = field(init=False)
    group_duration: Gauge = field(init=False)
    group_samples: Gauge = field(init=False)

    def __post_init__(self) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, _GROUP, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, _GROUP, registry=self.registry)

        self.evaluations = counter("bellbuoy_rule_evaluations", "Evaluations of rules.")
        self.failures = counter("bellbuoy_rule_evaluation_failures", "Evaluations of rules that failed.")
        self.iterations = counter("bellbuoy_rule_group_iterations", "Evaluations of a whole group.")
        self.missed = counter(
            "bellbuoy_rule_group_iterations_missed", "Evaluations left out because the one before took too long."
        )
        self.group_rules = gauge("bellbuoy_rule_group_rules", "Rules of the group.")
        self.group_interval = gauge("bellbuoy_rule_group_interval_seconds", "The group's interval.")
        self.group_last_evaluation = gauge(
            "bellbuoy_rule_group_last_evaluation_timestamp_seconds", "The time that the group was last evaluated for."
        )
        self.group_duration = gauge("bellbuoy_rule_group_last_duration_seconds", "What the last evaluation took.")
        self.group_samples = gauge("bellbuoy_rule_group_last_samples", "Samples that the last evaluation stored.")

    def forget(self, group: str) -> None:
        """Remove a group that is gone."""
        for metric in (
            self.evaluations, self.failures, self.iterations, self.missed, self.group_rules, self.group_interval,
            self.group_last_evaluation, self.group_duration, self.group_samples,
        ):  # fmt: skip
            if (group,) in metric._metrics:
                metric.remove(group)
