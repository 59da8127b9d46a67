"""The pages in a real browser: what fires is shown, a form silences it and a button ends that, in every window."""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import async_playwright

from tests.alertmanager.conftest import Start

REAL_TIME = True
CONFIG = "route: {receiver: team, group_wait: 1s, group_by: [alertname]}\nreceivers: [{name: team}]\n"


class WallClock:
    """The machine's own."""

    def now(self) -> int:
        return time.time_ns()


@asynccontextmanager
async def opened(*, width: int = 1280, scheme: str = "light") -> AsyncIterator[Any]:
    """A page of a browser; at the end, its console may have said nothing."""
    wrong: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        yield page
        await browser.close()
    assert wrong == []


@pytest.mark.browser
async def test_a_reader_of_a_message_silences_its_alerts_and_ends_that(start: Start) -> None:
    async with start(CONFIG, clock=WallClock()) as ours, opened() as page:
        await ours.fire("Slow", ends_in=600, annotations={"summary": "too <slow>"}, pod='a"b\\c')
        await page.goto(ours.url + "/")
        assert "too <slow>" in await page.inner_text("body")
        await page.goto(ours.url + '/silences/new?filter={alertname="Slow", pod="a%5C"b%5C%5Cc"}')
        await page.fill("input[name=by]", "me")
        await page.fill("input[name=comment]", "known")
        await page.click("button")
        await page.wait_for_selector("output:has-text('silenced until')")
        await page.click("text=Alerts")
        await page.wait_for_selector("text=silenced by")
        (alert,) = await ours.get("/api/v2/alerts")
        assert alert["status"]["state"] == "suppressed"
        await page.click("text=End it")
        await page.wait_for_selector("text=Nothing is silenced")
        (alert,) = await ours.get("/api/v2/alerts")
        assert alert["status"]["state"] == "active"


@pytest.mark.browser
async def test_an_alert_leads_to_the_form_for_its_own_silence(start: Start) -> None:
    async with start(CONFIG, clock=WallClock()) as ours, opened() as page:
        await ours.fire("Slow", ends_in=600, pod="a")
        await page.goto(ours.url + "/")
        await page.click("td >> text=silence")
        assert await page.input_value("input[name=filter]") == '{alertname="Slow", pod="a"}'
        await page.fill("input[name=filter]", "pod is a")
        await page.fill("input[name=by]", "me")
        await page.fill("input[name=comment]", "known")
        await page.click("button")
        await page.wait_for_selector("output:has-text('Cannot read the matchers')")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
async def test_the_pages_fit_with_many_alerts_and_long_texts(start: Start, width: int, scheme: str) -> None:
    async with start(CONFIG, clock=WallClock()) as ours, opened(width=width, scheme=scheme) as page:
        for number in range(60):
            await ours.fire("Slow", ends_in=600, annotations={"summary": "long " * 60}, pod=f"{number}" + "x" * 200)
        await page.goto(ours.url + "/")
        assert await page.locator("tr.firing").count() == 50
        await page.click("text=Show all 60")
        assert await page.locator("tr.firing").count() == 60
        for path in ("/?whole", "/silences/new"):
            await page.goto(ours.url + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(238, 242, 245)" if scheme == "light" else "rgb(13, 21, 28)")
