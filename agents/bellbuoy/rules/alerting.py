"""An alerting rule: which alerts are active, since when, and what becomes of them with each evaluation.

`evaluate()` takes the result of the expression and moves every alert: unseen → pending → firing → inactive. Alerts are
values and the whole state is replaced at once, so that the API can read it while a thread evaluates. A resolved alert
is kept for a quarter of an hour, so that the alertmanager hears of it more than once.

`for` survives a restart: each active alert's start is stored as `ALERTS_FOR_STATE`, and an alert that turns up again
in the first evaluations goes on from there; the time in between does not count.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bellbuoy.exposition import go_number
from bellbuoy.labels import NAME
from bellbuoy.rules.config import VARIABLES, RuleConfig
from bellbuoy.rules.recording import RuleError
from bellbuoy.rules.restoring import Key, Restored, restored_start
from bellbuoy.rules.template import Template, TemplateError
from bellbuoy.rules.template_functions import KNOWN, Samples, functions
from bellbuoy.tsdb import Histogram

ALERTS, FOR_STATE = "ALERTS", "ALERTS_FOR_STATE"
ALERT_NAME, ALERT_STATE = "alertname", "alertstate"
PENDING, FIRING, INACTIVE, UNKNOWN = "pending", "firing", "inactive", "unknown"
# How long a resolved alert is still told to the alertmanager.
RESOLVED_KEPT_SECONDS = 900.0


@dataclass(frozen=True)
class Alert:
    """One alert of a rule. Times are seconds since 1970; 0 is never."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float
    state: str
    active_at: float
    fired_at: float = 0.0
    resolved_at: float = 0.0
    last_sent_at: float = 0.0
    keep_firing_since: float = 0.0

    def needs_sending(self, at: float, resend_seconds: float) -> bool:
        """Whether the alertmanager should hear of it now."""
        if self.state == PENDING:
            return False
        if not self.last_sent_at:
            return True
        return self.resolved_at > self.last_sent_at or self.last_sent_at + resend_seconds < at


@dataclass(frozen=True)
class TemplateContext:
    """What templates see beside the alert itself."""

    external_labels: Mapping[str, str]
    external_url: str
    query: Callable[[str], Samples]
    now: float = 0.0
    """The time of the evaluation."""
    expanded: Callable[[bool], None] = lambda _: None
    """Told of each text that was expanded, and whether it could be."""


@dataclass
class AlertingRule:
    """The rule with its alerts. `restore` is emptied when the time for it is over."""

    config: RuleConfig
    grace_seconds: float = 600.0
    active: Mapping[Key, Alert] = field(default_factory=dict)
    restore: Mapping[Key, Restored] = field(default_factory=dict)
    evaluated: bool = False
    """Whether it has ever been; until then nothing is known of its state."""

    def __post_init__(self) -> None:
        def read(texts: Mapping[str, str]) -> dict[str, Template]:
            return {name: Template(text, functions=KNOWN, variables=VARIABLES) for name, text in texts.items()}

        self._labels, self._annotations = read(self.config.labels), read(self.config.annotations)

    @property
    def state(self) -> str:
        """The worst state of its alerts."""
        if not self.evaluated:
            return UNKNOWN
        states = {alert.state for alert in self.active.values()}
        return next((state for state in (FIRING, PENDING) if state in states), INACTIVE)

    def evaluate(
        self,
        samples: Sequence[tuple[Mapping[str, str], float | Histogram]],
        *,
        at: float,
        context: TemplateContext,
        limit: int,
    ) -> list[tuple[dict[str, str], float]]:
        """Move all alerts; returns what is stored of them. Raises RuleError and leaves the alerts as they were."""
        self.evaluated = True
        seen = self._alerts(samples, at=at, context=context)
        active: dict[Key, Alert] = {}
        for key, alert in seen.items():
            known = self.active.get(key)
            if known is not None and known.state != INACTIVE:
                active[key] = replace(known, value=alert.value, annotations=alert.annotations, keep_firing_since=0.0)
            else:
                active[key] = replace(alert, active_at=self._start(key, at))
        for key, alert in self.active.items():
            if key not in seen and (kept := self._unseen(alert, at)) is not None:
                active[key] = kept
        hold = self.config.for_
        for key, alert in active.items():
            held = at - alert.active_at >= hold
            if alert.state == PENDING and held:
                active[key] = replace(alert, state=FIRING, fired_at=at)
            elif alert.state == FIRING and not held:  # a reload made `for` longer
                active[key] = replace(alert, state=PENDING, fired_at=0.0, last_sent_at=0.0, keep_firing_since=0.0)
        count = sum(alert.state != INACTIVE for alert in active.values())
        if limit and count > limit:
            self.active = {}
            raise RuleError(f"exceeded limit of {limit} with {count} alerts")
        self.active = active
        return self._stored()

    def _start(self, key: Key, at: float) -> float:
        known = self.restore.get(key)
        if known is None:
            return at
        return restored_start(known, at=at, hold_seconds=self.config.for_, grace_seconds=self.grace_seconds)

    def _unseen(self, alert: Alert, at: float) -> Alert | None:
        """An alert that the expression no longer gives: kept firing, resolved, or (None) forgotten."""
        if alert.state == PENDING:
            return None
        if alert.state == FIRING:
            since = alert.keep_firing_since or at
            if self.config.keep_firing_for and at - since < self.config.keep_firing_for:
                return replace(alert, keep_firing_since=since)
            return replace(alert, state=INACTIVE, resolved_at=at, keep_firing_since=0.0)
        return alert if at - alert.resolved_at <= RESOLVED_KEPT_SECONDS else None

    def _alerts(
        self, samples: Sequence[tuple[Mapping[str, str], float | Histogram]], *, at: float, context: TemplateContext
    ) -> dict[Key, Alert]:
        if not samples:
            return {}
        table = functions(query=context.query, external_url=context.external_url, now=context.now)
        out: dict[Key, Alert] = {}
        for found, value in samples:
            expand = _expander(found, value, context, table)
            labels = {name: text for name, text in found.items() if name != NAME}
            labels |= {name: expand(template) for name, template in self._labels.items()}
            labels[ALERT_NAME] = self.config.alert
            labels = {name: text for name, text in labels.items() if text}
            key = tuple(sorted(labels.items()))
            if key in out:
                raise RuleError(
                    "vector contains metrics with the same labelset after applying alert labels; "
                    "aggregate the expression"
                )
            annotations = {name: expand(template) for name, template in self._annotations.items()}
            number = 0.0 if isinstance(value, Histogram) else value
            out[key] = Alert(labels, annotations, number, PENDING, at)
        return out

    def texts(
        self,
        alert: Mapping[str, str],
        samples: Sequence[tuple[Mapping[str, str], float | Histogram]],
        context: TemplateContext,
    ) -> Mapping[str, str]:
        """The annotations of one alert that these samples gave; for who does not need those of all."""
        if not self._annotations:
            return {}
        table = functions(query=context.query, external_url=context.external_url, now=context.now)
        own = {*self._labels, ALERT_NAME, NAME}
        wanted = {name: text for name, text in alert.items() if name not in own}
        for found, value in samples:
            # An alert's labels are its sample's, the rule's over them.
            if {name: text for name, text in found.items() if name not in own} == wanted:
                expand = _expander(found, value, context, table)
                if all(expand(template) == alert.get(name, "") for name, template in self._labels.items()):
                    return {name: expand(template) for name, template in self._annotations.items()}
        return {}

    def _stored(self) -> list[tuple[dict[str, str], float]]:
        out = []
        for alert in self.active.values():
            if alert.state != INACTIVE:
                out.append(({**alert.labels, NAME: ALERTS, ALERT_STATE: alert.state}, 1.0))
                out.append(({**alert.labels, NAME: FOR_STATE}, float(int(alert.active_at))))
        return out

    def take_to_send(self, at: float, *, resend_seconds: float) -> list[Alert]:
        """The alerts that the alertmanager should hear of now; they are marked as sent."""
        out = [alert for alert in self.active.values() if alert.needs_sending(at, resend_seconds)]
        if out:
            self.active = {
                key: replace(alert, last_sent_at=at) if alert.needs_sending(at, resend_seconds) else alert
                for key, alert in self.active.items()
            }
        return out


def _expander(
    labels: Mapping[str, str],
    value: float | Histogram,
    context: TemplateContext,
    table: Mapping[str, Callable[..., Any]],
) -> Callable[[Template], str]:
    """What fills in a template for one sample; a mistake in it is said in its place."""
    dot = {
        "Labels": labels,
        "ExternalLabels": context.external_labels,
        "ExternalURL": context.external_url,
        "Value": value,
    }
    variables = {
        "$labels": labels,
        "$externalLabels": context.external_labels,
        "$externalURL": context.external_url,
        "$value": value,
    }

    def expand(template: Template) -> str:
        try:
            text = template.expand(functions=table, variables=variables, dot=dot)
        except TemplateError as e:
            context.expanded(False)
            return f"<error expanding template: {e}>"
        context.expanded(True)
        return text

    return expand


def format_alert_value(value: float) -> str:
    """As the API prints an alert's value: `1e+00`."""
    text = go_number(value)
    if text[-1] in "fN":
        return text
    digits = f"{value:.17e}"
    for precision in range(17):
        if float(f"{value:.{precision}e}") == value:
            digits = f"{value:.{precision}e}"
            break
    return digits
