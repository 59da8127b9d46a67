"""The pages from our own server, with its own headers: nothing breaks its content policy, whatever it holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

import bellbuoy
from bellbuoy.server import Options, run
from tests.ui.conftest import free_address, look

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MANY = 250
CONFIGURATION = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
- job_name: many
  scrape_interval: 20s
  static_configs: [{", ".join(f"{{targets: ['NOBODY'], labels: {{pod: web-{n}-{'x' * 150}}}}}" for n in range(MANY))}]
- job_name: nothing
  static_configs: [{{targets: ['NOBODY']}}]
  relabel_configs: [{{action: drop}}]
"""
RULES = """
groups:
- name: a-quiet-one
  rules: [{alert: Quiet, expr: vector(1) > 2}]
- name: loud
  rules: [{alert: Loud, expr: vector(1)}]
"""


@asynccontextmanager
async def serving(folder: Path, configuration: str) -> AsyncIterator[str]:
    """A server of ours; its address."""
    (folder / "prometheus.yml").write_text(configuration.replace("NOBODY", free_address()), encoding="utf-8")
    (folder / "rules.yml").write_text(RULES, encoding="utf-8")
    options = Options(listen="127.0.0.1:0", storage_path=folder / "data", config_file=folder / "prometheus.yml")
    stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(options, stop, listening=bound.set_result))
    await asyncio.wait([task, bound], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield f"http://{bound.result()}"
    finally:
        stop.set()
        await task


async def test_the_footer_names_our_version_and_whose_promql_it_is(browser: Any, tmp_path: Path) -> None:
    async with serving(tmp_path, "") as address:
        seen = await look(browser, address)
        await seen.at("/", shows="No targets yet")
        footer = f"Bellbuoy {bellbuoy.__version__} · PromQL as in Prometheus 3.16"
        await expect(seen.page.locator("footer")).to_contain_text(footer)
        for path, shows in (("/alerts", "No rules yet"), ("/nodes", "No nodes yet"), ("/query", "Ask something")):
            await seen.at(path, shows=shows)
        await seen.at("/graph?g0.expr=vector(1)", shows="1 series")
        assert seen.errors == []


async def drawable(address: str) -> None:
    """Wait until a graph, whose last point is up to a step old, has something to show."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            query = {"query": f"count(up offset 15s) == {MANY}"}
            async with session.get(f"{address}/api/v1/query", params=query) as answer:
                if (await answer.json())["data"]["result"]:
                    return
            await asyncio.sleep(0.5)


async def test_many_targets_and_long_texts_fit_and_what_is_wrong_stands_first(browser: Any, tmp_path: Path) -> None:
    async with serving(tmp_path, CONFIGURATION) as address:
        for width, scheme in ((1280, "light"), (400, "dark")):
            seen = await look(browser, address, width=width, scheme=scheme)
            text = await seen.at("/#/targets", shows="connection refused")
            assert f"0 of {MANY} up" in text
            assert "nothing no targets" in text
            await expect(seen.page.locator("tr.down, tr.unknown")).to_have_count(20)
            await seen.page.get_by_role("button", name=f"Show all {MANY}").click()
            await expect(seen.page.locator("tr.down, tr.unknown")).to_have_count(MANY)
            assert await seen.page.evaluate("document.documentElement.scrollWidth") <= width
            await seen.at("/#/alerts", shows="Loud")
            await expect(seen.page.locator("article.firing").first).to_be_visible()
            assert await seen.page.locator("section h2").all_inner_texts() == ["loud", "a-quiet-one"]
            await drawable(address)
            await seen.at("/#/query?expr=up&range=15m", shows="Drawn are the first 40 of")
            assert await seen.page.evaluate("document.documentElement.scrollWidth") <= width
            assert seen.errors == []
