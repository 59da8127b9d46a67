"""The demo's Slack takes messages where pods reach it and passes them on, and tells nobody the webhook's address."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from deploy.demo import relay
from deploy.local.shell import LocalClusterError
from tests.slack_server import PATH, SlackServer, running
from tests.ui.conftest import free_address

REAL_TIME = True
FIRING = {"text": "🔴 Hot firing"}


@pytest.fixture
async def slack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlackServer]:
    """The real Slack of these tests; the variable names its webhook."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with running() as server:
        monkeypatch.setenv(relay.VARIABLE, server.url)
        yield server
        await asyncio.to_thread(relay.stop)


async def start(address: str) -> str:
    """Start the relay there."""
    host, _, port = address.partition(":")
    return await asyncio.to_thread(relay.start, host, int(port), alert="Hot")


async def post(url: str, message: object) -> tuple[int, str]:
    """As the alertmanager posts."""
    async with aiohttp.ClientSession() as session, session.post(url, json=message) as answer:
        return answer.status, await answer.text()


async def test_a_message_goes_on_to_the_real_slack_and_its_answer_comes_back(
    slack: SlackServer, tmp_path: Path
) -> None:
    url = await start(free_address())
    assert await post(url, FIRING) == (200, "ok")
    assert slack.messages == [FIRING]
    assert await asyncio.to_thread(relay.found, url, "Hot") == (FIRING, "Slack took the message")
    slack.answers.append({"status": 404, "text": "no_team"})
    other = {"text": "🔴 Other firing"}
    assert await post(url, other) == (404, "no_team")
    found = await asyncio.to_thread(relay.found, url, "Other")
    assert found == (other, "Slack did not take the message: 404 no_team")
    log = (tmp_path / "bellbuoy/clusters/demo-slack.log").read_text()
    assert "Slack answered 404 no_team" in log
    assert PATH not in log


async def test_a_slack_that_is_not_reached_is_said_without_its_address(
    slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(relay.VARIABLE, f"http://{free_address()}{PATH}")
    url = await start(free_address())
    assert await post(url, FIRING) == (502, "this machine cannot reach it (ClientConnectorError)")
    monkeypatch.setenv(relay.VARIABLE, "hooks.example/T1/secret")
    with pytest.raises(LocalClusterError, match="SLACK_WEBHOOK_URL is no https address") as caught:
        relay.webhook()
    assert "secret" not in str(caught.value)


async def test_without_a_webhook_it_only_takes_and_a_later_start_passes_on_what_still_fires(
    slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(relay.VARIABLE)
    address = free_address()
    url = await start(address)
    assert await post(url, FIRING) == (200, "ok")
    assert await asyncio.to_thread(relay.found, url, "Hot") == (FIRING, "")
    assert slack.messages == []
    monkeypatch.setenv(relay.VARIABLE, slack.url)
    assert await start(address) == url
    assert slack.messages == [FIRING]
    await post(url, {"text": "🟢 Hot resolved"})
    await start(address)
    assert len(slack.messages) == 2
    assert await asyncio.to_thread(relay.stop)
    assert not await asyncio.to_thread(relay.stop)


async def test_an_address_that_another_server_has_is_an_error(slack: SlackServer) -> None:
    with pytest.raises(LocalClusterError, match="does something else listen there"):
        await start(slack.url.removeprefix("http://").removesuffix(PATH))
