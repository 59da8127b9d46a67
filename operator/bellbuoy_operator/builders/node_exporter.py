"""The node exporter of a stack: a DaemonSet that sees its host's files, read-only, and nothing else of it.

It needs no host network and no host process ids: the host's `/proc` lies below the mounted root, and there
`/proc/1/net` and `/proc/1/mounts` are the host's own.
"""

from bellbuoy.resources import PART_PORTS, MonitoringStack
from bellbuoy_operator.builders.common import (
    Object,
    Settings,
    container,
    metadata,
    pod_template,
    selector,
    service_account,
)

PART = "node-exporter"
HOST_FOLDER = "/host"
STARTUP_SECONDS = 60


def node_exporter_objects(stack: MonitoringStack, settings: Settings) -> list[Object]:
    """Everything that the node exporters are made of."""
    return [service_account(stack, PART), daemon_set(stack, settings)]


def daemon_set(stack: MonitoringStack, settings: Settings) -> Object:
    """The DaemonSet."""
    spec = stack.spec.node_exporter
    args = [
        f"--web.listen-address=:{PART_PORTS[PART]}",
        f"--path.procfs={HOST_FOLDER}/proc",
        f"--path.sysfs={HOST_FOLDER}/sys",
        f"--path.rootfs={HOST_FOLDER}",
        "--node-name=$(NODE_NAME)",
    ]
    # HostToContainer: a file system that the host mounts later is seen as well.
    mount = {"name": "host", "mountPath": HOST_FOLDER, "readOnly": True, "mountPropagation": "HostToContainer"}
    one = container(PART, settings=settings, args=args, placement=spec, mounts=[mount], startup_seconds=STARTUP_SECONDS)
    one["env"] = [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    template = pod_template(
        stack, PART, container=one, volumes=[{"name": "host", "hostPath": {"path": "/"}}], placement=spec
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(stack, PART),
        "spec": {
            "selector": {"matchLabels": selector(stack, PART)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": template,
        },
    }
