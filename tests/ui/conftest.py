"""A real Prometheus and a real node_exporter to look at, and a browser that notes what goes wrong on a page."""

import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from tests.ui.site import site

CHROMIUM = "/usr/bin/chromium"
# The pages need two scrapes and an alert that fires; some seconds apart, which a scrape on a busy machine may take.
READY_SECONDS = 60.0
# On a busy machine a page takes its time.
expect.set_options(timeout=15_000)

CONFIGURATION = """
global: {{scrape_interval: 4s, scrape_timeout: 4s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
- job_name: prometheus
  static_configs: [{{targets: ['{prometheus}']}}]
- job_name: machines
  static_configs: [{{targets: ['{exporter}']}}]
- job_name: nodes
  static_configs:
  - targets: ['{exporter}']
    labels: {{node: worker-1}}
  relabel_configs:
  - {{target_label: instance, replacement: 'worker-1:9100'}}
- job_name: shop/checkout
  static_configs:
  - targets: ['{nobody}']
    labels: {{namespace: shop, pod: checkout-6d5f}}
"""
RULES = """
groups:
- name: shop
  rules:
  - alert: TargetDown
    expr: up{job="shop/checkout"} == 0
    labels: {severity: critical}
    annotations: {summary: '{{ $labels.pod }} does not answer', runbook_url: 'https://example.org/down'}
  - alert: LongUp
    expr: up{job="prometheus"} == 1
    for: 6h
  - alert: Never
    expr: up > 1
  - alert: Broken
    expr: vector(1) * on() (vector(1) or label_replace(vector(2), "a", "b", "", ""))
  - record: job:up:sum
    expr: sum by (job) (up)
"""


def free_address() -> str:
    """A loopback address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def ask(api: str, expr: str) -> list[dict[str, Any]]:
    """The vector that the expression is now; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"{api}/api/v1/query?query={urllib.parse.quote(expr)}", timeout=5) as answer:
            result: list[dict[str, Any]] = orjson.loads(answer.read())["data"]["result"]
            return result
    except urllib.error.URLError:
        return []


def wait(what: str, condition: Callable[[], object]) -> None:
    """Return once the condition is true."""
    end = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited {READY_SECONDS:.0f} s in vain: {what}"
        time.sleep(0.1)


@contextmanager
def running(log: Path, *command: str) -> Iterator[None]:
    """The program runs while the context is open."""
    with log.open("wb") as output:
        try:
            program = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            pytest.fail(
                f"cannot run {command[0]}: it is not installed; apt-get install prometheus prometheus-node-exporter"
            )
        try:
            yield
        finally:
            program.terminate()
            program.wait(timeout=20)


@contextmanager
def prometheus(folder: Path, address: str, configuration: str) -> Iterator[str]:
    """A Prometheus with this configuration; its API's address."""
    (folder / "prometheus.yml").write_text(configuration)
    (folder / "rules.yml").write_text(RULES)
    files = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with running(folder / "log", "prometheus", *files, f"--web.listen-address={address}"):
        api = f"http://{address}"
        wait(f"Prometheus answers at {api}, see {folder}/log", lambda: ask(api, "vector(1)"))
        yield api


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prometheus with targets up and down, nodes, and rules in each state."""
    folder = tmp_path_factory.mktemp("busy")
    own, exporter, nobody = free_address(), free_address(), free_address()
    configuration = CONFIGURATION.format(prometheus=own, exporter=exporter, nobody=nobody)
    program = ("prometheus-node-exporter", f"--web.listen-address={exporter}")
    with running(folder / "exporter.log", *program), prometheus(folder, own, configuration) as api:
        wait("an alert fires", lambda: ask(api, 'ALERTS{alertstate="firing"}'))
        wait("nodes have rates", lambda: len(ask(api, "rate(node_network_receive_bytes_total[1m]) >= 0")) >= 2)
        yield api


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a Prometheus that was told nothing."""
    with prometheus(tmp_path_factory.mktemp("bare"), free_address(), "global: {}\n") as api:
        yield api


@dataclass
class Look:
    """A browser's page, with the errors that its console and scripts gave."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)

    async def at(self, path: str, *, shows: str) -> str:
        """Open a path of the site and wait for the text; the text of the whole content."""
        # Only the hash differs, mostly: leave the page, so that it begins anew.
        await self.page.goto("about:blank")
        await self.page.goto(self.address + path)
        await self.page.locator("main").get_by_text(shows).first.wait_for(timeout=15_000)
        return await self.text()

    async def text(self) -> str:
        """What the content says, in one line."""
        text: str = await self.page.locator("main").inner_text()
        return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program, from Debian's package."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"cannot run {CHROMIUM}: it is not installed; apt-get install chromium")
    return CHROMIUM


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Any]:
    """One Chromium for all tests; each has windows of its own."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield started
        await started.close()


async def look(browser: Any, address: str, *, width: int = 1280, scheme: str = "light") -> Look:
    """A new window on the site."""
    context = await browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    seen = Look(await context.new_page(), address)
    seen.page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    return seen


@pytest_asyncio.fixture(loop_scope="session")
async def window(browser: Any, busy: str) -> AsyncIterator[Look]:
    """A window on the busy site; at the end, nothing may have gone wrong."""
    async with site(busy) as address:
        seen = await look(browser, address)
        yield seen
        await seen.page.context.close()
        assert seen.errors == []
