"""The operator with our real server and alertmanager behind it, at pods' addresses: what it says and what they do."""

import argparse
import asyncio
import base64
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import bellbuoy.alertmanager as alertmanager
import bellbuoy.server as server
from bellbuoy_operator import Options
from tests.operator.conftest import SYSTEM, Running, pod, pod_status, resource, until
from tests.operator.test_status import status_of

pytestmark = pytest.mark.control_plane


async def options_of(operator: Running, folder: Path, part: str) -> list[str]:
    """The flags that a part's pod would have, with the files that it would have mounted."""
    secret = await operator.get("secret", "bellbuoy-operator-ca", f"--namespace={SYSTEM}")
    (folder / "ca.crt").write_bytes(base64.b64decode(secret["data"]["ca.crt"]))
    (folder / f"{part}.token").write_text(await operator.token(f"main-{part}"))
    return [
        f"--config-url=https://{operator.address}/v1/stacks/{operator.place.name}/main",
        f"--config-token-file={folder / f'{part}.token'}",
        f"--config-ca-file={folder / 'ca.crt'}",
        f"--storage.path={folder / part}",
    ]


# How long after a message at most its receiver's status tells of it, at the pace that users have.
TOLD_SECONDS = 10.0


@pytest.mark.parametrize("operator", [Options().status_seconds], indirect=True)
async def test_a_real_server_scrapes_what_the_operator_says_and_status_tells_it(
    operator: Running, loopback: str, tmp_path: Path
) -> None:
    await operator.apply(
        resource("MonitoringStack", "main", {"scrapeInterval": "1s", "evaluationInterval": "1s"}),
        resource("ScrapeTarget", "web", {"pods": {"selector": {"matchLabels": {"app": "web"}}}}),
        resource("AlertRule", "hot", {"expr": "temperature > 30", "severity": "critical"}),
        resource("RecordingRule", "mean", {"record": "room:temperature:avg", "expr": "avg by (room) (temperature)"}),
        resource("AlertReceiver", "hook", {"webhook": {"url": f"http://{loopback}:8088/"}, "groupWait": "0s"}),
    )

    async def accounts() -> bool:
        return await operator.names("serviceaccounts") >= {
            "serviceaccount/main-server",
            "serviceaccount/main-alertmanager",
        }

    await until("the parts have accounts", accounts)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text='# TYPE temperature gauge\ntemperature{room="a"} 31\ntemperature{room="b"} 3\n')

    async def hook(request: web.Request) -> web.Response:
        if not told.done():
            told.set_result((await request.json())["commonLabels"]["alertname"])
        return web.Response()

    runners = []
    for port, method, path, handler in ((8080, "GET", "/metrics", metrics), (8088, "POST", "/", hook)):
        app = web.Application()
        app.router.add_route(method, path, handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, loopback, port).start()
        runners.append(runner)
    stop, tasks = asyncio.Event(), []
    for part, module, port in (("server", server, 9090), ("alertmanager", alertmanager, 9093)):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        flags = [*await options_of(operator, tmp_path, part), f"--web.listen-address={loopback}:{port}"]
        tasks.append(asyncio.create_task(module.run(module.options(parser.parse_args(flags)), stop)))
    labels = {"server": {"bellbuoy.io/stack": "main", "bellbuoy.io/part": "server"}, "web": {"app": "web"}}
    labels["alertmanager"] = {"bellbuoy.io/stack": "main", "bellbuoy.io/part": "alertmanager"}
    for name, of_pod in labels.items():
        await operator.apply(pod(name, of_pod))
        patch = ("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", pod_status(loopback))
        await operator.kubectl(*patch)
    try:
        status = await status_of(operator, "scrapetarget", "web", "Ready", "AllUp")
        assert (status["matched"], status["up"], status["series"]) == (1, 1, 2)

        async def firing() -> bool:
            return bool((await operator.get("alertrule", "hot"))["status"].get("state") == "firing")

        await until("the alert fires", firing)
        # There is no DNS that knows the alertmanager's service: what the server would send comes from here.
        async with aiohttp.ClientSession() as session:
            url = f"http://{loopback}:9093/api/v2/alerts"
            (await session.post(url, json=[{"labels": {"alertname": "hot"}}])).raise_for_status()
        async with asyncio.timeout(10):
            assert await told == "hot"

        async def said() -> str:
            return str((await operator.get("alertreceiver", "hook"))["status"].get("lastNotification", ""))

        last = datetime.fromisoformat(
            await until("the receiver's status tells of the message", said, seconds=TOLD_SECONDS)
        )
        assert abs((datetime.now(UTC) - last).total_seconds()) < TOLD_SECONDS
        await status_of(operator, "alertreceiver", "hook", "Ready", "Delivering")
        status = await status_of(operator, "recordingrule", "mean", "Ready", "Evaluated")
        assert status["series"] == 2
        columns = (await operator.kubectl("get", "recordingrule", "mean", "--no-headers")).split()
        assert columns[:3] == ["mean", "room:temperature:avg", "2"]

        async def of_all() -> bool:
            # The server and the alertmanager are targets of it, too.
            status = (await operator.get("monitoringstack", "main"))["status"]
            return bool(status.get("up") == 3 and status["series"] > 50)

        await until("the stack's status has the sum of all series", of_all)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        for runner in runners:
            await runner.cleanup()
