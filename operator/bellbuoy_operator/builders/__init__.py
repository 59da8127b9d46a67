"""Pure builders of a stack's Kubernetes objects: dicts out of a MonitoringStack, tested by golden YAML."""

from bellbuoy_operator.builders.common import (
    AUDIENCE,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    OPERATOR_FOLDER,
    SECRETS_FOLDER,
    STACK_NAMESPACE_LABEL,
    Images,
    Object,
    Settings,
    object_name,
    secrets_name,
)
from bellbuoy_operator.builders.stack import (
    FINALIZER,
    KUBELET_ROLE,
    kubelet_binding,
    kubelet_binding_name,
    secret_copies,
    stack_objects,
)

__all__ = [
    "AUDIENCE",
    "FINALIZER",
    "KUBELET_ROLE",
    "MANAGED_BY",
    "MANAGED_BY_LABEL",
    "OPERATOR_FOLDER",
    "SECRETS_FOLDER",
    "STACK_NAMESPACE_LABEL",
    "Images",
    "Object",
    "Settings",
    "kubelet_binding",
    "kubelet_binding_name",
    "object_name",
    "secret_copies",
    "secrets_name",
    "stack_objects",
]
