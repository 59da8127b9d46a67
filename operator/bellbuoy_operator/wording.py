"""What a stack says of each resource that it takes, and of itself: conditions and counts, from what was configured and
what was observed.

Pure. A condition's message tells the whole chain, and its last part what to do: "3 pods match, but none declares a port
named metrics; they declare http: set spec.port".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bellbuoy.resources import (
    PART_POOLS,
    AlertReceiver,
    MonitoringStack,
    PoolTargets,
    Refusal,
    Resource,
    ScrapeTarget,
    SecretUse,
    Selection,
    enabled,
    secret_uses,
)
from bellbuoy_operator.observing import Observation, PoolState, ReceiverState, RuleState
from bellbuoy_operator.own_kinds import Key
from bellbuoy_operator.statuses import Condition, Word
from bellbuoy_operator.world import Owned, World

ACCEPTED = "Accepted"
READY = "Ready"


@dataclass(frozen=True)
class Facts:
    """All that a stack's words are made of."""

    stack: MonitoringStack
    selection: Selection
    pools: Mapping[str, PoolTargets]
    refusals: Mapping[tuple[str, str], Refusal]
    secret_refusals: Mapping[SecretUse, Refusal]
    observation: Observation


def words_of_resources(facts: Facts, world: World) -> dict[Key, Word]:
    """The words about all resources that the stack takes, and about those that it refuses."""
    selection = facts.selection
    out: dict[Key, Word] = {}
    for (kind, id_), refusal in facts.refusals.items():
        namespace, _, name = id_.partition(".")
        condition = Condition(ACCEPTED, False, refusal.reason, refusal.message)
        out[kind, namespace, name] = Word([condition], {"lastError": refusal.message})
    taken: list[Resource[Any]] = [
        *selection.scrape_targets,
        *selection.alert_rules,
        *selection.recording_rules,
        *selection.receivers,
    ]
    for one in taken:
        key = (one.kind, one.namespace, one.name)
        if key in out:
            continue
        accepted = _accepted(one, facts)
        match one.kind:
            case "ScrapeTarget":
                word = _scrape_target(one, facts, world)
            case "AlertReceiver":
                word = _receiver(one, facts)
            case _:
                word = _rule(one, facts)
        values = dict(word.values)
        if not accepted.ok:
            values["lastError"] = accepted.message
        out[key] = Word([accepted, *word.conditions], values)
    return out


def _accepted(resource: Resource[Any], facts: Facts) -> Condition:
    for use in sorted(secret_uses(resource)):
        if use in facts.secret_refusals:
            refusal = facts.secret_refusals[use]
            return Condition(ACCEPTED, False, refusal.reason, refusal.message)
    if resource.kind == "AlertReceiver" and not enabled(facts.stack, "alertmanager"):
        text = f"MonitoringStack {facts.stack.namespace}/{facts.stack.name} runs no alertmanager: set "
        return Condition(ACCEPTED, False, "NoAlertmanager", text + "spec.alertmanager.enabled to true in it")
    return Condition(ACCEPTED, True, "Taken", "the stack takes it")


def _scrape_target(target: ScrapeTarget, facts: Facts, world: World) -> Word:
    pool = facts.pools.get(target.id, PoolTargets(groups=()))
    state = None if facts.observation.pools is None else facts.observation.pools.get(target.id, PoolState())
    values: dict[str, Any] = {"matched": pool.matched, "dropped": pool.dropped}
    if state is not None:
        values |= {"up": state.up, "series": state.series, "lastError": state.last_error}
        if target.spec.series_budget:
            values["seriesDropped"] = state.series_dropped
    return Word([_scraped(target, pool, state, facts, world)], values)


def _scraped(target: ScrapeTarget, pool: PoolTargets, state: PoolState | None, facts: Facts, world: World) -> Condition:
    if pool.matched == 0:
        return Condition(READY, False, "NoTargets", _why_none(target, pool, facts, world))
    if state is None:
        return Condition(READY, None, "ServerSilent", "; ".join(facts.observation.errors) or "no server runs yet")
    if state.targets == 0:
        return Condition(READY, None, "NotScrapedYet", "the server has not taken the targets yet")
    if state.up < state.targets:
        down = state.targets - state.up
        text = f"{down} of {state.targets} targets are not up" + (f": {state.last_error}" if state.last_error else "")
        return Condition(READY, False, "TargetsDown", text)
    text = f"all {state.targets} targets are up"
    if state.series_dropped:
        text += f", but {state.series_dropped} series are left out: raise spec.seriesBudget, or let targets show fewer"
        return Condition(READY, True, "OverBudget", text)
    return Condition(READY, True, "AllUp", text)


def _why_none(target: ScrapeTarget, pool: PoolTargets, facts: Facts, world: World) -> str:
    if pool.dropped:
        return f"{pool.dropped} targets were found, and spec.relabelings drop all of them: see keep and drop there"
    if target.spec.pods is None:
        return "spec.static has no addresses"
    where = facts.selection.pod_namespaces(target)
    names = ", ".join(sorted(where)[:5]) + (", …" if len(where) > 5 else "")
    matching = [
        pod for space in sorted(where) for pod in world.pods_of(space) if target.spec.pods.selector.matches(pod.labels)
    ]
    if not matching:
        return f"no pod in namespace {names} has the labels that spec.pods.selector asks for"
    if pool.pods == 0:
        phases = ", ".join(sorted({pod.phase or "unknown" for pod in matching}))
        return f"{len(matching)} pods match, but none runs yet (phase {phases})"
    ports = sorted({port.name or str(port.number) for pod in matching for port in pod.ports if port.number})
    declared = f"they declare {', '.join(ports[:10])}" if ports else "they declare none"
    return (
        f'{pool.pods} pods match, but none declares a port named "{target.spec.port}"; {declared}: set spec.port to '
        "one of these, or to a number"
    )


def _rule(rule: Resource[Any], facts: Facts) -> Word:
    state = None if facts.observation.rules is None else facts.observation.rules.get(rule.id)
    if state is None:
        why = "; ".join(facts.observation.errors) or "the server has not evaluated it yet"
        initial = {"state": "unknown"} if rule.kind == "AlertRule" else {}
        return Word([Condition(READY, None, "NotEvaluatedYet", why)], initial)
    values: dict[str, Any] = {"lastEvaluation": state.last_evaluation, "lastError": state.last_error}
    values |= _alerts(state) if rule.kind == "AlertRule" else {"series": state.series}
    if state.last_error:
        return Word([Condition(READY, False, "EvaluationFailed", state.last_error)], values)
    return Word([Condition(READY, True, "Evaluated", "its last evaluation succeeded")], values)


def _alerts(state: RuleState) -> dict[str, Any]:
    return {"state": state.state, "active": state.active}


def _receiver(receiver: AlertReceiver, facts: Facts) -> Word:
    seen = facts.observation.receivers
    state = None if seen is None else seen.get(receiver.id, ReceiverState())
    if state is None:
        why = "; ".join(facts.observation.errors) or "no alertmanager runs yet"
        return Word([Condition(READY, None, "AlertmanagerSilent", why)])
    values = {
        "lastNotification": state.last_notification,
        "failures": state.failures,
        "lastError": state.last_error,
    }
    if state.last_error:
        return Word([Condition(READY, False, "NotificationFailed", state.last_error)], values)
    text = f"last notification at {state.last_notification}" if state.last_notification else "nothing to tell yet"
    return Word([Condition(READY, True, "Delivering", text)], values)


def word_of_stack(facts: Facts, *, workloads: Sequence[Owned], version: str, reconcile_error: str) -> Word:
    """The word about the stack itself. `workloads` are its StatefulSet, DaemonSet and Deployments."""
    parts = [part for part in PART_POOLS if part == "server" or enabled(facts.stack, part)]
    by_part = {one.part: one for one in workloads}
    ready = [part for part in parts if part in by_part and by_part[part].complete]
    waiting = [part for part in parts if part not in ready]
    values: dict[str, Any] = {
        "ready": f"{len(ready)}/{len(parts)}",
        "targets": sum(pool.matched for pool in facts.pools.values()),
        "version": version,
        "lastError": reconcile_error,
    }
    refused = [facts.secret_refusals[use] for use in sorted(secret_uses(facts.stack)) if use in facts.secret_refusals]
    if facts.observation.pools is not None:
        values["up"] = sum(pool.up for pool in facts.observation.pools.values())
        known = [pool.series for pool in facts.observation.pools.values() if pool.series is not None]
        values["series"] = sum(known) if known else None
    if reconcile_error:
        applied = Condition("Reconciled", False, "ApplyFailed", reconcile_error)
    elif refused:
        # What it is for fails by itself; the server runs on.
        applied = Condition("Reconciled", False, refused[0].reason, refused[0].message)
        values["lastError"] = refused[0].message
    else:
        applied = Condition("Reconciled", True, "Applied", "all its objects are as they should be")
    if waiting:
        text = f"not ready: {', '.join(f'{part} ({_progress(by_part.get(part))})' for part in waiting)}"
        return Word([Condition(READY, False, "PartsNotReady", text), applied], values)
    return Word([Condition(READY, True, "PartsReady", "all its parts are ready"), applied], values)


def _progress(owned: Owned | None) -> str:
    return "not made yet" if owned is None else f"{owned.ready} of {owned.wanted} pods"
