"""From alerts to notifications: an alert joins a group at each route that takes it, and each group has its own times.

A group waits `group_wait` for company, then looks every `group_interval`: what is inhibited, muted or silenced is
left out, the notification log says whether the rest is news, and each integration of the receiver is told on its own.
An alert that has ended leaves its group once that was told; a group without alerts ends. The dispatcher reads clocks
and stores, and knows nothing of files, HTTP or configuration: a new configuration makes a new dispatcher, fed with
the stored alerts.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from bellbuoy.alertmanager.alerts import Alert, AlertStore, by_place, fingerprint, format_label_set
from bellbuoy.alertmanager.inhibition import Inhibitor
from bellbuoy.alertmanager.intervals import TimeInterval
from bellbuoy.alertmanager.metrics import Metrics
from bellbuoy.alertmanager.nflog import NotificationLog
from bellbuoy.alertmanager.notification import Notification
from bellbuoy.alertmanager.routing import Route
from bellbuoy.alertmanager.senders import DeliveryError, Sender, deliver
from bellbuoy.alertmanager.silences import Silences
from bellbuoy.alertmanager.times import Clock, seconds, sleep_until, to_datetime
from bellbuoy.logs import fields

log = logging.getLogger(__name__)

# A flush may take its group_interval, and this long at least, until its retries are given up.
MIN_FLUSH_SECONDS = 10.0


class Saved(Protocol):
    """Where the notification log is made durable."""

    async def saved(self) -> None:
        """Return when all changes so far are."""


@dataclass(frozen=True)
class Muting:
    """Why an alert is not told: what silences it, what inhibits it."""

    silenced_by: Sequence[str] = ()
    inhibited_by: Sequence[int] = ()

    def __bool__(self) -> bool:
        return bool(self.silenced_by or self.inhibited_by)


@dataclass(eq=False)
class Group:
    """Alerts of one route with equal group labels."""

    route: Route
    labels: Mapping[str, str]
    next_flush: int
    alerts: dict[int, Alert] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name in the notification log and in payloads."""
        return f"{self.route.key}:{format_label_set(self.labels)}"


@dataclass
class Dispatcher:
    """Groups of one configuration. `run()` tells of them until it is cancelled; `put()` adds alerts at any time."""

    route: Route
    senders: Mapping[str, Sequence[Sender]]
    intervals: Mapping[str, TimeInterval]
    alerts: AlertStore
    silences: Silences
    inhibitor: Inhibitor
    nflog: NotificationLog
    nflog_file: Saved
    clock: Clock
    metrics: Metrics
    external_url: str = ""

    def __post_init__(self) -> None:
        self._groups: dict[tuple[str, int], Group] = {}
        self._fresh: asyncio.Queue[Group] = asyncio.Queue()
        self._telling = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def run(self) -> None:
        """One task for each group, as long as it has alerts. Cancelling stops what is under way."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._run_group(await self._fresh.get()))

    def put(self, alert: Alert) -> None:
        """Add the alert, or what is now known of it, to its groups."""
        now = self.clock.now()
        for route in self.route.match(alert.labels):
            labels = route.group_labels(alert.labels)
            place = (route.id, fingerprint(labels))
            group = self._groups.get(place)
            if group is None:
                # One that has long been firing, as after a restart, need not wait for company.
                wait = seconds(route.group_wait_seconds)
                first = now if alert.starts_at + wait < now else now + wait
                group = self._groups[place] = Group(route, labels, first)
                self._fresh.put_nowait(group)
                self.metrics.groups.set(len(self._groups))
            group.alerts[alert.fingerprint] = alert

    async def quiet(self) -> None:
        """Return when no notification is under way."""
        await self._quiet.wait()

    def groups(self) -> list[Group]:
        """All groups, by labels and receiver."""
        return sorted(self._groups.values(), key=lambda g: (len(g.labels), sorted(g.labels.items()), g.route.receiver))

    def held(self) -> set[int]:
        """Fingerprints of the alerts that some group still has to tell of."""
        return {key for group in self._groups.values() for key in group.alerts}

    def muting(self, labels: Mapping[str, str]) -> Muting:
        """What keeps an alert with these labels from being told now."""
        now = self.clock.now()
        return Muting(self.silences.silenced_by(labels, now=now), self.inhibitor.inhibited_by(labels, now=now))

    def muted_by(self, route: Route) -> list[str]:
        """The time intervals that keep a whole route quiet now."""
        moment = to_datetime(self.clock.now())
        muted = [name for name in route.mute_time_intervals if self.intervals[name].contains(moment)]
        active = route.active_time_intervals
        if not muted and active and not any(self.intervals[name].contains(moment) for name in active):
            return list(active)
        return muted

    async def _run_group(self, group: Group) -> None:
        while group.alerts:
            await sleep_until(self.clock, group.next_flush)
            now = self.clock.now()
            interval = group.route.group_interval_seconds
            group.next_flush = now + seconds(interval)
            await self._flush(group, now=now, limit_seconds=max(interval, MIN_FLUSH_SECONDS))
        place = (group.route.id, fingerprint(group.labels))
        del self._groups[place]
        self.metrics.groups.set(len(self._groups))

    async def _flush(self, group: Group, *, now: int, limit_seconds: float) -> None:
        """Tell of the group as it is now; then let go of those whose end was told."""
        was = dict(group.alerts)
        frozen = [alert if alert.resolved_at(now) else replace(alert, ends_at=0) for alert in was.values()]
        frozen.sort(key=by_place)
        audible = self._audible(group, frozen)
        told = not audible or await self._tell(group, audible, now=now, limit_seconds=limit_seconds)
        if not told:
            return
        # One may have fired again meanwhile: then there is another alert in its place.
        gone = [key for key, alert in was.items() if alert.resolved_at(now) and group.alerts.get(key) is alert]
        for key in gone:
            del group.alerts[key]
        self.nflog.ended(group.key, gone)

    def _audible(self, group: Group, alerts: Iterable[Alert]) -> list[Alert]:
        if self.muted_by(group.route):
            self.metrics.suppressed.labels("time_interval").inc()
            return []
        out = []
        for alert in alerts:
            muting = self.muting(alert.labels)
            if muting:
                self.metrics.suppressed.labels("silence" if muting.silenced_by else "inhibition").inc()
            else:
                out.append(alert)
        return out

    async def _tell(self, group: Group, alerts: list[Alert], *, now: int, limit_seconds: float) -> bool:
        """Whether all integrations of the receiver were told, or need not be."""
        senders = self.senders[group.route.receiver]
        self._telling += 1
        self._quiet.clear()
        try:
            told = await asyncio.gather(
                *(self._tell_one(group, sender, alerts, now=now, limit_seconds=limit_seconds) for sender in senders)
            )
        finally:
            self._telling -= 1
            if not self._telling:
                self._quiet.set()
        return all(told)

    async def _tell_one(
        self, group: Group, sender: Sender, alerts: list[Alert], *, now: int, limit_seconds: float
    ) -> bool:
        firing = [alert.fingerprint for alert in alerts if not alert.resolved_at(now)]
        resolved = [alert.fingerprint for alert in alerts if alert.resolved_at(now)]
        receiver = group.route.receiver
        integration = f"{receiver}/{sender.kind}/{sender.index}"
        reason = self.nflog.reason(
            group.key,
            integration,
            firing=firing,
            resolved=resolved,
            send_resolved=sender.send_resolved,
            repeat_seconds=group.route.repeat_interval_seconds,
            now=now,
        )
        if not reason:
            return True
        # One that is not told of ends has nothing to hear when all have ended; the log must still forget them.
        if firing or sender.send_resolved:
            notification = Notification(
                receiver=receiver,
                group_key=group.key,
                group_labels=group.labels,
                route_labels=group.route.labels,
                alerts=[a for a in alerts if sender.send_resolved or not a.resolved_at(now)],
                external_url=self.external_url,
                reason=reason,
                moment=now,
            )
            pairs = fields(receiver=receiver, integration=sender.kind, group=group.key, reason=reason)
            try:
                await deliver(sender, notification, limit_seconds=limit_seconds, metrics=self.metrics, pairs=pairs)
            except DeliveryError as e:
                self.nflog.failed(receiver, str(e))
                log.error("notification failed", extra=fields(**pairs["fields"], error=e))  # noqa: TRY400 - its text says all
                return False
            self.nflog.succeeded(receiver, now=self.clock.now())
            log.info("notified", extra=fields(**pairs["fields"], firing=len(firing), resolved=len(resolved)))
        self.nflog.told(
            group.key,
            integration,
            firing=firing,
            resolved=resolved,
            repeat_seconds=group.route.repeat_interval_seconds,
            now=now,
        )
        await self.nflog_file.saved()
        return True
