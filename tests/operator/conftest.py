"""A running operator against the quick control plane, as its own service account, so that deploy/base is tested.

There is no kubelet and no controller: pods are made by hand, and what controllers would do does not happen.
"""

import asyncio
import base64
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest
import yaml

from bellbuoy_operator import Options, run

if TYPE_CHECKING:
    from tests.conftest import Kubernetes, Namespace

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "bellbuoy-system"
T = TypeVar("T")


def kubeconfig_of(place: "Kubernetes", folder: Path, *, namespace: str, account: str) -> Path:
    """A kubeconfig of a service account."""
    token = place.kubectl("create", "token", account, f"--namespace={namespace}").strip()
    config = yaml.safe_load(place.kubeconfig.read_text())
    config["users"] = [{"name": "account", "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = "account"
    path = folder / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="session")
def bellbuoy(control_plane: "Kubernetes") -> "Kubernetes":
    """The control plane with everything of deploy/base in it."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", str(ROOT / "deploy" / "base"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
    return control_plane


@pytest.fixture(scope="session")
def operator_kubeconfig(bellbuoy: "Kubernetes", tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operator")
    return kubeconfig_of(bellbuoy, folder, namespace=SYSTEM, account="bellbuoy-operator")


@dataclass
class Running:
    """A running operator, and a client of its configuration service."""

    address: str
    session: aiohttp.ClientSession
    place: "Namespace"
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the test's namespace, while the operator goes on."""
        return await asyncio.to_thread(self.place.kubectl, *arguments, stdin=stdin)

    async def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects, in the test's namespace where they name none."""
        await self.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))

    async def get(self, kind: str, name: str, *more: str) -> dict[str, Any]:
        """An object."""
        found: dict[str, Any] = json.loads(await self.kubectl("get", kind, name, "--output=json", *more))
        return found

    async def names(self, kinds: str) -> set[str]:
        """`kind/name` of all objects of these kinds."""
        return set((await self.kubectl("get", kinds, "--output=name")).split())

    async def token(self, account: str = "main-server", audience: str = "bellbuoy") -> str:
        """A token of a service account."""
        if (account, audience) not in self.tokens:
            made = await self.kubectl("create", "token", account, f"--audience={audience}")
            self.tokens[account, audience] = made.strip()
        return self.tokens[account, audience]

    async def ask(self, path: str, *, token: str | None = None, stack: str = "main") -> tuple[int, str]:
        """The status and body of a path below the stack's."""
        value = await self.token() if token is None else token
        headers = {"Authorization": f"Bearer {value}"} if value else {}
        url = f"https://{self.address}/v1/stacks/{self.place.name}/{stack}/{path}"
        async with self.session.get(url, headers=headers) as response:
            return response.status, await response.text()

    async def targets(self, pool: str) -> list[dict[str, Any]]:
        """The http_sd answer of a pool; empty while there is none."""
        status, body = await self.ask(f"targets/{pool}")
        found: list[dict[str, Any]] = json.loads(body) if status == 200 else []
        return found


async def until(what: str, condition: Callable[[], Awaitable[T]], *, seconds: float = 20.0) -> T:
    """The condition's first true value."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                value = await condition()
                if value:
                    return value
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


@asynccontextmanager
async def running(
    place: "Namespace", kubeconfig: Path, identity: str = "first", *, status_seconds: float = 0.3
) -> AsyncIterator[Running]:
    """An operator that runs within, and has ended after."""
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    options = Options(
        kubeconfig=kubeconfig,
        identity=f"{identity}-{uuid.uuid4().hex[:6]}",
        config_listen="127.0.0.1:0",
        metrics_listen="127.0.0.1:0",
        status_seconds=status_seconds,
    )
    task = asyncio.create_task(run(options, stop, listening=listening.set_result))
    try:
        done, _ = await asyncio.wait((task, listening), return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        secret = place.get("secret", "bellbuoy-operator-ca", f"--namespace={SYSTEM}")
        ca = base64.b64decode(secret["data"]["ca.crt"]).decode()
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=ca))
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Running(listening.result(), session, place)
    finally:
        stop.set()
        await task


@pytest.fixture
async def operator(
    request: pytest.FixtureRequest,
    bellbuoy: "Kubernetes",
    control_plane: "Kubernetes",
    namespace: "Namespace",
    operator_kubeconfig: Path,
) -> AsyncIterator[Running]:
    """A parameter, if the test gives one, is the time between its looks at servers and alertmanagers."""
    async with running(namespace, operator_kubeconfig, status_seconds=getattr(request, "param", 0.3)) as one:
        yield one
        # While there is somebody to take its finalizer off: what stays would be reconciled in every later test.
        await one.kubectl("delete", "monitoringstacks", "--all", "--timeout=30s")


def resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A resource of ours."""
    return {"apiVersion": "bellbuoy.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pod(name: str, labels: dict[str, str], *, port: int = 8080) -> dict[str, Any]:
    """A pod that no kubelet runs."""
    container = {"name": "app", "image": "app:1", "ports": [{"name": "metrics", "containerPort": port}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "node-0", "containers": [container], "terminationGracePeriodSeconds": 300},
    }


def pod_status(ip: str, *, ready: bool = True) -> str:
    """The patch that a kubelet would make."""
    condition = {"type": "Ready", "status": str(ready)}
    return json.dumps({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [condition]}})


@pytest.fixture
def loopback() -> str:
    """An address of this machine that stands in for a pod's."""
    return f"127.0.{uuid.uuid4().int % 200 + 20}.{uuid.uuid4().int % 200 + 20}"
