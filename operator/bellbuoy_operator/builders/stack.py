"""All objects of a stack, in the order in which they are applied: what others mount or run as comes first."""

import base64
from collections.abc import Mapping

from bellbuoy.resources import MonitoringStack, enabled
from bellbuoy_operator.builders.common import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    STACK_NAMESPACE_LABEL,
    Object,
    Settings,
    labels,
    metadata,
    object_name,
    secrets_name,
)
from bellbuoy_operator.builders.deployments import alertmanager_objects, pushgateway_objects
from bellbuoy_operator.builders.node_exporter import node_exporter_objects
from bellbuoy_operator.builders.server import server_objects

# The ClusterRole in deploy/base that lets a server ask kubelets; the operator may bind this one and no other.
KUBELET_ROLE = "bellbuoy-kubelet-metrics"
# On a stack while something outside its namespace is its own.
FINALIZER = "bellbuoy.io/cluster-bindings"


def stack_objects(stack: MonitoringStack, settings: Settings) -> list[Object]:
    """All objects that the stack owns, but for its Secret and what lies outside its namespace."""
    objects = [_ca(stack, settings), *server_objects(stack, settings)]
    for part, build in (
        ("node-exporter", node_exporter_objects),
        ("alertmanager", alertmanager_objects),
        ("pushgateway", pushgateway_objects),
    ):
        if enabled(stack, part):
            objects.extend(build(stack, settings))
    return objects


def _ca(stack: MonitoringStack, settings: Settings) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(stack, "operator-ca"),
        "data": {"ca.crt": settings.ca_pem},
    }


def secret_copies(stack: MonitoringStack, values: Mapping[str, bytes]) -> Object:
    """The Secret that holds the copies, by file name."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(stack, "secrets", name=secrets_name(stack)),
        "type": "Opaque",
        "data": {name: base64.b64encode(values[name]).decode() for name in sorted(values)},
    }


def kubelet_binding_name(namespace: str, name: str) -> str:
    """The name of a stack's ClusterRoleBinding: two stacks of one name in two namespaces do not meet."""
    return f"bellbuoy:{namespace}:{name}:kubelet-metrics"


def kubelet_binding(stack: MonitoringStack) -> Object:
    """What lets the server ask kubelets. It cannot be owned by a namespaced object, so a finalizer removes it."""
    common = labels(stack, "server")
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {
            "name": kubelet_binding_name(stack.namespace, stack.name),
            "labels": {**common, MANAGED_BY_LABEL: MANAGED_BY, STACK_NAMESPACE_LABEL: stack.namespace},
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": KUBELET_ROLE},
        "subjects": [{"kind": "ServiceAccount", "namespace": stack.namespace, "name": object_name(stack, "server")}],
    }
