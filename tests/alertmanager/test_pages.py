"""The pages in a real browser: what fires is shown, and the form that a message's button leads to silences it."""

import shutil
import time

import pytest
from playwright.async_api import async_playwright

from tests.alertmanager.conftest import Start

REAL_TIME = True
CONFIG = "route: {receiver: team, group_wait: 1s, group_by: [alertname]}\nreceivers: [{name: team}]\n"


class WallClock:
    """The machine's own."""

    def now(self) -> int:
        return time.time_ns()


@pytest.mark.browser
async def test_a_reader_of_a_message_silences_its_alerts(start: Start) -> None:
    async with start(CONFIG, clock=WallClock()) as ours, async_playwright() as playwright:
        await ours.fire("Slow", ends_in=600, annotations={"summary": "too <slow>"}, pod='a"b\\c')
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        await page.goto(ours.url + "/")
        assert "too <slow>" in await page.inner_text("body")
        await page.goto(ours.url + '/silences/new?filter={alertname="Slow", pod="a%5C"b%5C%5Cc"}')
        await page.fill("input[name=by]", "me")
        await page.fill("input[name=comment]", "known")
        await page.click("button")
        await page.wait_for_selector("output:has-text('silenced until')")
        await page.goto(ours.url + "/")
        assert "silenced by" in await page.inner_text("body")
        await browser.close()
        (alert,) = await ours.get("/api/v2/alerts")
        assert alert["status"]["state"] == "suppressed"
        assert wrong == []
