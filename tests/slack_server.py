"""A server in the shape of Slack's incoming webhooks: takes what Slack takes, refuses what Slack refuses.

`POST /services/T…/B…/X…` checks a message by the documented contract and by Slack's own library, and answers in Slack's
words. `GET /messages` lists what was accepted, `GET /refused` what was not and why, `DELETE /messages` forgets both.
`POST /answers` with `[{"status": 429, "text": "rate_limited", "retry_after": 2}, …]` sets the next answers. With
`pass_on` a message that is right goes there first, and is accepted if the answer is 200.
By itself: `python -m tests.slack_server --port 8025`.
"""

import argparse
import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

WEBHOOK = re.compile(r"T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{16,}\Z")
PATH = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
KEYS = {
    "text", "blocks", "attachments", "channel", "username", "icon_emoji", "icon_url", "link_names", "mrkdwn",
    "unfurl_links", "unfurl_media", "thread_ts", "response_type", "replace_original", "delete_original", "metadata",
}  # fmt: skip
BLOCKS_LIMIT, ATTACHMENTS_LIMIT, TEXT_LIMIT = 50, 100, 40_000
# Not documented: messages of more characters have been refused as msg_blocks_too_long.
CHARACTERS_LIMIT = 13_000
# The least that a block must have and the most that it may, by Slack's reference.
BLOCK_TYPES = {"actions", "context", "divider", "header", "image", "section", "rich_text", "markdown", "file", "video"}


PassOn = Callable[[dict[str, Any]], Awaitable[tuple[int, str]]]


class InvalidError(ValueError):
    """What Slack would refuse, and why."""


def check_message(message: Any) -> None:
    """Raises InvalidError for a message that Slack refuses."""
    if not isinstance(message, dict):
        raise InvalidError("the body must be a JSON object")
    unknown = sorted(message.keys() - KEYS)
    if unknown:
        raise InvalidError(f"unknown keys {', '.join(unknown)}")
    if not (message.get("text") or message.get("blocks") or message.get("attachments")):
        raise InvalidError("no_text")
    if len(message.get("text", "")) > TEXT_LIMIT:
        raise InvalidError("text is too long")
    attachments = message.get("attachments", [])
    if len(attachments) > ATTACHMENTS_LIMIT:
        raise InvalidError("too_many_attachments")
    blocks = list(message.get("blocks", []))
    for attachment in attachments:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}|good|warning|danger", attachment.get("color", "good")):
            raise InvalidError(f"color {attachment['color']} is none")
        blocks += attachment.get("blocks", [])
    if len(blocks) > BLOCKS_LIMIT:
        raise InvalidError(f"{len(blocks)} blocks, {BLOCKS_LIMIT} are allowed")
    for block in blocks:
        check_block(block)
    size = len(json.dumps(message, ensure_ascii=False))
    if size > CHARACTERS_LIMIT:
        raise InvalidError(f"msg_blocks_too_long: {size} characters")


def check_block(block: Any) -> None:
    """Raises InvalidError for a block that Slack refuses."""
    if block.get("type") not in BLOCK_TYPES:
        raise InvalidError(f"block type {block.get('type')} is unknown")
    parsed = Block.parse(block)
    if parsed is None:
        raise InvalidError(f"block {block['type']} cannot be read")
    try:
        parsed.validate_json()
    except SlackObjectFormationError as e:
        raise InvalidError(f"block {block['type']}: {e}") from e
    if block["type"] == "section" and not ("text" in block or block.get("fields")):
        raise InvalidError("a section needs text or fields")
    if block["type"] in ("context", "actions") and not block.get("elements"):
        raise InvalidError(f"{block['type']} needs elements")
    texts = [block.get("text"), *block.get("fields", [])]
    texts += [element for element in block.get("elements", []) if block["type"] == "context"]
    texts += [element["text"] for element in block.get("elements", []) if block["type"] == "actions"]
    for text in texts:
        if text is not None:
            check_text(text, kind=block["type"])
    action_ids = [element.get("action_id") for element in block.get("elements", []) if "action_id" in element]
    if len(action_ids) != len(set(action_ids)):
        raise InvalidError("action_id must be unique")
    for element in block.get("elements", []):
        if "url" in element and not re.match(r"https?://[^\s/]+", element["url"]):
            raise InvalidError(f"button url {element['url']} is none")


def check_text(text: Any, *, kind: str) -> None:
    """Raises InvalidError for a text object that Slack refuses."""
    if text.get("type") not in ("plain_text", "mrkdwn"):
        raise InvalidError(f"text type {text.get('type')} is unknown")
    if kind == "header" and text["type"] != "plain_text":
        raise InvalidError("a header's text must be plain_text")
    if not text.get("text"):
        raise InvalidError(f"{kind}: text must be one character long at least")
    if text["type"] == "mrkdwn":
        rest = re.sub(r"<(?:https?://|mailto:|!|@|#)[^<>]*>", "", text["text"])
        if "<" in rest or ">" in rest or re.search(r"&(?!amp;|lt;|gt;)", rest):
            raise InvalidError(f"{kind}: & < > must be escaped in {rest[:80]!r}")


@dataclass
class SlackServer:
    """What came in, and the answers that were asked for."""

    pass_on: PassOn | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._came = asyncio.Condition()

    async def wait_for(self, count: int, *, timeout_seconds: float = 10.0) -> list[dict[str, Any]]:
        """All messages, once there are so many. Raises TimeoutError."""
        async with asyncio.timeout(timeout_seconds), self._came:
            await self._came.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    def application(self) -> web.Application:
        """Its routes."""
        app = web.Application(client_max_size=4 << 20)
        app.router.add_post("/services/{hook:.+}", self._take)
        app.router.add_get("/messages", self._list)
        app.router.add_get("/refused", self._list)
        app.router.add_delete("/messages", self._forget)
        app.router.add_post("/answers", self._set_answers)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        if self.answers:
            answer = self.answers.pop(0)
            headers = {"Retry-After": str(answer["retry_after"])} if "retry_after" in answer else {}
            return web.Response(status=answer["status"], text=answer.get("text", ""), headers=headers)
        if not WEBHOOK.match(request.match_info["hook"]):
            return web.Response(status=404, text="no_team")
        body = await request.text()
        if request.content_type == "application/x-www-form-urlencoded":
            body = str((await request.post()).get("payload", ""))
        try:
            message = json.loads(body)
            check_message(message)
        except ValueError as e:
            self.refused.append({"reason": str(e), "body": body})
            return web.Response(status=400, text="no_text" if str(e) == "no_text" else "invalid_payload")
        if self.pass_on is not None:
            status, text = await self.pass_on(message)
            if status != 200:
                self.refused.append({"reason": f"{status} {text}", "body": body})
                return web.Response(status=status, text=text)
        async with self._came:
            self.messages.append(message)
            self._came.notify_all()
        return web.Response(text="ok")

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(self.refused if request.path == "/refused" else self.messages)

    async def _forget(self, _: web.Request) -> web.Response:
        self.messages.clear()
        self.refused.clear()
        return web.Response(text="ok")

    async def _set_answers(self, request: web.Request) -> web.Response:
        self.answers = list(await request.json())
        return web.Response(text="ok")


@contextlib.asynccontextmanager
async def running(
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    listening: Callable[[str], None] | None = None,
    pass_on: PassOn | None = None,
) -> AsyncIterator[SlackServer]:
    """A server that runs inside the block; its `url` is a webhook's."""
    server = SlackServer(pass_on=pass_on)
    runner = web.AppRunner(server.application(), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        server.url = f"http://{host}:{runner.addresses[0][1]}{PATH}"
        if listening is not None:
            listening(server.url)
        yield server
    finally:
        await runner.cleanup()


def parser() -> argparse.ArgumentParser:
    """Its command line."""
    parser = argparse.ArgumentParser(description="A server in the shape of Slack's incoming webhooks.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8025, help="port to listen on, 0 for any (default: %(default)s)")
    return parser


def main() -> None:
    """Run until interrupted."""
    args = parser().parse_args()

    async def serve() -> None:
        async with running(port=args.port, host=args.host, listening=lambda url: print(url, flush=True)):
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
