"""Alertmanager and pushgateway of a stack: a Deployment of one each, with a volume where the spec asks for one.

One replica that is recreated, not rolled: two at a time would both write the volume, and both send notifications.
"""

from bellbuoy.resources import PART_PORTS, MonitoringStack
from bellbuoy.resources.model import Deployable
from bellbuoy_operator.builders.common import (
    DATA_FOLDER,
    Object,
    Settings,
    config_args,
    container,
    external_url,
    metadata,
    object_name,
    operator_mount,
    operator_volume,
    pod_template,
    secrets_mount,
    secrets_volume,
    selector,
    service,
    service_account,
    volume_claim,
)

ALERTMANAGER = "alertmanager"
PUSHGATEWAY = "pushgateway"
STARTUP_SECONDS = 120


def alertmanager_objects(stack: MonitoringStack, settings: Settings) -> list[Object]:
    """Everything that the alertmanager is made of."""
    args = [
        f"--web.listen-address=:{PART_PORTS[ALERTMANAGER]}",
        f"--web.external-url={external_url(stack, ALERTMANAGER, stack.spec.alertmanager.external_url)}",
        f"--storage.path={DATA_FOLDER}",
        *config_args(stack, settings),
    ]
    return _objects(
        stack,
        ALERTMANAGER,
        stack.spec.alertmanager,
        settings=settings,
        args=args,
        mounts=[operator_mount(), secrets_mount()],
        volumes=[operator_volume(stack), secrets_volume(stack)],
    )


def pushgateway_objects(stack: MonitoringStack, settings: Settings) -> list[Object]:
    """Everything that the pushgateway is made of."""
    args = [f"--web.listen-address=:{PART_PORTS[PUSHGATEWAY]}", f"--persistence.file={DATA_FOLDER}/metrics"]
    return _objects(stack, PUSHGATEWAY, stack.spec.pushgateway, settings=settings, args=args, mounts=[], volumes=[])


def _objects(
    stack: MonitoringStack,
    part: str,
    spec: Deployable,
    *,
    settings: Settings,
    args: list[str],
    mounts: list[Object],
    volumes: list[Object],
) -> list[Object]:
    name = object_name(stack, part)
    objects = [service_account(stack, part), service(stack, part)]
    data: Object = {"name": "data", "emptyDir": {}}
    if spec.storage is not None:
        data = {"name": "data", "persistentVolumeClaim": {"claimName": name}}
        meta = metadata(stack, part)
        # Like the server's, the volume outlives the stack: no owner.
        del meta["ownerReferences"]
        claim = volume_claim(name, size=spec.storage.size, storage_class=spec.storage.storage_class, extra=meta)
        objects.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    template = pod_template(
        stack,
        part,
        container=container(
            part,
            settings=settings,
            args=args,
            placement=spec,
            mounts=[{"name": "data", "mountPath": DATA_FOLDER}, *mounts],
            startup_seconds=STARTUP_SECONDS,
        ),
        volumes=[data, *volumes],
        placement=spec,
    )
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(stack, part),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector(stack, part)},
            "template": template,
        },
    }
    return [*objects, deployment]
