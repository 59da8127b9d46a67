"""What a stack takes: of all resources in the cluster, those that are its business, and where each may look.

A stack takes everything of its own namespace. `spec.selects.namespaces` widens that to other namespaces; what comes
from there is bound to its namespace: it scrapes pods of its own namespace only, its targets' and alerts' `namespace`
is its own, and it names no fixed addresses unless the stack allows it. So whoever may write resources in one
namespace cannot make the server send requests, or speak, for another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bellbuoy.resources.model import (
    AlertReceiver,
    AlertRule,
    MonitoringStack,
    RecordingRule,
    Resource,
    ScrapeTarget,
)


@dataclass(frozen=True)
class Refusal:
    """A resource that a stack does not take, or takes in part: a condition's reason and message."""

    reason: str
    message: str


@dataclass(frozen=True)
class Selection:
    """A stack and all that it takes, sorted. `refusals` are by `(kind, id)`: those resources are in none of the
    lists.
    """

    stack: MonitoringStack
    namespaces: frozenset[str]
    scrape_targets: Sequence[ScrapeTarget] = ()
    alert_rules: Sequence[AlertRule] = ()
    recording_rules: Sequence[RecordingRule] = ()
    receivers: Sequence[AlertReceiver] = ()
    refusals: Mapping[tuple[str, str], Refusal] = field(default_factory=dict)

    def is_own(self, resource: Resource[Any]) -> bool:
        """Whether the resource is of the stack's own namespace, which is free of what binds others."""
        return resource.namespace == self.stack.namespace

    def pod_namespaces(self, target: ScrapeTarget) -> frozenset[str]:
        """Where the target's pods are looked for."""
        own = frozenset((target.namespace,))
        if target.spec.pods is None:
            return frozenset()
        wanted = target.spec.pods.namespaces
        if not self.is_own(target):
            return own
        return own | (self.namespaces if wanted.any else self.namespaces & frozenset(wanted.names))


def stack_namespaces(stack: MonitoringStack, namespaces: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """The namespaces that a stack takes, of those that exist with their labels."""
    own = frozenset((stack.namespace,))
    wanted = stack.spec.selects.namespaces
    if wanted.from_ == "Own":
        return own
    if wanted.from_ == "All":
        return own | frozenset(namespaces)
    selector = wanted.selector
    return own | frozenset(name for name, labels in namespaces.items() if selector is None or selector.matches(labels))


def select(
    stack: MonitoringStack,
    resources: Iterable[Resource[Any]],
    *,
    namespaces: Mapping[str, Mapping[str, str]],
) -> Selection:
    """What the stack takes of these resources."""
    taken = stack_namespaces(stack, namespaces)
    by_kind: dict[str, list[Resource[Any]]] = {}
    refusals: dict[tuple[str, str], Refusal] = {}
    for one in sorted(resources, key=lambda r: (r.kind, r.namespace, r.name)):
        if one.namespace not in taken:
            continue
        refusal = _refusal(stack, one)
        if refusal is None:
            by_kind.setdefault(one.kind, []).append(one)
        else:
            refusals[one.kind, one.id] = refusal
    return Selection(
        stack=stack,
        namespaces=taken,
        scrape_targets=by_kind.get("ScrapeTarget", ()),
        alert_rules=by_kind.get("AlertRule", ()),
        recording_rules=by_kind.get("RecordingRule", ()),
        receivers=by_kind.get("AlertReceiver", ()),
        refusals=refusals,
    )


def _refusal(stack: MonitoringStack, resource: Resource[Any]) -> Refusal | None:
    if resource.kind != "ScrapeTarget" or resource.namespace == stack.namespace:
        return None
    if resource.spec.static is not None and stack.spec.selects.static != "All":
        return Refusal(
            "StaticNotAllowed",
            f"static targets are taken from the stack's namespace {stack.namespace} only: move the ScrapeTarget there, "
            f"or set spec.selects.static to All in MonitoringStack {stack.namespace}/{stack.name}",
        )
    return None
