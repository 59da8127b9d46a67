"""The demo's Slack on this machine: takes what Slack takes, and passes it on to the real one if it knows a webhook.

Pods of the local cluster reach this machine and not the internet. So their webhook is here; with SLACK_WEBHOOK_URL in
the environment each message goes on from here, and what Slack answers is what the alertmanager is answered. It is a
process of its own, `python -m deploy.demo.relay HOST PORT`, since it stays when the demo has ended. The webhook's URL
is a secret: it comes by the environment, and stands neither in a log nor in an error.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp

from deploy.local import paths
from deploy.local.shell import LocalClusterError, last_lines, say, wait_for
from tests.slack_server import PATH, running

VARIABLE = "SLACK_WEBHOOK_URL"
# Slack answers in a second; the alertmanager, which waits for this, tries again what took too long.
TIMEOUT_SECONDS = 8
# What this process started: whoever starts and stops it also reaps it.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def webhook() -> str:
    """The real webhook's URL, or nothing. Raises LocalClusterError if it is no address."""
    url = os.environ.get(VARIABLE, "")
    if url and not url.startswith(("https://", "http://")):
        raise LocalClusterError(f"{VARIABLE} is no https address; take it from https://api.slack.com/apps")
    return url


def start(host: str, port: int, *, alert: str) -> str:
    """Start it in the background, in place of one that runs; the webhook's URL as pods reach it.

    If the last message about this alert says that it fires, it is taken over: the alertmanager does not tell it again.
    """
    base = f"http://{host}:{port}"
    last = [one for one in (_get(f"{base}/messages") or []) if alert in json.dumps(one)][-1:]
    stop()
    _pid().parent.mkdir(parents=True, exist_ok=True)
    with _pid().with_suffix(".log").open("wb") as log:
        command = [sys.executable, "-m", "deploy.demo.relay", host, str(port)]
        process = subprocess.Popen(command, cwd=paths.CHECKOUT, stdout=log, stderr=log, start_new_session=True)
    _CHILDREN[process.pid] = process
    _pid().write_text(str(process.pid))

    def check() -> None:
        if process.poll() is not None:
            said = last_lines(_pid().with_suffix(".log"))
            raise LocalClusterError(f"cannot run the demo's Slack at {base}; does something else listen there?\n{said}")

    # Not by an answer: another server at this address would give one too.
    log_file = _pid().with_suffix(".log")
    wait_for("the demo's Slack", lambda: b"listens" in log_file.read_bytes(), seconds=30, check=check)
    for message in (one for one in last if "firing" in one.get("text", "")):
        request = urllib.request.Request(
            base + PATH, json.dumps(message).encode(), {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS + 2).close()
        except urllib.error.HTTPError as error:
            say(f"Slack does not take the last message of the demo before: {error.code}")
    return base + PATH


def stop() -> bool:
    """End it; whether one ran."""
    pid = _pid()
    if not pid.exists():
        return False
    number = int(pid.read_text())
    pid.unlink()
    if not _is_ours(number):
        return False
    os.kill(number, signal.SIGTERM)
    if number in _CHILDREN:
        _CHILDREN.pop(number).wait(timeout=10)
    wait_for("the demo's Slack to end", lambda: not _is_ours(number), seconds=10)
    return True


def _is_ours(process: int) -> bool:
    """After a restart of the machine the number may be another program's."""
    try:
        return b"deploy.demo.relay" in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def found(url: str, word: str) -> tuple[dict[str, Any], str] | None:
    """The first message that says this word and was taken or refused, and how."""
    base = url.removesuffix(PATH)
    for one in _get(f"{base}/messages") or []:
        if word in json.dumps(one):
            return one, "Slack took the message" if webhook() else ""
    for one in _get(f"{base}/refused") or []:
        if word in one["body"]:
            return json.loads(one["body"]), f"Slack did not take the message: {one['reason']}"
    return None


def _pid() -> Path:
    return paths.clusters() / "demo-slack.pid"


def _get(url: str) -> Any:
    """The JSON there; None while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return json.load(answer)
    except OSError:
        return None


async def _serve(host: str, port: int) -> None:
    real = webhook()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:

        async def pass_on(message: dict[str, Any]) -> tuple[int, str]:
            try:
                async with session.post(real, json=message, allow_redirects=False) as answer:
                    status, text = answer.status, (await answer.text())[:200]
            except (aiohttp.ClientError, TimeoutError) as error:
                status, text = 502, f"this machine cannot reach it ({type(error).__name__})"
            print(f"Slack answered {status} {text}", flush=True)
            return status, text

        async with running(host=host, port=port, pass_on=pass_on if real else None):
            print(f"listens at {host}:{port}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
