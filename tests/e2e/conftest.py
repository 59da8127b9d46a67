"""The whole product on a real cluster, once for all tests here, with a server in Slack's shape beside it."""

import http.client
import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bellbuoy.alertmanager import render_text
from deploy.local.shell import LocalClusterError
from tests.conftest import Kubernetes
from tests.slack_server import PATH

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLES = CHECKOUT / "examples"
BASE = CHECKOUT / "deploy" / "base"
OPERATOR = "deployment/bellbuoy-operator"
SLACK_PORT = 8026
# Much longer than anything takes on a good day: a slow machine is no failure.
PATIENCE_SECONDS = 120.0


def fetch(url: str, *, body: bytes | None = None) -> Any:
    """JSON from an address that this machine reaches by the cluster's routes."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


@dataclass
class Product:
    """Bellbuoy on a cluster, as its users see it."""

    kubernetes: Kubernetes
    slack: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.kubernetes.kubectl(*arguments, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        return self.kubernetes.get(*arguments)

    def wait(self, what: str, condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
        """The condition's first true value; what cannot be reached yet, or is not listed yet, is not there yet."""
        deadline = time.monotonic() + seconds
        while True:
            found: Any = None
            try:
                found = condition()
            except (OSError, http.client.HTTPException, LookupError, ValueError, LocalClusterError) as e:
                found, last = None, f"{type(e).__name__}: {e}"
            else:
                last = f"{found!r}"
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s in vain for {what}; at last: {last}")
            time.sleep(0.1)

    def address(self, part: str, port: int) -> str:
        """A part's address: its pod's."""
        pods = self.get("--namespace=monitoring", "pods", f"--selector=bellbuoy.io/part={part}")["items"]
        running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return f"http://{running[0]['status']['podIP']}:{port}"

    def api(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the server's API."""
        query = urllib.parse.urlencode(parameters)
        return fetch(f"{self.address('server', 9090)}/api/v1/{path}?{query}")["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant query: labels and value of each series."""
        return [(one["metric"], float(one["value"][1])) for one in self.api("query", query=expr)["result"]]

    def samples(self, selector: str, span: str = "10m") -> dict[str, list[tuple[float, float]]]:
        """The stored samples of each series, by pod."""
        result = self.api("query", query=f"{selector}[{span}]")["result"]
        return {one["metric"]["pod"]: [(float(t), float(v)) for t, v in one["values"]] for one in result}

    def pods(self) -> dict[str, Any]:
        """The sample app's pods by name, those that are going left out."""
        items = self.get("--namespace=shop", "pods", "--selector=app=sample-app")["items"]
        return {one["metadata"]["name"]: one for one in items if "deletionTimestamp" not in one["metadata"]}

    def targets(self) -> dict[str, str]:
        """The sample app's targets at the server: pod and health."""
        active = self.api("targets", state="active")["activeTargets"]
        return {one["labels"]["pod"]: one["health"] for one in active if one["labels"].get("job") == "sample-app"}

    def scale(self, replicas: int) -> None:
        """Scale the sample app, and wait until its pods are ready."""
        self.kubectl("--namespace=shop", "scale", "deployment/sample-app", f"--replicas={replicas}")
        self.kubectl("--namespace=shop", "rollout", "status", "deployment/sample-app", "--timeout=300s")

    def set_temperature(self, pod: Any, value: int) -> None:
        """POST to the sample app."""
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8000/set?value={value}", data=b"", timeout=5):
            pass

    def messages(self, about: str = "") -> list[str]:
        """What Slack was told and has these words in it, each message as Slack would show it."""
        shown = [render_text(one) for one in fetch(f"{self.slack}/messages")]
        return [text for text in shown if about in text]

    def refused(self) -> list[Any]:
        """What Slack would have refused."""
        found: list[Any] = fetch(f"{self.slack}/refused")
        return found

    def alert(self, name: str) -> dict[str, Any]:
        """A rule as the server's API has it; KeyError if there is none."""
        rules = {rule["name"]: rule for group in self.api("rules")["groups"] for rule in group["rules"]}
        found: dict[str, Any] = rules[name]
        return found

    def kill(self, selector: str, program: str) -> None:
        """Kill -9 the process of the one pod with these labels, from its node."""
        cluster = self.kubernetes.cluster
        assert cluster is not None
        [pod] = self.get("--all-namespaces", "pods", f"--selector={selector}")["items"]
        index = int(pod["spec"]["nodeName"].removeprefix("node-"))
        subprocess.run(cluster.command_in(index, ["pkill", "-KILL", "-f", program]), check=True)

    def remove_leftovers(self) -> None:
        """What an earlier run left on a cluster that is used again; the operator last, who has to let stacks go."""
        namespaces = self.kubectl("get", "namespaces", "shop", "monitoring", "--ignore-not-found", "--output=name")
        if namespaces:
            self.kubectl("delete", "--timeout=300s", *namespaces.split())
            self.kubectl("delete", f"--kustomize={BASE}", "--ignore-not-found", "--timeout=300s")


@pytest.fixture(scope="session")
def product(cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """All of it, installed as docs/tutorial.md says."""
    if cluster.cluster is None:
        pytest.fail("these tests enter nodes: BELLBUOY_TEST_KUBECONFIG must name a local cluster", pytrace=False)
    gateway = cluster.cluster.addresses.gateway
    log = (tmp_path_factory.mktemp("slack") / "slack.log").open("wb")
    command = [sys.executable, "-m", "tests.slack_server", f"--host={gateway}", f"--port={SLACK_PORT}"]
    slack = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    out = Product(cluster, f"http://{gateway}:{SLACK_PORT}")
    try:
        out.wait("the Slack-shaped server", lambda: fetch(f"{out.slack}/messages") == [])
        out.remove_leftovers()
        install(out)
        yield out
    finally:
        slack.terminate()
        slack.wait()
        log.close()


def install(product: Product) -> None:
    """Definitions, operator, stack, an app, what to do about it; until the stack says that it is ready."""
    product.kubectl("apply", "--server-side", f"--kustomize={BASE}")
    product.kubectl("--namespace=bellbuoy-system", "rollout", "status", OPERATOR, "--timeout=300s")
    product.kubectl("apply", "--server-side", f"--filename={EXAMPLES / 'stack.yaml'}")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "slack", "namespace": "monitoring", "labels": {"bellbuoy.io/allow": "true"}},
        "stringData": {"url": product.slack + PATH},
    }
    product.kubernetes.apply(secret)
    product.kubectl("apply", "--server-side", f"--filename={CHECKOUT / 'deploy/demo/sample-app.yaml'}")
    product.kubectl("apply", "--server-side", f"--filename={EXAMPLES}")
    ready = "--for=condition=Ready"
    product.kubectl("wait", "--namespace=monitoring", ready, "--timeout=300s", "monitoringstack/main")


def eventually(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether it becomes true in time: for an assert that then shows what there is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return condition()
