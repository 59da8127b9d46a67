"""Resources and pods for tests, in few words."""

from typing import Any

from bellbuoy.resources import Pod, Resource, Selection, read_pod, read_resource, select


def resource(kind: str, name: str, spec: dict[str, Any], *, namespace: str = "shop") -> Resource[Any]:
    """A resource as the API server would give it."""
    metadata = {"namespace": namespace, "name": name, "uid": f"uid-{name}", "generation": 1}
    return read_resource({"apiVersion": "bellbuoy.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})


def pod(
    name: str,
    *,
    namespace: str = "shop",
    labels: dict[str, str] | None = None,
    ip: str = "10.0.0.1",
    ready: bool = True,
    phase: str = "Running",
    owner: str = "",
    terminating: bool = False,
    ports: tuple[dict[str, Any], ...] = ({"name": "metrics", "containerPort": 8080},),
) -> Pod:
    """A pod as the API server would give it."""
    metadata: dict[str, Any] = {"namespace": namespace, "name": name, "uid": f"uid-{name}"}
    metadata["labels"] = {"app": "web"} if labels is None else labels
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "owner", "controller": True}]
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec = {"nodeName": "node-0", "containers": [{"name": "app", "image": "app:1", "ports": list(ports)}]}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return read_pod(
        {
            "metadata": metadata,
            "spec": spec,
            "status": {"phase": phase, "podIP": ip, "hostIP": "192.168.0.1", "conditions": conditions},
        }
    )


def selection(
    *resources: Resource[Any], stack: dict[str, Any] | None = None, namespaces: tuple[str, ...] = ("shop", "other")
) -> Selection:
    """What a stack `shop/main` takes of these."""
    main = resource("MonitoringStack", "main", stack or {})
    return select(main, resources, namespaces={name: {"name": name} for name in namespaces})
