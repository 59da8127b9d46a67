"""The server's own metrics: the storage's and the scraper's numbers, and how reloads went."""

import logging
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

import bellbuoy

log = logging.getLogger(__name__)
# Numbers of the core that only grow; all others are gauges.
_COUNTED = frozenset(
    {
        "samples_appended", "samples_duplicate", "rows_out_of_order", "wal_bytes_written", "commits", "commit_failures",
        "lost_bytes", "scrapes", "scrapes_failed", "samples_scraped", "samples_rejected", "wire_bytes", "body_bytes",
        "plan_hits", "plan_misses", "exemplars_appended", "exemplars_out_of_order",
    }
)  # fmt: skip


class CoreStats(Collector):
    """A `stats()` of the core as metrics `bellbuoy_PREFIX_KEY`."""

    def __init__(self, prefix: str, stats: Callable[[], Mapping[str, int]]) -> None:
        self._prefix, self._stats = prefix, stats

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known when the storage is open."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One family a number."""
        for key, value in sorted(self._stats().items()):
            name, text = f"bellbuoy_{self._prefix}_{key}", f"The core's {key.replace('_', ' ')} ({self._prefix})."
            if key in _COUNTED:
                yield CounterMetricFamily(name, text, value=value)
            else:
                yield GaugeMetricFamily(name, text, value=value)


class ServerMetrics:
    """Gauges of reloads and of the build."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._successful = Gauge(
            "bellbuoy_config_last_reload_successful", "Whether the last configuration could be used.", registry=registry
        )
        self._time = Gauge(
            "bellbuoy_config_last_reload_success_timestamp_seconds",
            "When a configuration was last put to use.",
            registry=registry,
        )
        build = Gauge("bellbuoy_build_info", "The version, as a label.", ["version"], registry=registry)
        build.labels(bellbuoy.__version__).set(1)
        ProcessCollector(registry=registry)

    def reloaded(self, *, successful: bool) -> None:
        """A configuration came."""
        self._successful.set(1 if successful else 0)
        if successful:
            self._time.set_to_current_time()
