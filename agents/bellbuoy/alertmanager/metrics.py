"""The alertmanager's own metrics, with Alertmanager's names: its dashboards and alerts work on ours."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Each declared once, in the part's own registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "alertmanager_alerts_received",
            "Alerts received, by their status.",
            ["status", "version"],
            registry=registry,
        )
        self.invalid = Counter(
            "alertmanager_alerts_invalid", "Alerts received that were invalid.", ["version"], registry=registry
        )
        self.alerts = Gauge("alertmanager_alerts", "Alerts by state.", ["state"], registry=registry)
        self.silences = Gauge("alertmanager_silences", "Silences by state.", ["state"], registry=registry)
        self.groups = Gauge("alertmanager_dispatcher_aggregation_groups", "Groups that have alerts.", registry=registry)
        self.suppressed = Counter(
            "alertmanager_notifications_suppressed",
            "Alerts left out of a notification, by what keeps them quiet.",
            ["reason"],
            registry=registry,
        )
        self.notifications = Counter(
            "alertmanager_notifications",
            "Notifications tried, by kind of receiver.",
            ["integration"],
            registry=registry,
        )
        self.failed = Counter(
            "alertmanager_notifications_failed",
            "Notifications that failed for good, by kind of receiver and reason.",
            ["integration", "reason"],
            registry=registry,
        )
        self.requests = Counter(
            "alertmanager_notification_requests",
            "Requests for notifications, retries included.",
            ["integration"],
            registry=registry,
        )
        self.requests_failed = Counter(
            "alertmanager_notification_requests_failed",
            "Requests for notifications that failed, retried or not.",
            ["integration"],
            registry=registry,
        )
        self.latency = Histogram(
            "alertmanager_notification_latency_seconds",
            "Time of one request for a notification.",
            ["integration"],
            buckets=(0.1, 0.5, 1, 5, 10, 15, 20),
            registry=registry,
        )
        self.config_success = Gauge(
            "alertmanager_config_last_reload_successful",
            "Whether the last configuration could be used (1) or not (0).",
            registry=registry,
        )
        self.config_time = Gauge(
            "alertmanager_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken.",
            registry=registry,
        )
        for status in ("firing", "resolved"):
            self.received.labels(status, "v2")
        self.invalid.labels("v2")
        for reason in ("silence", "inhibition", "time_interval"):
            self.suppressed.labels(reason)
