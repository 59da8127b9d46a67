"""The queries that are compared: what each asks, over how long, and which figure of the goals it stands for."""

from dataclasses import dataclass

from bench.query_data import HANDLERS, Place

_ITEMS = f'http_requests_total{{handler="{HANDLERS[2]}"}}'
_ORDERS = f'http_requests_total{{handler="{HANDLERS[3]}"}}'
_BOTH: tuple[Place, ...] = ("head", "blocks")

GOALS = {
    "aggregated": 0.3,
    "matrix": 0.5,
    "instant": 0.7,
    "joins": 1.0,
    "month": 0.5,
    "aggregated_clients": 0.33,
    "matrix_clients": 0.67,
    "peak": 0.7,
}
"""The most that ours may take of what Prometheus takes, by kind."""


@dataclass(frozen=True)
class Case:
    """One query."""

    name: str
    kind: str
    query: str
    hours: float = 0
    """Zero: at one time."""
    step: int = 60
    places: tuple[Place, ...] = _BOTH
    clients: bool = False
    """Asked by several clients at once, too."""


CASES = (
    Case("rate_2k", "aggregated", f"sum by (code) (rate({_ITEMS}[5m]))", 6),
    Case(
        "quantile_2k",
        "aggregated",
        "histogram_quantile(0.95, sum by (job, le) (rate(latency_seconds_bucket[5m])))",
        6,
    ),
    Case("quantile_each", "aggregated", "histogram_quantile(0.95, rate(latency_seconds_bucket[5m]))", 6, 240),
    Case("average_1k", "aggregated", "max by (zone) (avg_over_time(memory_bytes[5m]))", 6),
    Case("rate_10k", "aggregated", "sum by (code) (rate(http_requests_total[5m]))", 1, 15, clients=True),
    Case("targets_1k", "aggregated", "sum by (instance) (rate(http_requests_total[5m]))", 1, 30),
    Case("matrix_rate", "matrix", f"rate({_ITEMS}[5m])", 6),
    Case("matrix_10k", "matrix", "http_requests_total", 1, 60, clients=True),
    Case("instant_rate", "instant", "sum by (code) (rate(http_requests_total[5m]))"),
    Case("instant_10k", "instant", "http_requests_total"),
    Case("instant_filter", "instant", "memory_bytes > 2e8"),
    Case("instant_one", "instant", 'memory_bytes{instance="target-00003:9100"}'),
    Case(
        "join",
        "joins",
        f"sum by (version) (rate({_ITEMS}[5m]) * on (instance) group_left (version) target_info)",
        6,
    ),
    Case(
        "label_replace",
        "joins",
        f'sum by (shard) (label_replace(rate({_ITEMS}[5m]), "shard", "$1", "instance", "target-.*(.):9100"))',
        6,
    ),
    Case("subquery", "joins", f"max_over_time(sum by (zone) (rate({_ITEMS}[5m]))[30m:1m])", 6),
    Case("subquery_each", "joins", f"max_over_time(rate({_ITEMS}[5m])[10m:1m])", 1),
    Case("topk", "joins", f"sum(topk(5, rate({_ITEMS}[5m])))", 6),
    Case("or", "joins", f"sum by (code) (rate({_ITEMS}[5m]) or rate({_ORDERS}[5m]))", 6),
    Case("unless", "joins", f"sum by (zone) (memory_bytes unless on (instance) (rate({_ITEMS}[5m]) > 5))", 6),
    Case("month_rate", "month", "sum by (instance) (rate(jobs_total[1h]))", 720, 3600, ("month",)),
    Case("month_window", "month", "sum by (instance) (rate(jobs_total[5m]))", 720, 3600, ("month",)),
    Case("month_matrix", "month", "jobs_total", 720, 3600, ("month",)),
)
