"""The routes of Prometheus 3.16's web/api/v1/api.go, as data: what ours is compared with."""

_BOTH = (
    "/query", "/query_range", "/query_exemplars", "/format_query", "/parse_query", "/labels", "/series",
    "/search/metric_names", "/search/label_names", "/search/label_values",
)  # fmt: skip
_GET = (
    "/label/{name}/values", "/scrape_pools", "/scrape_pools/config", "/targets", "/targets/metadata",
    "/targets/relabel_steps", "/alertmanagers", "/metadata", "/status/config", "/status/runtimeinfo",
    "/status/buildinfo", "/status/flags", "/status/tsdb", "/status/tsdb/blocks", "/status/self_metrics", "/features",
    "/status/walreplay", "/notifications", "/notifications/live", "/alerts", "/rules", "/openapi.yaml",
)  # fmt: skip
_ADMIN = ("/admin/tsdb/delete_series", "/admin/tsdb/clean_tombstones", "/admin/tsdb/snapshot")

PROMETHEUS_ROUTES: tuple[tuple[str, str], ...] = (
    *((method, path) for path in _BOTH for method in ("GET", "POST")),
    *(("GET", path) for path in _GET),
    ("POST", "/read"),
    *((method, path) for path in _ADMIN for method in ("POST", "PUT")),
)

NOT_OURS: dict[tuple[str, str], str] = {
    ("POST", "/write"): "samples are received in another part, or not at all",
    ("POST", "/otlp/v1/metrics"): "as above",
    ("GET", "/query_cost"): "behind a feature flag there",
    ("POST", "/query_cost"): "behind a feature flag there",
    ("GET", "/query_range_cost"): "behind a feature flag there",
    ("POST", "/query_range_cost"): "behind a feature flag there",
}
