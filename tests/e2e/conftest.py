"""The whole product on a real cluster, once for all tests here, with a server in Slack's shape beside it."""

import contextlib
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

from tests.conftest import Kubernetes
from tests.slack_server import PATH

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLES = CHECKOUT / "examples"
SLACK_PORT = 8026


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

    def wait(self, what: str, condition: Callable[[], Any], *, seconds: float = 60) -> Any:
        """The condition's first true value; what cannot be reached yet is not there yet."""

        def tolerant() -> Any:
            with contextlib.suppress(OSError, KeyError, IndexError):
                return condition()
            return None

        return self.kubernetes.wait(what, tolerant, seconds=seconds)

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
        self.kubectl("--namespace=shop", "rollout", "status", "deployment/sample-app", "--timeout=120s")

    def set_temperature(self, pod: Any, value: int) -> None:
        """POST to the sample app."""
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8000/set?value={value}", data=b"", timeout=5):
            pass

    def messages(self) -> list[str]:
        """What Slack was told, each message as text."""
        return [json.dumps(one) for one in fetch(f"{self.slack}/messages")]

    def refused(self) -> list[Any]:
        """What Slack would have refused."""
        found: list[Any] = fetch(f"{self.slack}/refused")
        return found

    def alert(self, name: str) -> dict[str, Any]:
        """A rule as the server's API has it."""
        groups = self.api("rules")["groups"]
        found: dict[str, Any] = next(r for g in groups for r in g["rules"] if r["name"] == name)
        return found


@pytest.fixture(scope="session")
def product(cluster: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """All of it, installed as docs/tutorial.md says, and taken away again."""
    assert cluster.cluster is not None
    gateway = cluster.cluster.addresses.gateway
    log = (tmp_path_factory.mktemp("slack") / "slack.log").open("wb")
    command = [sys.executable, "-m", "tests.slack_server", f"--host={gateway}", f"--port={SLACK_PORT}"]
    slack = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    out = Product(cluster, f"http://{gateway}:{SLACK_PORT}")
    try:
        out.wait("the Slack-shaped server", lambda: out.messages() == [])
        out.kubectl("apply", "--server-side", f"--kustomize={CHECKOUT / 'deploy/base'}")
        out.kubectl(
            "--namespace=bellbuoy-system", "rollout", "status", "deployment/bellbuoy-operator", "--timeout=180s"
        )
        out.kubectl("apply", "--server-side", f"--filename={EXAMPLES / 'stack.yaml'}")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "slack", "namespace": "monitoring", "labels": {"bellbuoy.io/allow": "true"}},
            "stringData": {"url": out.slack + PATH},
        }
        out.kubernetes.apply(secret)
        out.kubectl("apply", "--server-side", f"--filename={CHECKOUT / 'deploy/demo/sample-app.yaml'}")
        out.kubectl("apply", "--server-side", f"--filename={EXAMPLES}")
        ready = ["wait", "--namespace=monitoring", "--for=condition=Ready", "--timeout=180s", "monitoringstack/main"]
        out.kubectl(*ready)
        yield out
    finally:
        slack.terminate()
        slack.wait()
        log.close()


def eventually(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return condition()
