"""The server of a stack: a StatefulSet of one, with a volume that outlives the stack."""

from bellbuoy.resources import PART_PORTS, MonitoringStack, secret_use
from bellbuoy.resources.model import quantity_bytes
from bellbuoy_operator.builders.common import (
    DATA_FOLDER,
    SECRETS_FOLDER,
    Object,
    Settings,
    config_args,
    container,
    external_url,
    labels,
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

PART = "server"
# The same with pyarrow, which is larger than all the rest: only who has an archive needs it.
ARCHIVING_IMAGE = "server-archive"
# It replays its log before it is alive: with millions of series that takes minutes.
STARTUP_SECONDS = 900
# It flushes and seals what it holds before it ends.
GRACE_SECONDS = 120


def server_objects(stack: MonitoringStack, settings: Settings) -> list[Object]:
    """Everything that the server is made of."""
    return [service_account(stack, PART), service(stack, PART, headless=True), stateful_set(stack, settings)]


def stateful_set(stack: MonitoringStack, settings: Settings) -> Object:
    """The StatefulSet. What is in its claim's template cannot be changed later; the claim itself can."""
    spec = stack.spec.server
    args = [
        f"--web.listen-address=:{PART_PORTS[PART]}",
        f"--web.external-url={external_url(stack, PART, spec.external_url)}",
        f"--storage.path={DATA_FOLDER}",
        f"--storage.retention={spec.retention}",
        *([f"--storage.retention-size={quantity_bytes(spec.retention_size)}B"] if spec.retention_size else []),
        *archive_args(stack),
        *config_args(stack, settings),
    ]
    template = pod_template(
        stack,
        PART,
        container=container(
            PART,
            settings=settings,
            args=args,
            placement=spec,
            mounts=[{"name": "data", "mountPath": DATA_FOLDER}, operator_mount(), secrets_mount()],
            startup_seconds=STARTUP_SECONDS,
            image=PART if stack.spec.archive is None else ARCHIVING_IMAGE,
        ),
        volumes=[operator_volume(stack), secrets_volume(stack)],
        placement=spec,
        # It asks the kubelets with its own token.
        service_account_token=stack.spec.kubelet.cadvisor,
        grace_seconds=GRACE_SECONDS,
    )
    claim = volume_claim(
        "data", size=spec.storage.size, storage_class=spec.storage.storage_class, extra={"labels": labels(stack, PART)}
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(stack, PART),
        "spec": {
            "replicas": 1,
            "serviceName": object_name(stack, PART),
            "podManagementPolicy": "Parallel",
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": selector(stack, PART)},
            "template": template,
            "volumeClaimTemplates": [claim],
        },
    }


def archive_args(stack: MonitoringStack) -> list[str]:
    """Where the server writes its archive; each stack has a place of its own."""
    archive = stack.spec.archive
    if archive is None:
        return []
    if archive.s3 is None:
        return [f"--storage.archive.url=file://{DATA_FOLDER}/archive/{archive.folder}"]
    s3 = archive.s3
    prefix = s3.prefix or f"{stack.namespace}/{stack.name}"
    args = [f"--storage.archive.url=s3://{s3.bucket}/{prefix}"]
    if s3.endpoint is not None:
        args.append(f"--storage.archive.endpoint={s3.endpoint.rstrip('/')}")
    if s3.region is not None:
        args.append(f"--storage.archive.region={s3.region}")
    if s3.credentials is not None:
        # Read anew for each pass, so a Secret that changes needs no restart.
        file = secret_use(stack, s3.credentials).file
        args.append(f"--storage.archive.credentials-file={SECRETS_FOLDER}/{file}")
    return args
