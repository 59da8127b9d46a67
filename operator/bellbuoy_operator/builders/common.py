"""What all objects of a stack share: names, labels, owner, pod security, probes, volumes.

Builders are pure: a stack and settings go in, dicts as `kubectl apply` takes them come out, always the same for the
same input. Names are made from the stack's name and the part's, so that what was made is found again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bellbuoy.resources import API_VERSION, PART_PORTS, MonitoringStack
from bellbuoy.resources.model import Placement
from bellbuoy.resources.targets import PART_LABEL, STACK_LABEL

Object = dict[str, Any]

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "bellbuoy"
STACK_NAMESPACE_LABEL = "bellbuoy.io/stack-namespace"
# The user that every image runs as, and the group of what it writes.
USER_ID = 65532
# Who a token is for: the operator takes no other, and the API server does not take this one.
AUDIENCE = "bellbuoy"
TOKEN_SECONDS = 3600
# Where pods find what the operator gives them.
OPERATOR_FOLDER = "/var/run/bellbuoy/operator"
SECRETS_FOLDER = "/var/run/bellbuoy/secrets"
DATA_FOLDER = "/data"


@dataclass(frozen=True)
class Images:
    """Where images come from: `prefix` + part + `:` + `tag`."""

    prefix: str = "bellbuoy.io/"
    tag: str = "dev"

    def of(self, part: str) -> str:
        """The image of a part."""
        return f"{self.prefix}{part}:{self.tag}"


@dataclass(frozen=True)
class Settings:
    """What builders need to know besides the stack: images, where the operator answers, its CA."""

    images: Images
    service_url: str
    ca_pem: str

    def stack_url(self, stack: MonitoringStack) -> str:
        """The base of all that the operator answers about a stack."""
        return f"{self.service_url}/v1/stacks/{stack.namespace}/{stack.name}"


def object_name(stack: MonitoringStack, part: str) -> str:
    """The name of the part's objects."""
    return f"{stack.name}-{part}"


def selector(stack: MonitoringStack, part: str) -> dict[str, str]:
    """The labels that select the part's pods. They may never change: a workload's selector cannot."""
    return {STACK_LABEL: stack.name, PART_LABEL: part}


def labels(stack: MonitoringStack, part: str) -> dict[str, str]:
    """The labels of the part's objects and pods."""
    return {
        "app.kubernetes.io/name": f"bellbuoy-{part}",
        "app.kubernetes.io/instance": stack.name,
        "app.kubernetes.io/part-of": "bellbuoy",
        MANAGED_BY_LABEL: MANAGED_BY,
        **selector(stack, part),
    }


def metadata(stack: MonitoringStack, part: str, *, name: str = "") -> Object:
    """Metadata of an object in the stack's namespace, owned by the stack."""
    return {
        "namespace": stack.namespace,
        "name": name or object_name(stack, part),
        "labels": labels(stack, part),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "MonitoringStack",
                "name": stack.name,
                "uid": stack.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def external_url(stack: MonitoringStack, part: str, given: str) -> str:
    """Where links to the part lead: what the spec gives, else its service, which at least the cluster can reach."""
    return given.rstrip("/") or f"http://{object_name(stack, part)}.{stack.namespace}.svc:{PART_PORTS[part]}"


def service_account(stack: MonitoringStack, part: str) -> Object:
    """The identity of the part's pods."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(stack, part),
        "automountServiceAccountToken": False,
    }


def service(stack: MonitoringStack, part: str, *, headless: bool = False) -> Object:
    """The address of the part."""
    spec: Object = {
        "selector": selector(stack, part),
        "ports": [{"name": "http", "port": PART_PORTS[part], "targetPort": "http", "protocol": "TCP"}],
    }
    if headless:
        # A StatefulSet's pods need their names before they are ready.
        spec |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(stack, part), "spec": spec}


def container(
    part: str,
    *,
    settings: Settings,
    args: Sequence[str],
    placement: Placement,
    mounts: Sequence[Object],
    startup_seconds: int,
    image: str = "",
) -> Object:
    """The part's container, with its probes. `startup_seconds` is how long it may take until it is alive; `image` is
    that of the part unless another one is named."""
    out: Object = {
        "name": part,
        "image": settings.images.of(image or part),
        "imagePullPolicy": "IfNotPresent",
        "args": list(args),
        "ports": [{"name": "http", "containerPort": PART_PORTS[part], "protocol": "TCP"}],
        "startupProbe": _probe("/-/healthy", period=1, failures=startup_seconds),
        "livenessProbe": _probe("/-/healthy", period=10, failures=6),
        "readinessProbe": _probe("/-/ready", period=2, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a volume of its own
    }
    resources = {
        key: {name: str(value) for name, value in sorted(amounts.items())}
        for key, amounts in (("requests", placement.resources.requests), ("limits", placement.resources.limits))
        if amounts
    }
    if resources:
        out["resources"] = resources
    return out


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def pod_template(
    stack: MonitoringStack,
    part: str,
    *,
    container: Object,
    volumes: Sequence[Object],
    placement: Placement,
    service_account_token: bool = False,
    grace_seconds: int = 30,
) -> Object:
    """The part's pods: non-root, no privileges, a group that may write its volumes."""
    spec: Object = {
        "serviceAccountName": object_name(stack, part),
        "automountServiceAccountToken": service_account_token,
        "terminationGracePeriodSeconds": grace_seconds,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            # Without it every file of a large volume is visited at each start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }
    if placement.node_selector:
        spec["nodeSelector"] = dict(sorted(placement.node_selector.items()))
    if placement.tolerations:
        spec["tolerations"] = [one.model_dump(by_alias=True, exclude_none=True) for one in placement.tolerations]
    return {"metadata": {"labels": labels(stack, part)}, "spec": spec}


def operator_volume(stack: MonitoringStack) -> Object:
    """A token for the operator, and the CA to know it by."""
    return {
        "name": "operator",
        "projected": {
            "sources": [
                {
                    "serviceAccountToken": {
                        "audience": AUDIENCE,
                        "expirationSeconds": TOKEN_SECONDS,
                        "path": "token",
                    }
                },
                {
                    "configMap": {
                        "name": object_name(stack, "operator-ca"),
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
            ]
        },
    }


def operator_mount() -> Object:
    """Where that volume is."""
    return {"name": "operator", "mountPath": OPERATOR_FOLDER, "readOnly": True}


def secrets_volume(stack: MonitoringStack) -> Object:
    """The copies of the secrets that resources name. Optional: a stack may need none."""
    return {"name": "secrets", "secret": {"secretName": secrets_name(stack), "optional": True}}


def secrets_mount() -> Object:
    """Where that volume is."""
    return {"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True}


def secrets_name(stack: MonitoringStack) -> str:
    """The name of the stack's Secret."""
    return object_name(stack, "secrets")


def config_args(stack: MonitoringStack, settings: Settings) -> list[str]:
    """How a part finds its configuration at the operator."""
    return [
        f"--config-url={settings.stack_url(stack)}",
        f"--config-token-file={OPERATOR_FOLDER}/token",
        f"--config-ca-file={OPERATOR_FOLDER}/ca.crt",
    ]


def volume_claim(name: str, *, size: str | int, storage_class: str | None, extra: Mapping[str, Any]) -> Object:
    """A claim of a volume that one pod writes."""
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(size)}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {"metadata": {"name": name, **extra}, "spec": spec}
