"""The operator as a user meets it: a stack becomes objects that come back, and goes without a trace."""

import asyncio
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bellbuoy.errors import CannotError
from bellbuoy_operator import Options, run
from tests.operator.conftest import Running, resource, running, until

if TYPE_CHECKING:
    from tests.conftest import Kubernetes, Namespace

pytestmark = pytest.mark.control_plane

OBJECTS = {
    "statefulset.apps/main-server",
    "daemonset.apps/main-node-exporter",
    "deployment.apps/main-alertmanager",
    "deployment.apps/main-pushgateway",
    "service/main-server",
    "service/main-alertmanager",
    "service/main-pushgateway",
    "serviceaccount/main-server",
    "serviceaccount/main-node-exporter",
    "serviceaccount/main-alertmanager",
    "serviceaccount/main-pushgateway",
    "configmap/main-operator-ca",
    "secret/main-secrets",
}
KINDS = "statefulsets,daemonsets,deployments,services,serviceaccounts,configmaps,secrets"


async def stack_is_up(operator: Running, spec: dict[str, object] | None = None) -> None:
    await operator.apply(resource("MonitoringStack", "main", spec or {}))

    async def complete() -> bool:
        return await operator.names(KINDS) >= OBJECTS

    await until("all objects are there", complete)


async def test_a_stack_becomes_objects_that_it_owns(operator: Running) -> None:
    await stack_is_up(operator)
    stack = await operator.get("monitoringstack", "main")
    server = await operator.get("statefulset", "main-server")
    assert server["metadata"]["ownerReferences"][0]["uid"] == stack["metadata"]["uid"]
    binding = await operator.get("clusterrolebinding", f"bellbuoy:{operator.place.name}:main:kubelet-metrics")
    assert binding["roleRef"]["name"] == "bellbuoy-kubelet-metrics"
    assert binding["subjects"][0]["namespace"] == operator.place.name


async def test_what_is_deleted_by_hand_comes_back(operator: Running) -> None:
    await stack_is_up(operator)
    for kind, name in (
        ("statefulset", "main-server"),
        ("service", "main-alertmanager"),
        ("configmap", "main-operator-ca"),
    ):
        before = (await operator.get(kind, name))["metadata"]["uid"]
        await operator.kubectl("delete", kind, name, "--wait=false")

        async def back(kind: str = kind, name: str = name, before: str = before) -> bool:
            found = await operator.kubectl("get", kind, name, "--ignore-not-found", "--output=jsonpath={.metadata.uid}")
            return found not in ("", before)

        await until(f"{kind}/{name} is back", back)


async def test_what_is_changed_by_hand_is_changed_back(operator: Running) -> None:
    await stack_is_up(operator)
    await operator.kubectl("scale", "statefulset", "main-server", "--replicas=0")

    async def restored() -> bool:
        return bool((await operator.get("statefulset", "main-server"))["spec"]["replicas"] == 1)

    await until("the replica is back", restored)


async def test_a_part_that_is_turned_off_goes(operator: Running) -> None:
    await stack_is_up(operator)
    await operator.apply(
        resource("MonitoringStack", "main", {"pushgateway": {"enabled": False}, "kubelet": {"cadvisor": False}})
    )

    async def gone() -> bool:
        left = await operator.names(KINDS)
        binding = f"bellbuoy:{operator.place.name}:main:kubelet-metrics"
        bound = await operator.kubectl("get", "clusterrolebinding", binding, "--ignore-not-found")
        return not any("pushgateway" in name for name in left) and not bound

    await until("the pushgateway and the binding are gone", gone)
    assert "statefulset.apps/main-server" in await operator.names(KINDS)


async def test_a_stack_that_is_deleted_leaves_nothing_outside_its_namespace(operator: Running) -> None:
    await stack_is_up(operator)
    assert (await operator.get("monitoringstack", "main"))["metadata"]["finalizers"] == ["bellbuoy.io/cluster-bindings"]
    await operator.kubectl("delete", "monitoringstack", "main", "--timeout=20s")
    binding = f"bellbuoy:{operator.place.name}:main:kubelet-metrics"
    assert await operator.kubectl("get", "clusterrolebinding", binding, "--ignore-not-found") == ""

    async def forgotten() -> bool:
        return (await operator.ask("prometheus.yml", token=await operator.token("main-server")))[0] == 404

    await until("nothing is served of it", forgotten)


async def test_a_port_that_is_taken_ends_the_start_with_one_error(
    bellbuoy: "Kubernetes", operator_kubeconfig: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = Options(kubeconfig=operator_kubeconfig, config_listen="127.0.0.1:0", metrics_listen=address)
        with pytest.raises(CannotError, match=f"cannot listen at {address}: the port is in use"):
            await run(options, asyncio.Event())


async def test_only_the_holder_of_the_lease_writes_and_another_takes_over(
    bellbuoy: "Kubernetes", control_plane: "Kubernetes", namespace: "Namespace", operator_kubeconfig: Path
) -> None:
    async with running(namespace, operator_kubeconfig, "second") as second:
        async with running(namespace, operator_kubeconfig, "first") as first:
            await stack_is_up(first)
            lease = await first.get("lease", "bellbuoy-operator", "--namespace=bellbuoy-system")
            assert lease["spec"]["holderIdentity"].startswith("second")

            async def both_serve() -> bool:
                answers = [await one.ask("changes?timeout=0", token=await first.token()) for one in (first, second)]
                return answers[0] == answers[1] and json.loads(answers[0][1])["hash"] != ""

            await until("both serve the same", both_serve)
        await second.kubectl("delete", "service", "main-server", "--wait=false")

        async def back() -> bool:
            return "service/main-server" in await second.names("services")

        await until("the other one writes", back)
