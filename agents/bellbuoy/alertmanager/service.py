"""The running alertmanager: stores, their files, the current configuration and its dispatcher, and the order of it all.

Start: lock the folder, load what is there, take the configuration, feed the dispatcher, listen. Stop: answer what is
under way, let notifications end, write the rest. A disk that fails ends the part: it could not keep its word.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from prometheus_client import CollectorRegistry

from bellbuoy.alertmanager.alerts import Alert, AlertStore
from bellbuoy.alertmanager.config import Config, ConfigError, Receiver, load_config
from bellbuoy.alertmanager.dispatch import Dispatcher
from bellbuoy.alertmanager.inhibition import Inhibitor
from bellbuoy.alertmanager.metrics import Metrics
from bellbuoy.alertmanager.nflog import NotificationLog
from bellbuoy.alertmanager.options import Options
from bellbuoy.alertmanager.routing import build_route
from bellbuoy.alertmanager.senders import Sender
from bellbuoy.alertmanager.silences import Silence, Silences
from bellbuoy.alertmanager.slack import SlackSender
from bellbuoy.alertmanager.storage import StateFile, lock_folder
from bellbuoy.alertmanager.times import Clock
from bellbuoy.alertmanager.webhook import PrintSender, WebhookSender
from bellbuoy.http import Health
from bellbuoy.http.follow import Change, ConfigFollower, RejectedError
from bellbuoy.logs import fields

log = logging.getLogger(__name__)

# Alerts are sent again every minute or so: what a crash loses is at most the last words of this time.
ALERTS_DELAY_SECONDS = 1.0
# How often ended alerts, old silences and old log entries are dropped.
CLEANING_SECONDS = 60.0
# How long notifications under way may take when we are told to stop.
STOP_SECONDS = 5.0
# Until a configuration says otherwise.
RESOLVE_TIMEOUT_SECONDS = 300.0
PART_NAME = "alertmanager.yml"


class Service:
    """All that the API reads and changes. `run()` keeps it going; `apply()` takes a configuration."""

    def __init__(self, options: Options, *, clock: Clock, registry: CollectorRegistry) -> None:
        self.options, self.clock, self.registry = options, clock, registry
        self.started = datetime.now(UTC)
        self.health = Health(reason="no configuration yet")
        self.metrics = Metrics(registry)
        self.config: Config | None = None
        self.dispatcher: Dispatcher | None = None
        self.config_error = ""
        self.alerts = AlertStore()
        self.silences = Silences(clock, options.retention_seconds)
        self.nflog = NotificationLog()
        folder = options.storage_path
        self.silences_file = StateFile(
            folder / "silences",
            kind=b"s",
            dump=self.silences.dump,
            load=lambda content: self.silences.load(Silence.from_json(one) for one in content),
        )
        self.nflog_file = StateFile(folder / "nflog", kind=b"n", dump=self.nflog.dump, load=self.nflog.load)
        self.alerts_file = StateFile(
            folder / "alerts",
            kind=b"a",
            dump=self.alerts.dump,
            load=lambda content: self.alerts.load(Alert.from_json(one) for one in content),
            delay_seconds=ALERTS_DELAY_SECONDS,
        )
        self.silences.changed = self.silences_file.changed
        self.nflog.changed = self.nflog_file.changed
        self.alerts.changed = self.alerts_file.changed
        self._applied = asyncio.Event()
        for state in ("active", "suppressed"):
            self.metrics.alerts.labels(state).set_function(partial(self.count_alerts, state))
        for state in ("active", "pending", "expired"):
            self.metrics.silences.labels(state).set_function(partial(self.count_silences, state))

    @property
    def files(self) -> Sequence[StateFile]:
        """All state files."""
        return (self.silences_file, self.nflog_file, self.alerts_file)

    @property
    def resolve_timeout_seconds(self) -> float:
        """After how long an alert without an end, of which nothing more is heard, has ended."""
        return self.config.global_.resolve_timeout if self.config else RESOLVE_TIMEOUT_SECONDS

    def put(self, alert: Alert) -> None:
        """Take an alert. Without a configuration it waits in the store for one."""
        known = self.alerts.put(alert, now=self.clock.now())
        if self.dispatcher is not None:
            self.dispatcher.put(known)

    def apply(self, config: Config) -> None:
        """Make this the configuration: a new dispatcher gets all alerts, and the log knows what was told already."""
        dispatcher = Dispatcher(
            route=build_route(config.route),
            senders={receiver.name: build_senders(receiver, config) for receiver in config.receivers},
            intervals={interval.name: interval for interval in config.all_time_intervals()},
            alerts=self.alerts,
            silences=self.silences,
            inhibitor=Inhibitor(config.inhibit_rules, self.alerts),
            nflog=self.nflog,
            nflog_file=self.nflog_file,
            clock=self.clock,
            metrics=self.metrics,
            external_url=self.options.external_url,
        )
        for alert in self.alerts:
            dispatcher.put(alert)
        self.config, self.dispatcher = config, dispatcher
        self._applied.set()
        self.health.set_ready()
        self.metrics.config_success.set(1)
        self.metrics.config_time.set(time.time())
        self.config_error = ""
        log.info("configuration taken", extra=fields(receivers=len(config.receivers)))

    def load_file(self) -> None:
        """Read and apply the configuration file. Raises ConfigError; what was before stays."""
        path = self.options.config_file
        if path is None:
            raise ConfigError("cannot reload: the configuration comes from the operator; change its resources")
        try:
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError) as e:
                raise ConfigError(f"cannot read {path}: {e}; set --config.file to a file that we may read") from e
            self.apply(load_config(text, name=str(path), folder=path.resolve().parent))
        except ConfigError as e:
            self._refuse(str(e))
            raise

    async def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Run until `serve` ends. Raises StateError, ConfigError or OSError when it cannot."""
        lock = lock_folder(self.options.storage_path)
        try:
            for file in self.files:
                file.load()
            if self.options.config_file is not None:
                self.load_file()
            try:
                async with asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(file.run()) for file in self.files]
                    running += [tasks.create_task(self._clean()), tasks.create_task(self._dispatch())]
                    if self.options.config_url:
                        running.append(tasks.create_task(self._follower().run()))
                    await serve()
                    await self._quiet()
                    for task in running:
                        task.cancel()
            except ExceptionGroup as group:
                # One cause is enough to say; more than one are shown together.
                if len(group.exceptions) == 1:
                    raise group.exceptions[0] from group
                raise
            for file in self.files:
                await file.close()
        finally:
            os.close(lock)

    def count_alerts(self, state: str) -> int:
        """How many fire, in that state."""
        now, dispatcher = self.clock.now(), self.dispatcher
        count = 0
        for alert in self.alerts:
            if not alert.resolved_at(now):
                muted = dispatcher is not None and bool(dispatcher.muting(alert.labels))
                count += muted == (state == "suppressed")
        return count

    def count_silences(self, state: str) -> int:
        """How many are in that state."""
        now = self.clock.now()
        return sum(silence.state(now) == state for silence in self.silences.all())

    def _follower(self) -> ConfigFollower:
        options = self.options
        return ConfigFollower(
            url=options.config_url,
            apply=self._apply_followed,
            cache_folder=options.storage_path / "config",
            token_file=options.config_token_file,
            ca_file=options.config_ca_file,
            wanted=lambda name: name == PART_NAME,
            registry=self.registry,
        )

    async def _apply_followed(self, change: Change) -> None:
        body = change.parts.get(PART_NAME)
        if body is None:
            self._refuse(f"the operator has no {PART_NAME} for this stack")
            raise RejectedError(f"the operator has no {PART_NAME} for this stack; see the stack's status")
        if PART_NAME not in change.changed and self.config is not None:
            return
        try:
            self.apply(load_config(body.decode(), name=PART_NAME))
        except (ConfigError, UnicodeDecodeError) as e:
            self._refuse(str(e))
            raise RejectedError(str(e)) from e

    def _refuse(self, error: str) -> None:
        self.metrics.config_success.set(0)
        self.config_error = error
        if self.config is None:
            self.health.set_waiting(error)

    async def _dispatch(self) -> None:
        """Run the dispatcher of the current configuration; a new one takes its place at once."""
        while True:
            await self._applied.wait()
            self._applied.clear()
            if self.dispatcher is None:
                raise RuntimeError("BUG: a configuration was applied without a dispatcher")
            running = asyncio.create_task(self.dispatcher.run())
            changed = asyncio.create_task(self._applied.wait())
            try:
                await asyncio.wait({running, changed}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
            finally:
                changed.cancel()
                running.cancel()
                await asyncio.gather(running, changed, return_exceptions=True)

    async def _quiet(self) -> None:
        if self.dispatcher is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self.dispatcher.quiet()

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(CLEANING_SECONDS)
            now = self.clock.now()
            self.silences.forget_old()
            self.nflog.forget_old(now=now)
            if self.dispatcher is not None:
                self.alerts.forget_resolved(self.dispatcher.held(), now=now)


def build_senders(receiver: Receiver, config: Config) -> list[Sender]:
    """One for each integration of the receiver, with what it inherits from `global`."""
    http = config.global_.http_config
    senders: list[Sender] = []
    for n, slack in enumerate(receiver.slack_configs):
        if not slack.api_url and not slack.api_url_file:
            inherited = {"api_url": config.global_.slack_api_url, "api_url_file": config.global_.slack_api_url_file}
            slack = slack.model_copy(update=inherited)
        senders.append(SlackSender(slack, http=http, index=n))
    senders += [WebhookSender(webhook, http=http, index=n) for n, webhook in enumerate(receiver.webhook_configs)]
    senders += [PrintSender(printed, index=n) for n, printed in enumerate(receiver.print_configs)]
    return senders
