"""Sends alerts to alertmanagers by API v2: batched, queued within bounds, each alertmanager by itself.

Rules say an alert again and again while it fires, so what is lost by a full queue or a dead alertmanager is said anew
within a minute; retries cover the short outages. External labels are added and `alert_relabel_configs` applied here.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote_plus

import aiohttp
import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import Field

from bellbuoy.configuration import Duration, Strict
from bellbuoy.logs import fields, timestamp
from bellbuoy.relabel import RelabelConfig, relabeler
from bellbuoy.rules.alerting import Alert, AlertingRule
from bellbuoy.scrape import (
    Discovery,
    Failed,
    HttpClient,
    HttpClientConfig,
    HttpDiscovery,
    StaticConfig,
    endless,
    log_failure,
    refused_discovery,
)
from bellbuoy.scrape.config import DnsDiscovery, FileDiscovery
from bellbuoy.scrape.targets import ADDRESS

log = logging.getLogger(__name__)


class AlertmanagerConfig(HttpClientConfig):
    """One entry of `alerting.alertmanagers`."""

    scheme: Literal["http", "https"] = "http"
    path_prefix: str = "/"
    timeout: Duration = 10.0
    api_version: Literal["v2"] = "v2"
    static_configs: list[StaticConfig] = Field(default_factory=list)
    file_sd_configs: list[FileDiscovery] = Field(default_factory=list)
    http_sd_configs: list[HttpDiscovery] = Field(default_factory=list)
    dns_sd_configs: list[DnsDiscovery] = Field(default_factory=list)
    relabel_configs: list[RelabelConfig] = Field(default_factory=list)
    alert_relabel_configs: list[RelabelConfig] = Field(default_factory=list)

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of Prometheus that this program does not take."""
        return super().refused() | refused_discovery()


class AlertingConfig(Strict):
    """`alerting`."""

    alert_relabel_configs: list[RelabelConfig] = Field(default_factory=list)
    alertmanagers: list[AlertmanagerConfig] = Field(default_factory=list)


@dataclass(frozen=True)
class NotifierOptions:
    """The notifier's settings."""

    # Alerts that wait for one alertmanager; past it the oldest are dropped, since they will be said again.
    queue_alerts: int = 10_000
    # Alerts in one request.
    batch_alerts: int = 256
    # Tries for one batch, and the wait after the first; it doubles.
    tries: int = 3
    retry_seconds: float = 0.5
    external_url: str = ""


def api_alert(alert: Alert, *, expr: str, valid_until: float, external_url: str) -> dict[str, Any]:
    """An alert as API v2 takes it."""
    ends = alert.resolved_at or valid_until
    return {
        "labels": dict(alert.labels),
        "annotations": {name: text for name, text in alert.annotations.items() if text},
        "startsAt": timestamp(alert.fired_at),
        "endsAt": timestamp(ends),
        "generatorURL": f"{external_url}/graph?g0.expr={quote_plus(expr)}&g0.tab=1",
    }


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        name = ["alertmanager"]
        self.sent = Counter("bellbuoy_notifications_sent", "Alerts sent to an alertmanager.", name, registry=registry)
        self.errors = Counter(
            "bellbuoy_notifications_errors",
            "Alerts that could not be sent to an alertmanager.",
            name,
            registry=registry,
        )
        self.dropped = Counter(
            "bellbuoy_notifications_dropped",
            "Alerts that an alertmanager never got: the queue was full, they could not be sent, or the server ended.",
            name,
            registry=registry,
        )
        self.capacity = Gauge(
            "bellbuoy_notifications_queue_capacity", "Alerts that may wait for one alertmanager.", registry=registry
        )
        self.queued = Gauge("bellbuoy_notifications_queue_length", "Alerts that wait.", name, registry=registry)
        self.seconds = Histogram(
            "bellbuoy_notifications_duration_seconds", "Time to send a batch of alerts.", name, registry=registry
        )
        self.known = Gauge("bellbuoy_notifications_alertmanagers", "Alertmanagers that are known.", registry=registry)

    def forget(self, url: str) -> None:
        for metric in (self.sent, self.errors, self.dropped, self.queued, self.seconds):
            if (url,) in metric._metrics:
                metric.remove(url)


class _Sender:
    """The queue of one alertmanager and the task that empties it."""

    def __init__(
        self, url: str, client: HttpClient, options: NotifierOptions, *, metrics: _Metrics, failed: Failed
    ) -> None:
        self.url, self._client, self._options, self._metrics = url, client, options, metrics
        self._queue: deque[dict[str, Any]] = deque()
        self._wake = asyncio.Event()
        # Nothing waits and nothing is being sent.
        self.idle = asyncio.Event()
        self.idle.set()
        self.last_error = ""
        for metric in (metrics.sent, metrics.errors, metrics.dropped, metrics.queued):
            metric.labels(url)
        self.task = endless(self._run(), name=f"notify {url}", failed=failed)

    def put(self, alerts: Sequence[dict[str, Any]]) -> None:
        self._queue.extend(alerts)
        if (over := len(self._queue) - self._options.queue_alerts) > 0:
            for _ in range(over):
                self._queue.popleft()
            self._metrics.dropped.labels(self.url).inc(over)
        self._metrics.queued.labels(self.url).set(len(self._queue))
        self._wake.set()
        self.idle.clear()

    def end(self) -> None:
        """Stop now; what waits is lost, and counted."""
        self.task.cancel()
        if self._queue:
            self._metrics.dropped.labels(self.url).inc(len(self._queue))
            log.warning("alerts are left unsent", extra=fields(url=self.url, alerts=len(self._queue)))
            self._queue.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._options.batch_alerts))]
            self._metrics.queued.labels(self.url).set(len(self._queue))
            if batch:
                await self._send(batch)
            if not self._queue:
                self._wake.clear()
                self.idle.set()

    async def _send(self, batch: list[dict[str, Any]]) -> None:
        body = orjson.dumps(batch)
        for attempt in range(self._options.tries):
            if attempt:
                await asyncio.sleep(self._options.retry_seconds * 2 ** (attempt - 1))
            start = time.monotonic()
            error, again = await self._post(body)
            self._metrics.seconds.labels(self.url).observe(time.monotonic() - start)
            if not error:
                if self.last_error:
                    log.info("alertmanager takes alerts again", extra=fields(url=self.url))
                self.last_error = ""
                self._metrics.sent.labels(self.url).inc(len(batch))
                return
            if not again:
                break
        if self.last_error != error:
            log.warning("cannot send alerts", extra=fields(url=self.url, alerts=len(batch), error=error))
        self.last_error = error
        self._metrics.errors.labels(self.url).inc(len(batch))
        self._metrics.dropped.labels(self.url).inc(len(batch))

    async def _post(self, body: bytes) -> tuple[str, bool]:
        """What went wrong, if anything, and whether it may go right the next time."""
        try:
            status, answer = await self._client.request(
                "POST", self.url, body=body, headers={"Content-Type": "application/json"}
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            return str(e) or type(e).__name__, True
        if status // 100 == 2:
            return "", False
        return f"it answers {status}: {answer[:200].decode(errors='replace').strip()}", status >= 500 or status == 429


class _Section:
    """One entry of `alertmanagers`: its discovery, its client, its senders."""

    def __init__(self, at: int, config: AlertmanagerConfig, base: Path | None, notifier: "Notifier") -> None:
        self.config, self.base, self._notifier = config, base, notifier
        self._client = HttpClient(config, base=base, timeout_seconds=config.timeout)
        self._rules, self._alert_rules = relabeler(config.relabel_configs), relabeler(config.alert_relabel_configs)
        self.senders: dict[str, _Sender] = {}
        self.dropped: list[str] = []
        self.discovery = Discovery(
            f"alertmanagers[{at}]",
            static=config.static_configs,
            files=config.file_sd_configs,
            http=config.http_sd_configs,
            dns=config.dns_sd_configs,
            base=base,
            changed=self._changed,
            failures=notifier.discovery_failures.inc,
            failed=notifier.failed,
        )
        self._changed()
        self.discovery.start()

    def _changed(self) -> None:
        urls, dropped = set(), set()
        for group in self.discovery.groups():
            for own in group.targets:
                found = {
                    **own,
                    "__scheme__": self.config.scheme,
                    "__alerts_path__": f"/{self.config.path_prefix.strip('/')}/api/v2/alerts".replace("//", "/"),
                    **{name: text for name, text in group.labels.items() if name not in own},
                }
                labels = self._rules.apply(found)
                if labels is None or not labels.get(ADDRESS):
                    dropped.add(_url(found))
                else:
                    urls.add(_url(labels))
        self.dropped = sorted(dropped)
        for url in [url for url in self.senders if url not in urls]:
            self.senders.pop(url).end()
            if url not in self._notifier.urls():
                self._notifier.metrics.forget(url)
        for url in urls - set(self.senders):
            self.senders[url] = _Sender(
                url,
                self._client,
                self._notifier.options,
                metrics=self._notifier.metrics,
                failed=self._notifier.failed,
            )
        self._notifier.count()

    def put(self, alerts: Sequence[dict[str, Any]]) -> None:
        if self.config.alert_relabel_configs:
            alerts = relabel_alerts(alerts, self._alert_rules)
        if alerts:
            for sender in self.senders.values():
                sender.put(alerts)

    async def stop(self) -> None:
        await self.discovery.stop()
        for sender in self.senders.values():
            sender.end()
        await asyncio.gather(*(sender.task for sender in self.senders.values()), return_exceptions=True)
        await self._client.close()


def _url(labels: Mapping[str, str]) -> str:
    return f"{labels.get('__scheme__', '')}://{labels.get(ADDRESS, '')}{labels.get('__alerts_path__', '')}"


def relabel_alerts(alerts: Sequence[dict[str, Any]], rules: Any) -> list[dict[str, Any]]:
    """The alerts that the rules keep, with the labels that they give."""
    out = []
    for alert in alerts:
        labels = rules.apply(alert["labels"])
        if labels:
            out.append({**alert, "labels": labels})
    return out


class Notifier:
    """Owns the senders. `send()` may be called from any thread, the rest in the loop that made it."""

    def __init__(self, options: NotifierOptions, *, registry: CollectorRegistry, failed: Failed = log_failure) -> None:
        self.options, self.failed = options, failed
        self.metrics = _Metrics(registry)
        self.discovery_failures = Counter(
            "bellbuoy_alertmanager_discovery_failures",
            "Times that a source of alertmanagers failed.",
            registry=registry,
        )
        self._loop = asyncio.get_running_loop()
        self._config: tuple[AlertingConfig, Path | None] = (AlertingConfig(), None)
        self._external: Mapping[str, str] = {}
        self._rules = relabeler([])
        self._sections: list[_Section] = []
        self.metrics.capacity.set(options.queue_alerts)

    async def apply(self, config: AlertingConfig, *, base: Path | None, external_labels: Mapping[str, str]) -> None:
        """Send to these alertmanagers from now on; the same configuration changes nothing."""
        self._external = dict(external_labels)
        if self._config == (config, base):
            return
        self._config = (config, base)
        self._rules = relabeler(config.alert_relabel_configs)
        old, self._sections = self._sections, []
        for at, one in enumerate(config.alertmanagers):
            # What is the same goes on with its queue and with what it found.
            same = next((section for section in old if section.config == one and section.base == base), None)
            if same is not None:
                old.remove(same)
            self._sections.append(same or _Section(at, one, base, self))
        for section in old:
            await section.stop()
            for url in set(section.senders) - set(self.urls()):
                self.metrics.forget(url)
        self.count()

    def send(self, alerts: Sequence[Alert], rule: AlertingRule, valid_until: float) -> None:
        """Queue the alerts of a rule for every alertmanager."""
        out = [
            api_alert(alert, expr=rule.config.expr, valid_until=valid_until, external_url=self.options.external_url)
            for alert in alerts
        ]
        self._loop.call_soon_threadsafe(self._put, out)

    def _put(self, alerts: list[dict[str, Any]]) -> None:
        if self._external:
            alerts = [{**alert, "labels": {**self._external, **alert["labels"]}} for alert in alerts]
        if self._config[0].alert_relabel_configs:
            alerts = relabel_alerts(alerts, self._rules)
        for section in self._sections:
            section.put(alerts)

    def count(self) -> None:
        """Set the gauge of known alertmanagers."""
        self.metrics.known.set(len(self.urls()))

    def urls(self) -> list[str]:
        """Where alerts go."""
        return sorted({url for section in self._sections for url in section.senders})

    def dropped_urls(self) -> list[str]:
        """Alertmanagers that were found and that relabeling dropped."""
        return sorted({url for section in self._sections for url in section.dropped})

    def errors(self) -> dict[str, str]:
        """Alertmanagers that do not take alerts, and why."""
        return {
            url: sender.last_error
            for section in self._sections
            for url, sender in section.senders.items()
            if sender.last_error
        }

    async def stop(self, *, drain_seconds: float = 2.0) -> None:
        """Give what is queued a moment to leave, then end."""
        waits = [sender.idle.wait() for one in self._sections for sender in one.senders.values()]
        try:
            await asyncio.wait_for(asyncio.gather(*waits), drain_seconds)
        except TimeoutError:
            log.warning("alerts are left unsent at the end", extra=fields(alertmanagers=sorted(self.errors())))
        for section in self._sections:
            await section.stop()
        self._sections = []
