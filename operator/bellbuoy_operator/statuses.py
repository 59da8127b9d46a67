"""The `status` of our resources: made of what each stack says of them, written when it differs.

A `StatusBoard` holds, for each resource, the word of each stack that takes it; the status of a resource is all of
those and a summary over them. A resource that no stack takes says so, and what to do. Writing is one task's: at most
once a turn, only what changed, only while the lease is ours.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bellbuoy.logs import fields
from bellbuoy_operator.cluster import Cluster, ClusterError
from bellbuoy_operator.own_kinds import KINDS, Entry, Key, OwnKinds

log = logging.getLogger(__name__)

# Between two turns of writing.
TURN_SECONDS = 1.0
# Writes of statuses that run at the same time.
WRITES = 8
_ERROR_LIMIT = 4096
# Of these a summary is the sum over all stacks, of the others the first stack's that has one.
_SUMS = ("matched", "dropped", "up", "series", "seriesDropped", "active", "failures")
_STATES = ("firing", "pending", "inactive", "unknown")

StackKey = tuple[str, str]


@dataclass(frozen=True)
class Condition:
    """A condition, without the times that the board adds."""

    type: str
    ok: bool | None
    reason: str
    message: str = ""

    def rendered(self, *, generation: int) -> dict[str, Any]:
        """As it stands in a status, but for lastTransitionTime."""
        status = "Unknown" if self.ok is None else str(self.ok)
        return {
            "type": self.type,
            "status": status,
            "reason": self.reason,
            "message": self.message[:_ERROR_LIMIT],
            "observedGeneration": generation,
        }


@dataclass(frozen=True)
class Word:
    """What one stack says of one resource."""

    conditions: Sequence[Condition]
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class StatusBoard:
    """All words, by resource and stack; and of stacks themselves, which have one word each."""

    words: dict[Key, dict[StackKey, Word]] = field(default_factory=dict)
    stacks: dict[Key, Word] = field(default_factory=dict)

    def say(self, stack: StackKey, words: Mapping[Key, Word]) -> None:
        """These are all the words of the stack; those that it said before and says no more are gone."""
        for key in [key for key, by_stack in self.words.items() if stack in by_stack and key not in words]:
            del self.words[key][stack]
        for key, word in words.items():
            self.words.setdefault(key, {})[stack] = word

    def forget_resource(self, key: Key) -> None:
        """The resource is gone."""
        self.words.pop(key, None)
        self.stacks.pop(key, None)

    def status(self, key: Key, entry: Entry) -> dict[str, Any] | None:
        """The status that the resource should have; None while nothing is known of it."""
        generation = int(entry.raw["metadata"].get("generation") or 0)
        before = entry.raw.get("status") or {}
        if entry.resource is None:
            mistake = Condition("Accepted", False, "Invalid", entry.mistake)
            word = Word([mistake], {"lastError": entry.mistake[:_ERROR_LIMIT]})
            return _render(word, before, generation)
        if key[0] == "MonitoringStack":
            word_of_stack = self.stacks.get(key)
            return None if word_of_stack is None else _render(word_of_stack, before, generation)
        said = self.words.get(key) or {}
        status = _render(_summary(key, said), before, generation)
        known = {(one["namespace"], one["name"]): one for one in before.get("stacks") or ()}
        status["stacks"] = [
            {
                "namespace": stack[0],
                "name": stack[1],
                **_known(word.values),
                "conditions": _conditions(word.conditions, known.get(stack, {}).get("conditions"), generation),
            }
            for stack, word in sorted(said.items())
        ]
        return status


def _summary(key: Key, said: Mapping[StackKey, Word]) -> Word:
    if not said:
        return Word(
            [
                Condition(
                    "Accepted",
                    False,
                    "NoStack",
                    f"no MonitoringStack takes resources of namespace {key[1]}: make one there, or widen "
                    "spec.selects.namespaces of another",
                )
            ]
        )
    values: dict[str, Any] = {}
    for _, word in sorted(said.items()):
        for name, value in word.values.items():
            if value is None:
                continue
            if name in _SUMS:
                values[name] = values.get(name, 0) + value
            elif name == "state":
                values[name] = min(values.get(name, "unknown"), value, key=_STATES.index)
            elif name in ("lastEvaluation", "lastNotification"):
                values[name] = max(values.get(name, ""), value)
            elif value or name not in values:
                values[name] = values.get(name) or value
    types = list(dict.fromkeys(one.type for word in said.values() for one in word.conditions))
    return Word([_worst(kind, said) for kind in types], values)


def _worst(kind: str, said: Mapping[StackKey, Word]) -> Condition:
    """Accepted when any stack accepts it; else, for other conditions, the worst of all."""
    all_of_it = [one for _, word in sorted(said.items()) for one in word.conditions if one.type == kind]
    order = (True, None, False) if kind == "Accepted" else (False, None, True)
    return min(all_of_it, key=lambda one: order.index(one.ok))


def _render(word: Word, before: Mapping[str, Any], generation: int) -> dict[str, Any]:
    conditions = _conditions(word.conditions, before.get("conditions"), generation)
    return {"observedGeneration": generation, **_known(word.values), "conditions": conditions}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known: an empty text is no time, and no error either."""
    return {name: value for name, value in sorted(values.items()) if value is not None and value != ""}


def _conditions(
    conditions: Sequence[Condition], before: Sequence[Mapping[str, Any]] | None, generation: int
) -> list[dict[str, Any]]:
    known = {one["type"]: one for one in before or ()}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    out = []
    for one in conditions:
        rendered = one.rendered(generation=generation)
        had = known.get(one.type)
        same = had is not None and had.get("status") == rendered["status"]
        rendered["lastTransitionTime"] = had["lastTransitionTime"] if same and had is not None else now
        out.append(rendered)
    return out


@dataclass
class StatusWriter:
    """Writes what the board says."""

    cluster: Cluster
    own: OwnKinds
    board: StatusBoard
    allowed: asyncio.Event

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.allowed.wait()
            await self.write_all()
            await asyncio.sleep(TURN_SECONDS)

    async def write_all(self) -> None:
        """Write each status that differs from what the resource has."""
        limit = asyncio.Semaphore(WRITES)

        async def write(key: Key, entry: Entry) -> None:
            status = self.board.status(key, entry)
            if status is None or status == (entry.raw.get("status") or {}):
                return
            async with limit:
                await self._write(key, status, entry)

        await asyncio.gather(*(write(key, entry) for key, entry in list(self.own.entries.items())))

    async def _write(self, key: Key, status: dict[str, Any], entry: Entry) -> None:
        kind, namespace, name = key
        # A merge leaves what it does not name: null removes what the status no longer has.
        gone = {field: None for field in entry.raw.get("status") or {} if field not in status}
        body = {"metadata": {"uid": entry.raw["metadata"]["uid"]}, "status": {**status, **gone}}
        try:
            answer = await self.cluster.merge(KINDS[kind], body, namespace=namespace, name=name, subresource="status")
        except ClusterError as e:
            # It may have been deleted just now, or made anew; otherwise the next turn tries again.
            if e.status not in (404, 409):
                log.warning("cannot write status", extra=fields(resource=f"{kind} {namespace}/{name}", error=e))
            return
        self.own.take(answer, gone=False)
