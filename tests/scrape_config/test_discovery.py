"""Discovery follows files and URLs, and keeps the last targets when a source fails; pools that stay go on untouched."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from bellbuoy._core import Scraper
from bellbuoy.scrape import ScrapeConfig, ScrapeManager, read_groups
from bellbuoy.tsdb import Storage


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - files and servers tell nobody
            await asyncio.sleep(0.02)


def config(name: str, **fields: Any) -> ScrapeConfig:
    settings = {"job_name": name, "scrape_interval": "1m", "scrape_timeout": "10s", **fields}
    return ScrapeConfig.model_validate(settings)


class Managed:
    """A manager over a real scraper."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage(str(folder))
        self.scraper = Scraper(self.storage)
        self.registry = CollectorRegistry()
        self.manager = ScrapeManager(self.scraper, registry=self.registry)

    def urls(self) -> list[str]:
        return sorted(one["url"] for one in self.manager.scraped())

    async def close(self) -> None:
        await self.manager.stop()
        await asyncio.to_thread(self.scraper.close)
        self.storage.close()


async def test_files_are_followed_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "data")
    one, two = tmp_path / "one.json", tmp_path / "two.yml"
    one.write_text('[{"targets": ["127.0.0.1:1"]}]', encoding="utf-8")
    files = [{"files": ["*.json", "two.yml"], "refresh_interval": "50ms"}]
    await managed.manager.apply([config("a", file_sd_configs=files)], base=tmp_path)
    await until(lambda: managed.urls() == ["http://127.0.0.1:1/metrics"])
    two.write_text("- targets: ['127.0.0.1:2']\n", encoding="utf-8")
    await until(lambda: len(managed.urls()) == 2)
    one.write_text("[{", encoding="utf-8")
    await until(lambda: bool(managed.manager.discovery_errors()))
    assert len(managed.urls()) == 2
    one.unlink()
    await until(lambda: managed.urls() == ["http://127.0.0.1:2/metrics"])
    assert managed.registry.get_sample_value("bellbuoy_discovery_failures_total", {"pool": "a"}) or 0 >= 1
    await managed.close()


async def test_a_url_is_asked_again_and_an_outage_changes_nothing(tmp_path: Path) -> None:
    answers: list[tuple[int, str]] = [(200, '[{"targets": ["127.0.0.1:1"], "labels": {"a": "b"}}]')]
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        status, text = answers[-1]
        return web.Response(status=status, text=text, content_type="application/json")

    app = web.Application()
    app.router.add_get("/sd", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    managed = Managed(tmp_path / "data")
    source = {
        "url": f"http://127.0.0.1:{runner.addresses[0][1]}/sd",
        "refresh_interval": "50ms",
        "basic_auth": {"username": "u", "password": "p"},
    }
    await managed.manager.apply([config("a", http_sd_configs=[source])], base=None)
    await until(lambda: managed.urls() == ["http://127.0.0.1:1/metrics"])
    answers.append((500, "no"))
    await until(lambda: bool(managed.manager.discovery_errors()))
    assert "answers 500" in managed.manager.discovery_errors()["a"]
    assert managed.urls() == ["http://127.0.0.1:1/metrics"]
    answers.append((200, "[]"))
    await until(lambda: managed.urls() == [])
    assert set(seen) == {"Basic dTpw"}
    await managed.close()
    await runner.cleanup()


async def test_pools_come_and_go_and_handed_targets_stand_for_http_sd(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "data")
    static = {"static_configs": [{"targets": ["127.0.0.1:1"]}]}
    await managed.manager.apply([config("a", **static), config("b", **static)], base=None)
    assert managed.manager.pools() == ["a", "b"]
    groups = read_groups([{"targets": ["127.0.0.1:7"]}], source="s")
    found = config("a", http_sd_configs=[{"url": "http://127.0.0.1:1/"}])
    await managed.manager.apply([found], base=None, handed={"a": groups})
    assert managed.manager.pools() == ["a"]
    assert managed.urls() == ["http://127.0.0.1:7/metrics"]
    managed.manager.set_targets("a", read_groups([{"targets": ["127.0.0.1:8"]}], source="s"))
    managed.manager.set_targets("unknown", groups)
    await until(lambda: managed.urls() == ["http://127.0.0.1:8/metrics"])
    assert managed.registry.get_sample_value("bellbuoy_scrape_pool_targets", {"pool": "a", "state": "active"}) == 1
    assert managed.registry.get_sample_value("bellbuoy_scrape_pool_targets", {"pool": "b", "state": "active"}) is None
    await managed.close()


async def test_a_pool_that_the_scraper_refuses_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    managed = Managed(tmp_path / "data")
    bad = config("a", static_configs=[{"targets": ["127.0.0.1:1"]}], http_headers={"X": {"files": ["/nothing/here"]}})
    await managed.manager.apply([bad], base=None)
    assert "cannot update a scrape pool" in caplog.text
    assert managed.registry.get_sample_value("bellbuoy_scrape_pool_updates_refused_total", {"pool": "a"}) == 1
    await managed.close()
