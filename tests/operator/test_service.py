"""What servers and alertmanagers ask of the operator: parts, targets, the long poll, and who may ask."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.operator.conftest import Running, kubeconfig_of, pod, pod_status, resource, running, until

if TYPE_CHECKING:
    from tests.conftest import Kubernetes, Namespace

pytestmark = pytest.mark.control_plane

WEB = resource("ScrapeTarget", "web", {"pods": {"selector": {"matchLabels": {"app": "web"}}}})


async def served(operator: Running) -> str:
    """Applies a stack with a ScrapeTarget; its hash once both are served."""
    await operator.apply(resource("MonitoringStack", "main", {}), WEB)

    async def account() -> bool:
        return "serviceaccount/main-server" in await operator.names("serviceaccounts")

    await until("the server's service account is there", account)

    async def ready() -> str:
        status, body = await operator.ask("changes?timeout=0")
        answer = json.loads(body) if status == 200 else {"parts": {}}
        return str(answer["hash"]) if f"targets/{operator.place.name}.web" in answer["parts"] else ""

    return await until("the stack is served", ready)


async def test_all_parts_are_served_with_their_hashes(operator: Running) -> None:
    await served(operator)
    answer = json.loads((await operator.ask("changes?timeout=0"))[1])
    pool = f"{operator.place.name}.web"
    own = {f"targets/{name}" for name in ("node", "cadvisor", "server", "alertmanager", "pushgateway", pool)}
    assert set(answer["parts"]) == {"prometheus.yml", "rules.yml", "alertmanager.yml"} | own
    for part in answer["parts"]:
        status, body = await operator.ask(part)
        assert status == 200
        assert yaml.safe_load(body) is not None
    jobs = yaml.safe_load((await operator.ask("prometheus.yml"))[1])["scrape_configs"]
    assert pool in [job["job_name"] for job in jobs]
    assert (await operator.ask("targets/nothing"))[0] == 404
    assert (await operator.ask("changes?timeout=soon"))[0] == 400


async def test_a_pod_is_listed_while_it_runs_and_its_state_is_told(operator: Running) -> None:
    await served(operator)
    pool = f"{operator.place.name}.web"
    await operator.apply(pod("web-1", {"app": "web"}))
    assert await operator.targets(pool) == []

    async def flags() -> list[str] | None:
        groups = await operator.targets(pool)
        return sorted(key for key in groups[0]["labels"] if key.startswith("__bellbuoy")) if groups else None

    async def see(want: list[str] | None) -> None:
        async def seen() -> bool:
            return await flags() == want

        await until(f"flags are {want}", seen)

    patch = ("patch", "pod", "web-1", "--subresource=status", "--type=merge", "--patch")
    await operator.kubectl(*patch, pod_status("10.1.2.3", ready=False))
    await see(["__bellbuoy_not_ready__"])
    (group,) = await operator.targets(pool)
    assert group["targets"] == ["10.1.2.3:8080"]
    assert (group["labels"]["pod"], group["labels"]["namespace"]) == ("web-1", operator.place.name)
    await operator.kubectl(*patch, pod_status("10.1.2.3"))
    await see([])
    await operator.kubectl(*patch, pod_status("10.1.2.3", ready=False))
    await see([])
    await operator.kubectl("delete", "pod", "web-1", "--wait=false")
    await see(["__bellbuoy_terminating__"])
    await operator.kubectl("delete", "pod", "web-1", "--grace-period=0", "--force")
    await see(None)


async def test_the_long_poll_answers_well_within_a_second_of_a_change_and_not_before(operator: Running) -> None:
    known = await served(operator)
    await operator.apply(pod("web-1", {"app": "web"}))
    status, body = await operator.ask(f"changes?after={known}&timeout=0.3")
    assert (status, json.loads(body)["hash"]) == (200, known)
    waiting = asyncio.create_task(operator.ask(f"changes?after={known}&timeout=20"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    patch = ("patch", "pod", "web-1", "--subresource=status", "--type=merge", "--patch", pod_status("10.1.2.3"))
    await operator.kubectl(*patch)
    patched = time.monotonic()
    assert json.loads((await waiting)[1])["hash"] != known
    assert time.monotonic() - patched < 1.0


async def test_a_part_that_did_not_change_need_not_be_sent_again(operator: Running) -> None:
    await served(operator)
    url = f"https://{operator.address}/v1/stacks/{operator.place.name}/main/rules.yml"
    headers = {"Authorization": f"Bearer {await operator.token()}"}
    async with operator.session.get(url, headers=headers) as first:
        etag = first.headers["ETag"]
    async with operator.session.get(url, headers={**headers, "If-None-Match": etag}) as second:
        assert second.status == 304


async def test_only_tokens_made_for_us_are_accepted(operator: Running) -> None:
    await served(operator)

    async def check(token: str, status: int, text: str) -> None:
        assert (await operator.ask("rules.yml", token=token))[0] == status
        assert text in (await operator.ask("rules.yml", token=token))[1]

    await check("", 401, "a token is needed")
    await check("nonsense", 401, "the token is not accepted")
    await check(await operator.token(audience="https://kubernetes.default.svc"), 401, "audience bellbuoy")
    await check(await operator.token("main-node-exporter"), 403, "grant it get on monitoringstacks/configuration")
    await check(await operator.token("main-alertmanager"), 200, "groups")


async def test_rbac_grants_others_the_configuration(operator: Running) -> None:
    await served(operator)
    await operator.kubectl("create", "serviceaccount", "prometheus")
    for verb in (
        ("role", "reader", "--verb=get", "--resource=monitoringstacks.bellbuoy.io/configuration"),
        ("rolebinding", "reader", "--role=reader", f"--serviceaccount={operator.place.name}:prometheus"),
    ):
        await operator.kubectl("create", *verb)
    assert (await operator.ask("rules.yml", token=await operator.token("prometheus")))[0] == 200


async def test_until_all_is_known_every_answer_is_503(
    bellbuoy: "Kubernetes", control_plane: "Kubernetes", namespace: "Namespace", tmp_path: Path
) -> None:
    # This one may do all that the operator does but look at pods.
    role = json.loads(bellbuoy.kubectl("get", "clusterrole", "bellbuoy-operator", "--output=json"))
    rules = [rule for rule in role["rules"] if "pods" not in rule["resources"]]
    name = f"blind-{namespace.name}"
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "namespace": namespace.name, "name": "blind"}
    reference = {"apiGroup": rbac, "kind": "ClusterRole", "name": name}
    namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace.name, "name": "blind"}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": reference,
            "subjects": [subject],
        },
    )
    kubeconfig = kubeconfig_of(bellbuoy, tmp_path, namespace=namespace.name, account="blind")
    async with running(namespace, kubeconfig) as operator:
        await operator.kubectl("create", "serviceaccount", "main-server")
        await operator.apply(resource("MonitoringStack", "main", {}))
        status, body = await operator.ask("changes?timeout=0")
        assert status == 503
        assert "not all is known yet (pods" in body
        # Whoever may not read the stack is not told that either.
        assert (await operator.ask("changes?timeout=0", token="nonsense"))[0] == 401
    namespace.kubectl("delete", "clusterrole,clusterrolebinding", name)
