"""A resource's status says what became of it, from the selector to the scrape."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.operator.conftest import Running, pod, pod_status, resource, until

pytestmark = pytest.mark.control_plane

WEB = {"pods": {"selector": {"matchLabels": {"app": "web"}}}}


async def status_of(operator: Running, kind: str, name: str, condition: str, reason: str) -> dict[str, Any]:
    """The status, once the condition has the reason."""
    last: dict[str, Any] = {}

    async def has() -> dict[str, Any] | None:
        status: dict[str, Any] = (await operator.get(kind, name)).get("status") or {}
        reasons = {one["type"]: one["reason"] for one in status.get("conditions", ())}
        last.clear()
        last.update(status)
        return status if reasons.get(condition) == reason else None

    try:
        found = await until(f"{kind}/{name} is {condition} because of {reason}", has)
    except AssertionError as e:
        raise AssertionError(f"{e}; its status is {last}") from e
    assert found is not None
    return found


def message(status: dict[str, Any], condition: str) -> str:
    return next(str(one["message"]) for one in status["conditions"] if one["type"] == condition)


@pytest.fixture
async def parts(operator: Running, loopback: str) -> AsyncIterator[dict[str, Any]]:
    """A server and an alertmanager of the stack that answer as ours do, at a pod's address; what they answer."""
    answers: dict[str, Any] = {"targets": [], "groups": [], "receivers": []}

    async def targets(_: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": {"activeTargets": answers["targets"]}})

    async def rules(_: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": {"groups": answers["groups"]}})

    async def receivers(_: web.Request) -> web.Response:
        return web.json_response(answers["receivers"])

    runners = []
    for port, routes in (
        (9090, {"/api/v1/targets": targets, "/api/v1/rules": rules}),
        (9093, {"/api/v1/bellbuoy/receivers": receivers}),
    ):
        app = web.Application()
        for path, handler in routes.items():
            app.router.add_get(path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, loopback, port).start()
        runners.append(runner)
    for part in ("server", "alertmanager"):
        labels = {"bellbuoy.io/stack": "main", "bellbuoy.io/part": part}
        await operator.apply(pod(part, labels))
        patch = ("patch", "pod", part, "--subresource=status", "--type=merge", "--patch", pod_status(loopback))
        await operator.kubectl(*patch)
    yield answers
    for runner in runners:
        await runner.cleanup()


async def test_a_resource_that_no_stack_takes_says_what_to_do(operator: Running) -> None:
    await operator.apply(resource("ScrapeTarget", "web", WEB))
    status = await status_of(operator, "scrapetarget", "web", "Accepted", "NoStack")
    assert "make one there, or widen spec.selects.namespaces" in message(status, "Accepted")


async def test_a_target_without_pods_says_where_the_chain_breaks(operator: Running) -> None:
    await operator.apply(resource("MonitoringStack", "main", {}), resource("ScrapeTarget", "web", WEB))
    status = await status_of(operator, "scrapetarget", "web", "Ready", "NoTargets")
    assert "has the labels that spec.pods.selector asks for" in message(status, "Ready")
    await operator.apply(pod("web-1", {"app": "web"}))

    async def says(text: str) -> None:
        async def said() -> bool:
            found = await status_of(operator, "scrapetarget", "web", "Ready", "NoTargets")
            return text in message(found, "Ready")

        await until(text, said)

    await says("1 pods match, but none runs yet (phase Pending)")
    await operator.apply(resource("ScrapeTarget", "web", {**WEB, "port": "http"}))
    patch = ("patch", "pod", "web-1", "--subresource=status", "--type=merge", "--patch", pod_status("10.1.2.3"))
    await operator.kubectl(*patch)
    await says('none declares a port named "http"; they declare metrics: set spec.port')
    keep = {"sourceLabels": ["pod"], "regex": "other", "action": "keep"}
    await operator.apply(resource("ScrapeTarget", "web", {**WEB, "relabelings": [keep]}))
    await says("1 targets were found, and spec.relabelings drop all of them")


async def test_a_targets_counts_and_errors_are_told(operator: Running, parts: dict[str, Any]) -> None:
    await operator.apply(resource("MonitoringStack", "main", {}), resource("ScrapeTarget", "web", WEB))
    await operator.apply(pod("web-1", {"app": "web"}))
    patch = ("patch", "pod", "web-1", "--subresource=status", "--type=merge", "--patch", pod_status("10.1.2.3"))
    await operator.kubectl(*patch)
    pool = f"{operator.place.name}.web"
    up = {"scrapePool": pool, "health": "up", "lastError": "", "scrapeUrl": "http://a/metrics", "series": 40}
    parts["targets"] = [up, {**up, "health": "down", "lastError": "connection refused"}]
    status = await status_of(operator, "scrapetarget", "web", "Ready", "TargetsDown")
    assert (status["matched"], status["up"], status["series"]) == (1, 1, 80)
    assert status["lastError"] == "http://a/metrics: connection refused"
    (of_stack,) = status["stacks"]
    assert (of_stack["namespace"], of_stack["name"], of_stack["up"]) == (operator.place.name, "main", 1)
    parts["targets"] = [up]
    status = await status_of(operator, "scrapetarget", "web", "Ready", "AllUp")
    assert "lastError" not in status
    columns = (await operator.kubectl("get", "scrapetarget", "web", "--no-headers")).split()
    assert columns[:4] == ["web", "1", "1", "40"]
    stack = await operator.get("monitoringstack", "main")
    assert stack["status"]["ready"] == "0/4"
    assert "seriesDropped" not in status
    await operator.apply(resource("ScrapeTarget", "web", {**WEB, "seriesBudget": 40}))
    parts["targets"] = [{**up, "seriesDropped": 3}]
    status = await status_of(operator, "scrapetarget", "web", "Ready", "OverBudget")
    assert (status["series"], status["seriesDropped"], status["stacks"][0]["seriesDropped"]) == (40, 3, 3)
    said = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert (said["status"], "3 series are left out: raise spec.seriesBudget" in said["message"]) == ("True", True)


async def test_a_rules_state_is_told_and_one_that_cannot_be_parsed(operator: Running, parts: dict[str, Any]) -> None:
    await operator.apply(
        resource("MonitoringStack", "main", {}),
        resource("AlertRule", "good", {"expr": "up == 0"}),
        resource("AlertRule", "bad", {"expr": "sum("}),
    )
    rule = {
        "type": "alerting",
        "state": "firing",
        "alerts": [{}, {}],
        "health": "ok",
        "lastError": "",
        "lastEvaluation": "2026-01-02T03:04:05.678Z",
    }
    parts["groups"] = [{"name": f"{operator.place.name}.good", "rules": [rule]}]
    status = await status_of(operator, "alertrule", "good", "Ready", "Evaluated")
    assert (status["state"], status["active"]) == ("firing", 2)
    assert status["lastEvaluation"] == "2026-01-02T03:04:00Z"
    status = await status_of(operator, "alertrule", "bad", "Accepted", "InvalidExpression")
    assert "1:5: parse error" in status["lastError"]


async def test_a_receivers_notifications_are_told(operator: Running, parts: dict[str, Any]) -> None:
    await operator.apply(
        resource("MonitoringStack", "main", {}),
        resource("AlertReceiver", "hook", {"webhook": {"url": "http://hook.example.org/"}}),
    )
    name = f"{operator.place.name}.hook"
    last = "2026-01-02T03:04:05.678Z"
    parts["receivers"] = [{"name": name, "lastNotification": last, "failures": 3, "lastError": "HTTP 500"}]
    status = await status_of(operator, "alertreceiver", "hook", "Ready", "NotificationFailed")
    assert (status["lastNotification"], status["failures"]) == ("2026-01-02T03:04:05Z", 3)


async def test_a_secret_is_copied_only_where_its_label_allows_it(operator: Running) -> None:
    token = {"authorization": {"credentials": {"name": "token", "key": "value"}}}
    await operator.kubectl("create", "secret", "generic", "token", "--from-literal=value=hush")
    await operator.apply(resource("MonitoringStack", "main", {}), resource("ScrapeTarget", "web", {**WEB, **token}))
    status = await status_of(operator, "scrapetarget", "web", "Accepted", "SecretNotAllowed")
    assert "kubectl label secret" in status["lastError"]
    assert "hush" not in str(status)

    async def copied() -> bool:
        return "secret/main-secrets" in await operator.names("secrets")

    await until("the stack's secret is there", copied)
    assert (await operator.get("secret", "main-secrets")).get("data", {}) == {}
    await operator.kubectl("label", "secret", "token", "bellbuoy.io/allow=true")
    # Secrets are not watched: a change of the stack, or a minute, makes the operator look again.
    await operator.apply(resource("MonitoringStack", "main", {"scrapeInterval": "10s"}))
    await status_of(operator, "scrapetarget", "web", "Accepted", "Taken")
    data = (await operator.get("secret", "main-secrets"))["data"]
    assert list(data.values()) == ["aHVzaA=="]


async def test_the_keys_to_a_stacks_archive_are_copied_and_their_lack_is_told(operator: Running) -> None:
    archive = {"archive": {"s3": {"bucket": "metrics", "credentials": {"name": "s3", "key": "credentials"}}}}
    await operator.apply(resource("MonitoringStack", "main", archive))
    status = await status_of(operator, "monitoringstack", "main", "Reconciled", "SecretNotFound")
    assert "s3 does not exist: make it" in status["lastError"]
    await operator.kubectl("create", "secret", "generic", "s3", "--from-literal=credentials=[default]")
    await operator.kubectl("label", "secret", "s3", "bellbuoy.io/allow=true")
    await operator.apply(resource("MonitoringStack", "main", {**archive, "scrapeInterval": "10s"}))
    await status_of(operator, "monitoringstack", "main", "Reconciled", "Applied")
    (file,) = (await operator.get("secret", "main-secrets"))["data"]
    server = await operator.get("statefulset", "main-server")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    assert f"--storage.archive.credentials-file=/var/run/bellbuoy/secrets/{file}" in container["args"]
