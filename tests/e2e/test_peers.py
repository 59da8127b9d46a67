"""The reference's own programs on the cluster: Prometheus in our server's place, amtool, promtool."""

import asyncio
import contextlib
import http.client
import json
import shlex
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.conftest import Product, fetch
from tests.peers.programs import check_metrics, free_port, program, running

pytestmark = [pytest.mark.cluster, pytest.mark.peers, pytest.mark.timeout(900)]

SERVICE = "bellbuoy-operator.bellbuoy-system.svc"
STACK = "/v1/stacks/monitoring/main"
# The machine as a pod sees it: the cluster's names, and an account's files where pods have them.
AS_IN_A_POD = """
set -e
names=$(readlink -f /etc/resolv.conf)
mount -t tmpfs tmpfs /run
mkdir -p /run/bellbuoy/operator /run/secrets/kubernetes.io/serviceaccount "$(dirname "$names")"
test -e "$names" || touch "$names"
mount --bind {folder}/resolv.conf "$names"
mount --bind {folder}/operator /run/bellbuoy/operator
mount --bind {folder}/account /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""
ACCOUNT = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "prometheus", "namespace": "monitoring"},
}
SUBJECT = {"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}
RBAC = "rbac.authorization.k8s.io"


def objects() -> list[dict[str, Any]]:
    """An account that may read the stack's configuration, as docs/operator.md says, and ask kubelets."""
    name = {"name": "prometheus", "namespace": "monitoring"}
    rule = {"apiGroups": ["bellbuoy.io"], "resources": ["monitoringstacks/configuration"], "verbs": ["get"]}
    role = {"apiGroup": RBAC, "kind": "Role", "name": "prometheus"}
    kubelets = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "bellbuoy-kubelet-metrics"}
    return [
        ACCOUNT,
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": name, "rules": [rule]},
        {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": name, "roleRef": role, "subjects": [SUBJECT]},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "prometheus"},
            "roleRef": kubelets,
            "subjects": [SUBJECT],
        },
    ]


@dataclass
class Configuration:
    """The operator's service as a client with this token sees it."""

    address: str
    ca: str
    token: str

    def get(self, part: str, *, token: str | None = None) -> tuple[int, str]:
        """Status and body of a part of the stack's configuration."""
        context = ssl.create_default_context(cadata=self.ca)
        with (
            socket.create_connection((self.address, 8443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=SERVICE) as encrypted,
            contextlib.closing(http.client.HTTPConnection(SERVICE)) as connection,
        ):
            connection.sock = encrypted
            bearer = self.token if token is None else token
            connection.request("GET", f"{STACK}/{part}", headers={"Authorization": f"Bearer {bearer}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def configuration(product: Product) -> Iterator[Configuration]:
    """The configuration service, for an account that is not the stack's own."""
    product.kubernetes.apply(*objects())
    operator = product.get("--namespace=bellbuoy-system", "service", "bellbuoy-operator")
    ca = product.get("--namespace=monitoring", "configmap", "main-operator-ca")["data"]["ca.crt"]
    token = product.kubectl("--namespace=monitoring", "create", "token", "prometheus", "--audience=bellbuoy")
    yield Configuration(operator["spec"]["clusterIP"], ca, token.strip())
    account, role, binding, kubelets = (f"{one['kind'].lower()}/{one['metadata']['name']}" for one in objects())
    product.kubectl("--namespace=monitoring", "delete", account, role, binding, kubelets)


@pytest.fixture(scope="module")
def prometheus(
    product: Product, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Debian's Prometheus with the stack's configuration, not a byte of it changed; its address."""
    assert product.kubernetes.cluster is not None
    folder = tmp_path_factory.mktemp("prometheus")
    for part in ("prometheus.yml", "rules.yml"):
        status, text = configuration.get(part)
        assert status == 200, text
        (folder / part).write_text(text)
    search = "monitoring.svc.cluster.local svc.cluster.local cluster.local"
    (folder / "resolv.conf").write_text(
        f"nameserver {product.kubernetes.cluster.addresses.dns}\nsearch {search}\noptions ndots:5\n"
    )
    (folder / "operator").mkdir()
    (folder / "operator" / "token").write_text(configuration.token)
    (folder / "operator" / "ca.crt").write_text(configuration.ca)
    (folder / "account").mkdir()
    token = product.kubectl("--namespace=monitoring", "create", "token", "prometheus")
    (folder / "account" / "token").write_text(token.strip())
    authority = product.get("--namespace=monitoring", "configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    (folder / "account" / "ca.crt").write_text(authority)
    port = free_port()
    script = AS_IN_A_POD.format(folder=shlex.quote(str(folder)))
    command = ["unshare", "--mount", "sh", "-c", script, "sh", program("prometheus")]
    command += [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with running(command, name="prometheus", url=url, output=folder / "log") as it:
        try:
            product.wait("Prometheus", lambda: fetch(f"{url}/api/v1/status/buildinfo"))
        except AssertionError as e:
            raise AssertionError(it.log()) from e
        yield url


def targets(api: str) -> dict[str, tuple[tuple[tuple[str, str], ...], str]]:
    """The targets of a server, by what is asked: their labels and health."""
    active = fetch(f"{api}/api/v1/targets?state=active")["data"]["activeTargets"]
    return {one["scrapeUrl"]: (tuple(sorted(one["labels"].items())), one["health"]) for one in active}


def rules(api: str, *, reader: str) -> list[tuple[str, str, str, Any, Any]]:
    """The rules of a server, their expressions as `reader` writes them: what was asked for, not what came of it."""
    return sorted(
        (group["name"], rule["name"], formatted(rule["query"], reader), rule.get("duration"), rule.get("annotations"))
        for group in fetch(f"{api}/api/v1/rules")["data"]["groups"]
        for rule in group["rules"]
    )


def formatted(expr: str, reader: str) -> str:
    """The expression as this server's parser and printer have it."""
    return str(fetch(f"{reader}/api/v1/format_query?query={quote(expr)}")["data"])


def test_prometheus_takes_our_servers_place_with_the_stacks_own_configuration(
    product: Product, prometheus: str
) -> None:
    ours = product.address("server", 9090)

    def the_same(count: int) -> bool:
        mine, theirs = targets(ours), targets(prometheus)
        shop = [url for url in theirs if url.endswith(":8000/metrics")]
        return mine == theirs and len(shop) == count and {health for _, health in theirs.values()} == {"up"}

    product.wait("the same targets, all of them up", lambda: the_same(2))
    jobs = {dict(labels)["job"] for labels, _ in targets(prometheus).values()}
    assert jobs == {"server", "alertmanager", "pushgateway", "node", "cadvisor", "sample-app"}
    # It hears of pods that come and go, too.
    product.scale(4)
    product.wait("the new pods, at both", lambda: the_same(4))
    product.scale(2)
    product.wait("two pods, at both", lambda: the_same(2))
    assert rules(prometheus, reader=prometheus) == rules(ours, reader=prometheus)
    asked = "query?query=node:cpu_utilisation:ratio_rate1m"
    product.wait("a recorded series", lambda: fetch(f"{prometheus}/api/v1/{asked}")["data"]["result"])
    managers = [fetch(f"{one}/api/v1/alertmanagers")["data"]["activeAlertmanagers"] for one in (prometheus, ours)]
    assert managers[0] == managers[1] != []


def test_a_token_of_nobody_in_particular_is_refused(product: Product, configuration: Configuration) -> None:
    token = product.kubectl("--namespace=monitoring", "create", "token", "default", "--audience=bellbuoy").strip()
    status, text = configuration.get("targets/shop.sample-app", token=token)
    assert status == 403, text
    assert "monitoringstacks/configuration" in text
    status, text = configuration.get("targets/shop.sample-app")
    assert status == 200
    assert len(json.loads(text)) == 2


def test_promtool_finds_nothing_wrong_with_the_metrics_of_any_pod_of_ours(product: Product) -> None:
    operator = "--selector=app.kubernetes.io/name=bellbuoy-operator"
    [pod] = product.get("--namespace=bellbuoy-system", "pods", operator)["items"]
    pages = [url for url in targets(product.address("server", 9090)) if not url.startswith("https://")]
    pages.append(f"http://{pod['status']['podIP']}:8080/metrics")
    # Server, alertmanager, pushgateway, two node exporters, two sample apps, the operator.
    assert len(pages) == 8
    for page in pages:
        with urllib.request.urlopen(page, timeout=10) as answer:
            text = answer.read().decode()
        assert "# HELP" in text
        assert asyncio.run(check_metrics(text)) == [], page


def test_what_amtool_adds_rings_in_slack_unless_amtool_has_silenced_it(product: Product, tmp_path: Path) -> None:
    url = product.address("alertmanager", 9093)

    def amtool(*arguments: str) -> str:
        command = [program("amtool"), f"--alertmanager.url={url}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env={"HOME": str(tmp_path)}).stdout

    amtool("silence", "add", "alertname=Quiet", "--author=me", "--comment=not now", "--duration=1h")
    for name in ("Quiet", "Loud"):
        amtool("alert", "add", f"alertname={name}", "room=cellar", "--annotation=summary=by hand")
    product.wait("the alert at amtool", lambda: "Loud" in amtool("alert", "query"))
    assert "Quiet" not in amtool("alert", "query")
    assert "Quiet" in amtool("alert", "query", "--silenced")
    [loud] = product.wait("a message", lambda: product.messages("Loud"))
    assert "cellar" in loud
    [silence] = json.loads(amtool("-o", "json", "silence", "query"))
    amtool("silence", "expire", silence["id"])
    [quiet] = product.wait("the other message", lambda: product.messages("Quiet"))
    assert "by hand" in quiet
