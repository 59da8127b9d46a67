"""Targets of a stack: for each scrape pool an `http_sd` answer, plain JSON that a real Prometheus reads as well.

A pool is a ScrapeTarget, named `namespace.name`, or one of the stack's own: `node`, `cadvisor`, `server`,
`alertmanager`, `pushgateway`. Relabelings of a ScrapeTarget run here and not at the server: so its status can count
what they drop, and what binds a resource to its namespace is set after them, out of their reach.

Three labels tell our server what a pod is about to do; others drop them, as all that starts with `__`:
`__bellbuoy_every_second__` (a Job's), `__bellbuoy_terminating__`, `__bellbuoy_not_ready__` (has not been ready yet).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bellbuoy.relabel import Relabeler
from bellbuoy.resources.model import MonitoringStack, Relabeling, ScrapeTarget
from bellbuoy.resources.pods import ContainerPort, Node, Pod, host_port, label_name, pod_meta
from bellbuoy.resources.selection import Selection

EVERY_SECOND = "__bellbuoy_every_second__"
TERMINATING = "__bellbuoy_terminating__"
NOT_READY = "__bellbuoy_not_ready__"
# Labels on the pods of a stack's own parts; the operator sets them, discovery reads them.
STACK_LABEL = "bellbuoy.io/stack"
PART_LABEL = "bellbuoy.io/part"
# The parts, their port and the name of their pool.
PART_PORTS: Mapping[str, int] = {"server": 9090, "alertmanager": 9093, "pushgateway": 9091, "node-exporter": 9100}
NODE_POOL = "node"
CADVISOR_POOL = "cadvisor"
PART_POOLS: Mapping[str, str] = {part: NODE_POOL if part == "node-exporter" else part for part in PART_PORTS}

Group = dict[str, Any]
PodsOf = Callable[[str], Iterable[Pod]]


@dataclass(frozen=True)
class PoolTargets:
    """The `http_sd` answer of one pool, and what was counted while it was made."""

    groups: Sequence[Group]
    pods: int = 0
    dropped: int = 0

    @property
    def matched(self) -> int:
        """Targets after relabeling."""
        return len(self.groups)


def rule_of(relabeling: Relabeling) -> dict[str, Any]:
    """A relabeling as `relabel_configs` and the core take it."""
    out: dict[str, Any] = {
        "source_labels": list(relabeling.source_labels),
        "separator": relabeling.separator,
        "regex": relabeling.regex,
        "replacement": relabeling.replacement,
        "action": relabeling.action,
    }
    if relabeling.target_label:
        out["target_label"] = relabeling.target_label
    if relabeling.modulus:
        out["modulus"] = relabeling.modulus
    return out


def scrape_target_pool(
    selection: Selection, target: ScrapeTarget, pods_of: PodsOf, *, been_ready: Collection[str] = ()
) -> PoolTargets:
    """The targets of one ScrapeTarget.

    `pods_of` gives the pods of a namespace, `been_ready` holds uids of pods that were ready once. Raises ValueError
    when a relabeling cannot be used; the text says which and why.
    """
    spec, pods = target.spec, 0
    found: list[tuple[str, dict[str, str]]] = []
    if spec.static is not None:
        found = [(address, {}) for address in spec.static.addresses]
    elif spec.pods is not None:
        for namespace in sorted(selection.pod_namespaces(target)):
            for pod in pods_of(namespace):
                if pod.runs and spec.pods.selector.matches(pod.labels):
                    pods += 1
                    found.extend(_pod_targets(target, pod, been_ready))
    rules = [rule_of(one) for one in spec.relabelings]
    relabel = Relabeler(rules) if rules else None
    groups = []
    for address, labels in found:
        start = {"job": spec.job or target.name, **spec.labels, **labels}
        if spec.static is not None:
            start.setdefault("namespace", target.namespace)
        final = _relabeled(relabel, {**start, "__address__": address})
        if final is None:
            continue
        aimed = final.pop("__address__", address)
        if not selection.is_own(target):
            aimed, final["namespace"] = address, target.namespace
        # What the pod is about to do is not for relabelings to change.
        final.update({key: value for key, value in labels.items() if key in (EVERY_SECOND, TERMINATING, NOT_READY)})
        groups.append(_group(aimed, final))
    return PoolTargets(groups=_sorted(groups), pods=pods, dropped=len(found) - len(groups))


def _relabeled(relabel: Relabeler | None, labels: dict[str, str]) -> dict[str, str] | None:
    return labels if relabel is None else relabel.apply(labels)


def _pod_targets(target: ScrapeTarget, pod: Pod, been_ready: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for port, number in _ports(pod, target.spec.port):
        labels = pod_meta(pod, port)
        labels |= {"namespace": pod.namespace, "pod": pod.name, "container": port.container, "node": pod.node}
        for key in target.spec.pod_labels:
            if key in pod.labels:
                labels[label_name(key)] = pod.labels[key]
        yield (
            host_port(pod.ip, number),
            {key: value for key, value in (labels | _flags(pod, been_ready)).items() if value},
        )


def _ports(pod: Pod, wanted: int | str) -> list[tuple[ContainerPort, int]]:
    """The ports to scrape: by name every container's that has it; by number one, of the container that declares it."""
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    if isinstance(wanted, str):
        return [(port, port.number) for port in pod.ports if port.name == wanted and port.number]
    declared = [port for port in pod.ports if port.number == wanted and port.protocol == "TCP"]
    if declared:
        return [(declared[0], wanted)]
    containers = {port.container: port for port in reversed(pod.ports) if not port.init}
    only = next(iter(containers.values())) if len(containers) == 1 else None
    port = ContainerPort(only.container if only else "", only.image if only else "", False, "", wanted, "TCP")
    return [(port, wanted)]


def _flags(pod: Pod, been_ready: Collection[str]) -> dict[str, str]:
    out = {}
    if pod.owner_kind == "Job":
        out[EVERY_SECOND] = "true"
    if pod.terminating:
        out[TERMINATING] = "true"
    if not pod.ready and pod.uid not in been_ready:
        out[NOT_READY] = "true"
    return out


def own_pools(
    stack: MonitoringStack, pods: Iterable[Pod], nodes: Iterable[Node], *, been_ready: Collection[str] = ()
) -> dict[str, PoolTargets]:
    """The pools of the stack's own parts and of the kubelets; `pods` are those of the stack's namespace."""
    groups: dict[str, list[Group]] = {
        PART_POOLS[part]: [] for part in PART_PORTS if part == "server" or enabled(stack, part)
    }
    counts = dict.fromkeys(groups, 0)
    for pod in pods:
        part = pod.labels.get(PART_LABEL, "")
        pool = PART_POOLS.get(part, "")
        if pod.labels.get(STACK_LABEL) != stack.name or pool not in groups or not pod.runs:
            continue
        counts[pool] += 1
        labels = {"namespace": pod.namespace, "pod": pod.name, "container": part, "node": pod.node, "job": pool}
        labels["instance"] = pod.node if pool == NODE_POOL else pod.name
        groups[pool].append(_group(host_port(pod.ip, PART_PORTS[part]), labels | _flags(pod, been_ready)))
    if stack.spec.kubelet.cadvisor:
        groups[CADVISOR_POOL] = [
            _group(
                host_port(node.address, node.kubelet_port),
                {"node": node.name, "instance": node.name, "job": CADVISOR_POOL},
            )
            for node in nodes
            if node.address
        ]
    return {pool: PoolTargets(groups=_sorted(some), pods=counts.get(pool, 0)) for pool, some in groups.items()}


def enabled(stack: MonitoringStack, part: str) -> bool:
    """Whether the stack runs a part."""
    spec = stack.spec
    switches = {
        "node-exporter": spec.node_exporter.enabled,
        "alertmanager": spec.alertmanager.enabled,
        "pushgateway": spec.pushgateway.enabled,
    }
    return switches.get(part, True)


def _group(address: str, labels: Mapping[str, str]) -> Group:
    return {"targets": [address], "labels": {key: labels[key] for key in sorted(labels) if labels[key]}}


def _sorted(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (group["targets"], sorted(group["labels"].items())))
