"""What discovery needs of a pod and a node, read once from the object that the API server sends.

A `Pod` is small, immutable and cheap to compare: the operator keeps one for each pod of the cluster in place of the
object.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NOT_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container declares. A container without ports has one entry, with number 0."""

    container: str
    image: str
    init: bool
    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, as far as scraping is concerned."""

    namespace: str
    name: str
    uid: str
    ip: str
    node: str
    host_ip: str
    phase: str
    ready: bool
    terminating: bool
    owner_kind: str
    owner_name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    ports: Sequence[ContainerPort]

    @property
    def runs(self) -> bool:
        """Whether it can be scraped: it has an address and has not ended."""
        return self.phase == "Running" and bool(self.ip)


@dataclass(frozen=True, slots=True)
class Node:
    """A node and where its kubelet listens."""

    name: str
    address: str
    kubelet_port: int
    labels: Mapping[str, str]


# An annotation longer than this is no metadata for scraping: kubectl keeps whole manifests in one.
_ANNOTATION_LIMIT = 1024


def read_pod(raw: Mapping[str, Any]) -> Pod:
    """The pod of an API object."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    owner: Mapping[str, Any] = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    annotations = metadata.get("annotations") or {}
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        ip=status.get("podIP", ""),
        node=spec.get("nodeName", ""),
        host_ip=status.get("hostIP", ""),
        phase=status.get("phase", ""),
        ready=conditions.get("Ready") == "True",
        terminating="deletionTimestamp" in metadata,
        owner_kind=owner.get("kind", ""),
        owner_name=owner.get("name", ""),
        labels=metadata.get("labels") or {},
        annotations={key: value for key, value in annotations.items() if len(value) <= _ANNOTATION_LIMIT},
        ports=tuple(_ports(spec)),
    )


def _ports(spec: Mapping[str, Any]) -> list[ContainerPort]:
    out = []
    for field, init in (("containers", False), ("initContainers", True)):
        for container in spec.get(field) or ():
            ports: Sequence[Mapping[str, Any]] = container.get("ports") or ({},)
            for port in ports:
                out.append(
                    ContainerPort(
                        container=container["name"],
                        image=container.get("image", ""),
                        init=init,
                        name=port.get("name", ""),
                        number=int(port.get("containerPort", 0)),
                        protocol=port.get("protocol", "TCP") if port else "",
                    )
                )
    return out


def read_node(raw: Mapping[str, Any]) -> Node:
    """The node of an API object."""
    status = raw.get("status") or {}
    addresses = {one["type"]: one["address"] for one in reversed(status.get("addresses") or ())}
    endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    return Node(
        name=raw["metadata"]["name"],
        address=addresses.get("InternalIP") or addresses.get("ExternalIP") or addresses.get("Hostname", ""),
        kubelet_port=int(endpoint.get("Port") or 10250),
        labels=raw["metadata"].get("labels") or {},
    )


def label_name(text: str) -> str:
    """A label's or annotation's key as part of a label name: what may not stand there becomes `_`."""
    return _NOT_A_LABEL.sub("_", text)


def host_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def pod_meta(pod: Pod, port: ContainerPort) -> dict[str, str]:
    """The labels `__meta_kubernetes_*` of one port of a pod, as Prometheus's role `pod` has them."""
    out = {
        "__meta_kubernetes_namespace": pod.namespace,
        "__meta_kubernetes_pod_name": pod.name,
        "__meta_kubernetes_pod_ip": pod.ip,
        "__meta_kubernetes_pod_uid": pod.uid,
        "__meta_kubernetes_pod_phase": pod.phase,
        "__meta_kubernetes_pod_ready": "true" if pod.ready else "false",
        "__meta_kubernetes_pod_node_name": pod.node,
        "__meta_kubernetes_pod_host_ip": pod.host_ip,
        "__meta_kubernetes_pod_controller_kind": pod.owner_kind,
        "__meta_kubernetes_pod_controller_name": pod.owner_name,
        "__meta_kubernetes_pod_container_name": port.container,
        "__meta_kubernetes_pod_container_image": port.image,
        "__meta_kubernetes_pod_container_init": "true" if port.init else "false",
    }
    if port.number:
        out["__meta_kubernetes_pod_container_port_name"] = port.name
        out["__meta_kubernetes_pod_container_port_number"] = str(port.number)
        out["__meta_kubernetes_pod_container_port_protocol"] = port.protocol
    for kind, pairs in (("label", pod.labels), ("annotation", pod.annotations)):
        for key, value in pairs.items():
            out[f"__meta_kubernetes_pod_{kind}_{label_name(key)}"] = value
            out[f"__meta_kubernetes_pod_{kind}present_{label_name(key)}"] = "true"
    return {key: value for key, value in out.items() if value}
