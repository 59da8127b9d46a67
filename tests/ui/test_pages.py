"""Each page shows what it must, from a real Prometheus, in a real browser, under the strictest content policy."""

import asyncio
import platform
import re
from typing import Any

import pytest
from playwright.async_api import expect

from tests.ui.conftest import Look, look
from tests.ui.site import site

pytestmark = [pytest.mark.browser, pytest.mark.peers, pytest.mark.asyncio(loop_scope="session")]

# Names that assistive technology would find, near enough: by label, title, alternative text or content.
NAMELESS = """() => [...document.querySelectorAll('a, button, input, textarea, summary, [role=img], [role=group]')]
    .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.title || e.labels?.length))
    .map((e) => e.outerHTML)"""


async def test_targets_are_listed_by_pool_with_their_health_and_last_error(window: Look) -> None:
    text = await window.at("/#/targets", shows="shop/checkout")
    assert "1 of 1 up" in text
    assert "shop/checkout 0 of 1 up" in text
    assert "connection refused" in text
    assert "pod=checkout-6d5f" in text
    assert "s ago" in text or "now" in text
    assert "every 4s" in text


async def test_a_filter_of_targets_stays_in_the_address(window: Look) -> None:
    await window.at("/#/targets", shows="shop/checkout")
    await window.page.get_by_label("Filter targets").fill("pod=checkout refused")
    await expect(window.page).to_have_url(window.address + "/#/targets?q=pod%3Dcheckout+refused")
    await expect(window.page.locator("details")).to_have_count(1)
    await window.page.reload()
    await expect(window.page.get_by_label("Filter targets")).to_have_value("pod=checkout refused")
    await expect(window.page.locator("details")).to_have_count(1)
    await window.page.get_by_label("Filter targets").fill("no such thing")
    await window.page.get_by_role("button", name="Show all 4").click()
    await window.page.get_by_role("button", name="Down").click()
    await expect(window.page).to_have_url(window.address + "/#/targets?health=down")
    await expect(window.page.locator("details")).to_have_count(1)


async def test_a_closed_pool_stays_closed(window: Look) -> None:
    await window.at("/#/targets", shows="shop/checkout")
    await window.page.locator("summary", has_text="machines").click()
    await expect(window.page).to_have_url(window.address + "/#/targets?closed=machines")
    await window.page.reload()
    await expect(window.page.locator("details:not([open]) summary")).to_contain_text("machines")


async def test_alerts_show_their_rule_state_labels_value_and_since_when(window: Look) -> None:
    text = await window.at("/#/alerts", shows="TargetDown")
    assert 'firing TargetDown severity=critical up{job="shop/checkout"} == 0' in text
    assert "summary checkout-6d5f does not answer" in text
    assert "pod=checkout-6d5f" in text
    assert "pending LongUp" in text
    assert "for 6h" in text
    assert "inactive Never" in text
    assert "error Broken" in text
    assert "Cannot evaluate." in text
    row = window.page.get_by_role("row", name="pod=checkout-6d5f")
    await expect(row.get_by_role("cell").nth(2)).to_contain_text("ago")
    await expect(row.get_by_role("cell").nth(3)).to_have_text("0")
    await window.page.get_by_role("button", name="Firing").click()
    await expect(window.page.get_by_role("article")).to_have_count(1)
    await window.page.get_by_role("button", name="Recording rules").click()
    await expect(window.page.get_by_role("article")).to_contain_text("job:up:sum")


async def test_what_is_wrong_is_counted_beside_the_pages_names(window: Look) -> None:
    await window.at("/#/query", shows="Ask something")
    pages = window.page.get_by_role("navigation")
    await expect(pages.get_by_role("link", name=re.compile(r"Targets \d down"))).to_be_visible()
    await expect(pages.get_by_role("link", name="Alerts 1 firing")).to_be_visible()


async def test_nodes_are_called_by_label_or_host_name_and_have_graphs(window: Look) -> None:
    host = platform.node()
    await window.at("/#/nodes?range=15m", shows="worker-1")
    for name in (host, "worker-1"):
        row = window.page.get_by_role("row", name=name)
        async with asyncio.timeout(60):
            while True:
                await expect(row.locator("svg.spark")).to_have_count(6)
                drawn = await row.locator("svg.spark .line").evaluate_all(
                    "lines => lines.map((line) => line.getAttribute('d'))"
                )
                if all(path.startswith("M") for path in drawn):
                    break
                # A rate wants a second scrape.
                await asyncio.sleep(1)
                await window.at("/#/nodes?range=15m", shows="worker-1")
        figures = await row.locator(".figure").all_inner_texts()
        assert "%" in figures[0]
        assert "B/s" in figures[4]
        await expect(row).to_contain_text("core")


async def test_a_node_has_a_page_with_its_history(window: Look) -> None:
    await window.at("/#/nodes?range=15m", shows="worker-1")
    await window.page.get_by_role("link", name="worker-1").click()
    await expect(window.page.get_by_role("heading", level=1)).to_have_text("worker-1")
    for panel in ("CPU by mode", "Memory", "Load", "Network", "Disk space used"):
        await expect(window.page.get_by_role("img", name=f"{panel} of worker-1").locator("canvas")).to_be_visible()
    await expect(window.page.get_by_role("region", name="Memory")).to_contain_text("GiB")
    await expect(window.page.get_by_role("region", name="Filesystems").get_by_role("row")).not_to_have_count(0)
    await window.page.get_by_role("region", name="Load").get_by_role("link", name="as a query").click()
    await expect(window.page.get_by_role("region", name="Answer").locator(".legend li")).to_have_count(3)
    await window.page.go_back()
    await expect(window.page.get_by_role("heading", level=1)).to_have_text("worker-1")


async def test_an_unknown_node_says_where_to_look(window: Look) -> None:
    text = await window.at("/#/nodes?node=gone", shows="No such node in this time")
    assert "the last 7 days" in text


async def test_a_query_is_typed_with_suggestions_and_drawn(window: Look) -> None:
    await window.at("/#/query", shows="Ask something")
    box = window.page.get_by_label("PromQL expression")
    await box.press_sequentially("sum by (mode) (rate(node_cpu_sec")
    await window.page.get_by_role("option", name="node_cpu_seconds_total").wait_for()
    await box.press("ArrowDown")
    await box.press("Enter")
    await box.press_sequentially('{mode="')
    await window.page.get_by_role("option", name="idle").wait_for()
    await box.press_sequentially("us")
    await box.press("ArrowDown")
    await box.press("Tab")
    await box.press_sequentially('"}[1m]))')
    await expect(box).to_have_value('sum by (mode) (rate(node_cpu_seconds_total{mode="user"}[1m]))')
    await box.press("Enter")
    answer = window.page.get_by_role("region", name="Answer")
    await expect(answer.locator("canvas")).to_be_visible()
    await expect(answer.locator(".legend")).to_contain_text('{mode="user"}')
    await window.page.reload()
    await expect(answer.locator(".legend")).to_contain_text('{mode="user"}')


async def test_a_table_shows_the_values_of_now(window: Look) -> None:
    await window.at("/#/query?expr=up&tab=table", shows="checkout-6d5f")
    row = window.page.get_by_role("row", name='pod="checkout-6d5f"')
    await expect(row.get_by_role("cell")).to_have_text("0")
    await window.at("/#/query?expr=1%2B1&tab=table", shows="scalar")


async def test_a_span_that_is_drawn_over_the_graph_becomes_the_time_shown(window: Look) -> None:
    await window.at("/#/query?expr=up&range=15m", shows="4 series")
    plot = await window.page.locator(".u-over").bounding_box()
    assert plot is not None
    await window.page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + 50)
    await window.page.mouse.down()
    await window.page.mouse.move(plot["x"] + plot["width"] - 2, plot["y"] + 50, steps=5)
    await window.page.mouse.up()
    await expect(window.page.get_by_role("button", name="Now")).to_have_attribute("aria-pressed", "false")
    await expect(window.page).to_have_url(re.compile(r"&range=7m\d+s&end=\d+$"))


async def test_prometheus_own_links_open_the_query(window: Look) -> None:
    await window.at("/graph?g0.expr=up+%3D%3D+0&g0.tab=1", shows="checkout-6d5f")
    await expect(window.page.get_by_label("PromQL expression")).to_have_value("up == 0")
    await expect(window.page).to_have_title("up == 0 · Bellbuoy")
    await window.at("/rules", shows="TargetDown")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("proc", "process_cpu_seconds_total"),
        ("histogram_q", "histogram_quantile"),
        ("up{po", "pod"),
        ('up{namespace="shop", pod=~"che', "checkout-6d5f"),
        ("sum by (insta", "instance"),
        ("up * on (job) group_l", "group_left"),
    ],
)
async def test_suggestions_fit_the_place(window: Look, typed: str, offered: str) -> None:
    await window.at("/#/query", shows="Ask something")
    await window.page.get_by_label("PromQL expression").press_sequentially(typed)
    await expect(window.page.get_by_role("option", name=offered).first).to_be_visible()


async def test_nothing_is_suggested_inside_a_duration(window: Look) -> None:
    await window.at("/#/query", shows="Ask something")
    box = window.page.get_by_label("PromQL expression")
    await box.press_sequentially("rate(up")
    await expect(window.page.get_by_role("listbox")).to_be_visible()
    await box.press_sequentially("[5m")
    await expect(window.page.get_by_role("listbox")).to_have_count(0)


async def test_a_wrong_expression_is_shown_with_the_place_of_its_error(browser: Any, busy: str) -> None:
    async with site(busy) as address:
        seen = await look(browser, address)
        text = await seen.at("/#/query?expr=sum(up)%20%2B%20%2B%2B%20%25", shows="Cannot read the expression")
        assert "at column 14" in text
        await expect(seen.page.locator("mark")).to_have_text("%")
        await expect(seen.page.get_by_label("PromQL expression")).to_have_attribute("aria-invalid", "true")
        await seen.at("/#/query?expr=up%20*%20on()%20up", shows="Cannot answer this")
        # The browser itself notes each answer that is no 200.
        assert all("the server responded with a status of 4" in error for error in seen.errors)


async def test_empty_pages_say_what_to_do_next(browser: Any, bare: str) -> None:
    async with site(bare) as address:
        seen = await look(browser, address)
        assert "ScrapeTarget" in await seen.at("/#/targets", shows="No targets yet")
        assert "AlertRule" in await seen.at("/#/alerts", shows="No rules yet")
        assert "node-exporter" in await seen.at("/#/nodes", shows="No nodes yet")
        await seen.at("/#/query?expr=up", shows="No series")
        assert seen.errors == []


async def test_a_server_that_is_gone_is_said_and_the_last_data_stays(browser: Any, busy: str) -> None:
    async with site(busy) as address:
        seen = await look(browser, address)
        await seen.at("/#/targets", shows="shop/checkout")
        await seen.page.context.set_offline(True)
        await expect(seen.page.get_by_role("alert")).to_contain_text("The server does not answer", timeout=15_000)
        await expect(seen.page.get_by_text("shop/checkout").first).to_be_visible()
        await seen.page.context.set_offline(False)
        await expect(seen.page.get_by_role("alert")).to_have_count(0, timeout=15_000)


async def test_pages_fit_narrow_and_wide_windows_in_both_schemes_and_their_controls_have_names(
    browser: Any, busy: str
) -> None:
    pages = {
        "/#/targets": "shop/checkout",
        "/#/alerts": "TargetDown",
        "/#/nodes": "worker-1",
        "/#/nodes?node=worker-1": "Filesystems",
        "/#/query?expr=up": "4 series",
        "/#/query?expr=up&tab=table": "checkout",
    }
    async with site(busy) as address:
        backgrounds = set()
        for width, scheme in ((1280, "light"), (400, "dark")):
            seen = await look(browser, address, width=width, scheme=scheme)
            for path, shows in pages.items():
                await seen.at(path, shows=shows)
                assert await seen.page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
                assert await seen.page.evaluate(NAMELESS) == [], path
            backgrounds.add(await seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert seen.errors == []
        assert len(backgrounds) == 2


async def test_the_pages_can_be_walked_by_keyboard(window: Look) -> None:
    await window.at("/#/targets", shows="shop/checkout")
    await window.page.keyboard.press("Tab")
    await expect(window.page.get_by_text("Skip to the content")).to_be_focused()
    await window.page.keyboard.press("Enter")
    await expect(window.page.locator("main")).to_be_focused()
    await window.page.keyboard.press("Tab")
    await expect(window.page.get_by_label("Filter targets")).to_be_focused()
    await window.page.get_by_role("link", name="Alerts").focus()
    await window.page.keyboard.press("Enter")
    await expect(window.page.get_by_role("heading", level=1)).to_have_text("Alerts")
