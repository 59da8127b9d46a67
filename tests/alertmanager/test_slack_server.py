"""The Slack-shaped server as a program: what the end-to-end test and the demo start."""

import asyncio
import sys

import aiohttp

REAL_TIME = True


async def test_it_runs_by_itself_and_lists_what_it_took() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.slack_server", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        url = (await child.stdout.readline()).decode().strip()
        base = url.split("/services/")[0]
        async with aiohttp.ClientSession() as session:

            async def post(path: str, content: object) -> tuple[int, str]:
                async with session.post(path, json=content) as response:
                    return response.status, await response.text()

            assert await post(url, {"text": "hello"}) == (200, "ok")
            assert await post(url, {}) == (400, "no_text")
            assert await post(url, {"blocks": [{"type": "header", "text": {}}]}) == (400, "invalid_payload")
            assert await post(f"{base}/services/T1/B1/x", {"text": "hello"}) == (404, "no_team")
            await post(f"{base}/answers", [{"status": 429, "text": "rate_limited", "retry_after": 1}])
            assert await post(url, {"text": "again"}) == (429, "rate_limited")
            async with session.get(f"{base}/messages") as response:
                assert await response.json() == [{"text": "hello"}]
            async with session.get(f"{base}/refused") as response:
                assert (await response.json())[0]["reason"] == "no_text"
    finally:
        child.terminate()
        await child.wait()
