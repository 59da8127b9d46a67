"""A stack's objects are exactly what the golden files show; a change of a builder is a change of a golden file.

Write them anew with `BELLBUOY_WRITE_GOLDEN=1 python -m pytest tests/operator/test_builders.py`, read the difference.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bellbuoy.archive import ArchiveOptions, add_archive_arguments, archive_options
from bellbuoy_operator.builders import Images, Settings, kubelet_binding, secret_copies, stack_objects
from tests.resources.objects import resource

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = Settings(
    images=Images("registry.example.org/bellbuoy/", "1.0"),
    service_url="https://bellbuoy-operator.bellbuoy-system.svc:8443",
    ca_pem="-----BEGIN CERTIFICATE-----\n",
)
SPECS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": {
        "server": {
            "retention": "30d",
            "retentionSize": "50Gi",
            "externalUrl": "https://metrics.example.org",
            "storage": {"size": "100Gi", "storageClass": "fast"},
            "resources": {"requests": {"cpu": 1, "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "monitoring", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "nodeExporter": {"tolerations": [], "resources": {"limits": {"memory": "64Mi"}}},
        "alertmanager": {"storage": {"size": "1Gi"}, "externalUrl": "https://example.org/alerts/"},
        "pushgateway": {"storage": {"size": "1Gi", "storageClass": "fast"}},
        "archive": {
            "s3": {
                "bucket": "metrics",
                "prefix": "prod/main",
                "endpoint": "https://minio.storage.svc:9000/",
                "region": "eu-central-1",
                "credentials": {"name": "s3", "key": "credentials"},
            }
        },
        "kubelet": {"cadvisor": False},
    },
    "server-only": {
        "nodeExporter": {"enabled": False},
        "alertmanager": {"enabled": False},
        "pushgateway": {"enabled": False},
    },
}


@pytest.mark.parametrize("name", SPECS)
def test_a_stacks_objects_are_as_the_golden_file_shows(name: str) -> None:
    stack = resource("MonitoringStack", "main", SPECS[name])
    objects = [*stack_objects(stack, SETTINGS), secret_copies(stack, {"b": b"2", "a": b"1"}), kubelet_binding(stack)]
    text = yaml.safe_dump_all(objects, sort_keys=False, width=120)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("BELLBUOY_WRITE_GOLDEN"):
        path.write_text(text)
    assert list(yaml.safe_load_all(path.read_text())) == objects


@pytest.mark.parametrize("name", SPECS)
def test_every_pod_is_confined(name: str) -> None:
    for one in stack_objects(resource("MonitoringStack", "main", SPECS[name]), SETTINGS):
        if one["kind"] not in ("StatefulSet", "DaemonSet", "Deployment"):
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.get("hostNetwork")
        assert not pod.get("hostPID")
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        hosts = [volume for volume in pod["volumes"] if "hostPath" in volume]
        assert bool(hosts) == (one["kind"] == "DaemonSet")
        assert all(mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] == "host")


def test_an_archive_is_what_the_servers_flags_say() -> None:
    def check(archive: dict[str, Any], want: ArchiveOptions) -> None:
        stack = resource("MonitoringStack", "main", {"archive": archive})
        (server,) = [one for one in stack_objects(stack, SETTINGS) if one["kind"] == "StatefulSet"]
        (container,) = server["spec"]["template"]["spec"]["containers"]
        assert container["image"].endswith("/server-archive:1.0")
        said = [one for one in container["args"] if one.startswith("--storage.archive")]
        parser = argparse.ArgumentParser()
        add_archive_arguments(parser.add_argument, prefix="--storage.archive.", required=False)
        assert archive_options(parser.parse_args(said)) == want

    check({"folder": "parquet"}, ArchiveOptions("file:///data/archive/parquet"))
    check({"s3": {"bucket": "all-of-it"}}, ArchiveOptions("s3://all-of-it/shop/main"))
    keys = Path("/var/run/bellbuoy/secrets/shop.s3.credentials-d6cb01f4a65c")
    check(
        {**SPECS["full"]["archive"]},
        ArchiveOptions("s3://metrics/prod/main", "https://minio.storage.svc:9000", "eu-central-1", keys),
    )


def test_building_twice_gives_the_same() -> None:
    stack = resource("MonitoringStack", "main", SPECS["full"])
    assert stack_objects(stack, SETTINGS) == stack_objects(stack, SETTINGS)
