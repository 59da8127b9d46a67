"""What a stack's server and alertmanager say of themselves: targets by pool, rules by group, receivers by name.

Asked over their own HTTP API at their pods' addresses, summed over all of a stack's servers. Whoever does not answer is
left out: its part of the status stays as it was last.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bellbuoy.resources import PART_PORTS, MonitoringStack, Pod
from bellbuoy.resources.pods import host_port
from bellbuoy.resources.targets import PART_LABEL, STACK_LABEL

log = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0


@dataclass
class PoolState:
    """The targets of one pool, summed."""

    targets: int = 0
    up: int = 0
    series: int | None = None
    series_dropped: int = 0
    last_error: str = ""


@dataclass
class RuleState:
    """One rule's last evaluation."""

    state: str = "unknown"
    active: int = 0
    series: int | None = None
    last_evaluation: str = ""
    last_error: str = ""


@dataclass
class ReceiverState:
    """One receiver's notifications."""

    last_notification: str = ""
    failures: int = 0
    last_error: str = ""


@dataclass
class Observation:
    """All of a stack at one time; None where nobody answered."""

    pools: dict[str, PoolState] | None = None
    rules: dict[str, RuleState] | None = None
    receivers: dict[str, ReceiverState] | None = None
    errors: list[str] = field(default_factory=list)


async def observe(session: aiohttp.ClientSession, stack: MonitoringStack, pods: list[Pod]) -> Observation:
    """Ask the stack's servers and its alertmanager; `pods` are those of the stack's namespace."""
    seen = Observation()
    mine = [pod for pod in pods if pod.runs and pod.labels.get(STACK_LABEL) == stack.name]
    servers = [pod for pod in mine if pod.labels.get(PART_LABEL) == "server"]
    alertmanagers = [pod for pod in mine if pod.labels.get(PART_LABEL) == "alertmanager"]
    targets, rules, receivers = await asyncio.gather(
        _ask(session, servers, "/api/v1/targets?state=active", seen),
        _ask(session, servers, "/api/v1/rules", seen),
        _ask(session, alertmanagers, "/api/v1/bellbuoy/receivers", seen),
    )
    if targets:
        seen.pools = {}
        for answer in targets:
            _add_targets(seen.pools, answer["data"]["activeTargets"])
    if rules:
        seen.rules = {}
        for answer in rules:
            _add_rules(seen.rules, answer["data"]["groups"])
    if receivers:
        seen.receivers = {}
        for answer in receivers:
            _add_receivers(seen.receivers, answer)
    return seen


async def _ask(session: aiohttp.ClientSession, pods: list[Pod], path: str, seen: Observation) -> list[Any]:
    answers = []
    for pod in pods:
        url = f"http://{host_port(pod.ip, PART_PORTS[pod.labels[PART_LABEL]])}{path}"
        try:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)) as response:
                response.raise_for_status()
                answers.append(await response.json(content_type=None))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
            seen.errors.append(f"pod {pod.name} does not answer: {str(e) or type(e).__name__}")
    return answers


def _add_targets(pools: dict[str, PoolState], targets: list[Mapping[str, Any]]) -> None:
    for one in targets:
        pool = pools.setdefault(one["scrapePool"], PoolState())
        pool.targets += 1
        pool.up += one["health"] == "up"
        # Fields of ours: a real Prometheus does not say them.
        if one.get("series") is not None:
            pool.series = (pool.series or 0) + int(one["series"])
        pool.series_dropped += int(one.get("seriesDropped") or 0)
        if one.get("lastError") and not pool.last_error:
            pool.last_error = f"{one.get('scrapeUrl', '')}: {one['lastError']}"


def _add_rules(rules: dict[str, RuleState], groups: list[Mapping[str, Any]]) -> None:
    for group in groups:
        for rule in group["rules"]:
            state = rules.setdefault(group["name"], RuleState())
            if rule.get("type") == "alerting":
                state.state = rule.get("state", "unknown")
                state.active += len(rule.get("alerts") or ())
            if rule.get("series") is not None:
                state.series = (state.series or 0) + int(rule["series"])
            if rule.get("health") == "unknown":
                state.state = "unknown"
            state.last_evaluation = max(state.last_evaluation, to_the_minute(rule.get("lastEvaluation", "")))
            state.last_error = state.last_error or rule.get("lastError", "")


def _add_receivers(receivers: dict[str, ReceiverState], answer: list[Mapping[str, Any]]) -> None:
    for one in answer:
        state = receivers.setdefault(one["name"], ReceiverState())
        state.failures += int(one.get("failures") or 0)
        state.last_notification = max(state.last_notification, to_the_second(one.get("lastNotification") or ""))
        state.last_error = state.last_error or one.get("lastError") or ""


def to_the_second(time: str) -> str:
    """An RFC 3339 time without its fraction; empty for none, and for Go's zero time."""
    return f"{time[:19]}Z" if len(time) >= 20 and not time.startswith("0001-") else ""


def to_the_minute(time: str) -> str:
    """The same with zero seconds: a status that moved with every evaluation would be written with every evaluation."""
    second = to_the_second(time)
    return f"{second[:17]}00Z" if second else ""
