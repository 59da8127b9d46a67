"""The whole cluster: pods run on two nodes, find each other, keep their data, and are measured."""

import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.images import PARTS

if TYPE_CHECKING:
    from tests.conftest import Kubernetes, Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

IMAGE = PARTS["sample-app"].image
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(**more: Any) -> dict[str, Any]:
    ready = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    return {
        "name": "app",
        "image": IMAGE,
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": ready,
        "securityContext": RESTRICTED,
        **more,
    }


def pod(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container()], **spec}}


def run_python(namespace: "Namespace", where: str, code: str) -> str:
    return namespace.kubectl("exec", where, "--", "python3", "-c", code)


def wait_ready(namespace: "Namespace", *names: str) -> None:
    namespace.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))


def test_two_nodes_are_ready(cluster: "Kubernetes") -> None:
    nodes = cluster.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node-0", "node-1"]
    for node in nodes:
        conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
        assert conditions["Ready"] == "True"


def test_a_pod_runs_and_this_machine_reaches_it(namespace: "Namespace") -> None:
    namespace.apply(pod("one"))
    wait_ready(namespace, "one")
    address = namespace.get("pod", "one")["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:8000/metrics", timeout=5) as answer:
        assert b'sample_info{host="one"' in answer.read()
    assert "listening on" in namespace.kubectl("logs", "one")


def test_pods_on_both_nodes_reach_each_other_by_the_names_of_services(namespace: "Namespace") -> None:
    namespace.apply(pod("left", nodeName="node-0"), pod("right", nodeName="node-1"))
    namespace.kubectl("expose", "pod/right", "--port=80", "--target-port=http")
    wait_ready(namespace, "left", "right")
    # kube-proxy learns of a ready pod a moment after the API does, and until then refuses.
    code = (
        "import time, urllib.request as u\n"
        "for wait in [1] * 20 + [0]:\n"
        "    try:\n"
        "        print(u.urlopen('http://right/', timeout=5).read().decode()); break\n"
        "    except OSError:\n"
        "        if not wait: raise\n"
        "        time.sleep(wait)\n"
    )
    assert run_python(namespace, "left", code).strip() == "right"
    service = namespace.get("service", "right")["spec"]["clusterIP"]
    with urllib.request.urlopen(f"http://{service}/", timeout=5) as answer:
        assert answer.read() == b"right\n"


def test_a_volume_is_bound_and_keeps_its_data_on_another_node(namespace: "Namespace") -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    mounted = container(volumeMounts=[{"name": "data", "mountPath": "/data"}])
    security = {"fsGroup": 65532}

    def writer(name: str, node: str) -> dict[str, Any]:
        return pod(name, nodeName=node, containers=[mounted], volumes=volumes, securityContext=security)

    namespace.apply(claim, writer("before", "node-0"))
    wait_ready(namespace, "before")
    assert namespace.get("pvc", "data")["status"]["phase"] == "Bound"
    run_python(namespace, "before", "open('/data/kept', 'w').write('yes')")
    namespace.kubectl("delete", "pod", "before", "--grace-period=1")
    namespace.apply(writer("after", "node-1"))
    wait_ready(namespace, "after")
    assert run_python(namespace, "after", "print(open('/data/kept').read())").strip() == "yes"


def test_a_service_account_reads_the_metrics_of_containers_from_the_kubelet(
    cluster: "Kubernetes", namespace: "Namespace"
) -> None:
    namespace.apply(pod("one", nodeName="node-1"))
    namespace.kubectl("create", "serviceaccount", "reader")
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": namespace.name}
    name = f"{namespace.name}-reader"
    rules = [{"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    version = "rbac.authorization.k8s.io/v1"
    metadata = {"name": name}
    cluster.apply(
        {"apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        {
            "apiVersion": version,
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [subject],
        },
    )
    wait_ready(namespace, "one")
    token = namespace.kubectl("create", "token", "reader").strip()
    authority = namespace.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    addresses = cluster.get("node", "node-1")["status"]["addresses"]
    address = next(a["address"] for a in addresses if a["type"] == "InternalIP")
    context = ssl.create_default_context(cadata=authority)
    request = urllib.request.Request(
        f"https://{address}:10250/metrics/cadvisor", headers={"Authorization": f"Bearer {token}"}
    )

    def measured() -> bool:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            lines = answer.read().decode().splitlines()
        return any(
            line.startswith("container_cpu_usage_seconds_total") and f'namespace="{namespace.name}"' in line
            for line in lines
        )

    try:
        cluster.wait("the pod's CPU to be measured", measured, seconds=60)
    finally:
        cluster.kubectl("delete", f"clusterrole/{name}", f"clusterrolebinding/{name}")


def test_a_kubelet_that_dies_is_started_again_and_its_pods_live_on(
    cluster: "Kubernetes", namespace: "Namespace"
) -> None:
    if cluster.cluster is None:
        pytest.fail("this test enters a node: BELLBUOY_TEST_KUBECONFIG must name a local cluster")
    from deploy.local.shell import run

    namespace.apply(pod("one", nodeName="node-1"))
    wait_ready(namespace, "one")
    before = namespace.get("pod", "one")["status"]["containerStatuses"][0]["containerID"]
    run(*cluster.cluster.command_in(1, ["sh", "-c", "kill -9 $(pidof kubelet)"]))
    log = cluster.cluster.log("init", index=1)
    cluster.wait("the kubelet to be started again", lambda: "kubelet ended" in log.read_text(), seconds=10)
    namespace.apply(pod("two", nodeName="node-1"))
    wait_ready(namespace, "two")
    assert namespace.get("pod", "one")["status"]["containerStatuses"][0]["containerID"] == before


@pytest.mark.parametrize("part", [name for name in PARTS if name != "sample-app"])
def test_the_image_of_every_part_starts(namespace: "Namespace", part: str) -> None:
    job = {
        "name": "app",
        "image": PARTS[part].image,
        "args": ["--help"],
        "securityContext": RESTRICTED,
    }
    namespace.apply(pod("help", containers=[job], restartPolicy="Never"))
    namespace.wait("the pod to end", lambda: namespace.get("pod", "help")["status"]["phase"] in ("Succeeded", "Failed"))
    said = namespace.kubectl("logs", "help")
    assert namespace.get("pod", "help")["status"]["phase"] == "Succeeded", said
    assert f"bellbuoy {PARTS[part].command or part}" in said


def test_only_the_operator_has_a_kubernetes_client(namespace: "Namespace") -> None:
    code = "import importlib.util as i; print(*[bool(i.find_spec(n)) for n in ('kubernetes', 'kopf')])"
    found = {}
    for part in ("server", "node-exporter", "operator"):
        ask = {"name": "app", "image": PARTS[part].image, "command": ["python3", "-c", code]}
        namespace.apply(pod(part, containers=[ask], restartPolicy="Never"))
        namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", f"pod/{part}")
        found[part] = namespace.kubectl("logs", part).split()
    assert found == {
        "server": ["False", "False"],
        "node-exporter": ["False", "False"],
        "operator": ["True", "True"],
    }
