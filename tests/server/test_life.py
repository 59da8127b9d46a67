"""A server starts, reloads, follows and ends as it should."""

import argparse
import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest
from aiohttp import web

from bellbuoy.configuration import ConfigError
from bellbuoy.errors import OptionsError
from bellbuoy.server import Options, add_arguments, options, run
from bellbuoy.server.options import FollowOptions
from bellbuoy.server.run import CACHE_FOLDER
from tests.server.conftest import Serve, Target, scrape_config, threads


async def test_it_answers_health_ui_and_metrics_and_ends_without_a_rest(serve: Serve) -> None:
    async with serve("") as client:
        assert (await client.request("GET", "/-/healthy"))[1] == "Server is healthy.\n"
        assert (await client.request("GET", "/-/ready"))[1] == "Server is ready.\n"
        status, text = await client.request("GET", "/metrics")
        assert status == 200
        assert "bellbuoy_config_last_reload_successful 1.0" in text
        assert "bellbuoy_storage_series" in text
    assert threads() == []


async def test_a_configuration_that_cannot_be_used_ends_the_start(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="scrape_configs"):
        async with serve("scrape_configs: 5", wait=False) as client:
            await asyncio.sleep(10)
            await client.ready()


async def test_reload_takes_a_good_configuration_and_keeps_the_old_at_a_bad_one(
    serve: Serve, target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "prometheus.yml"
    async with serve(scrape_config(target.address), lifecycle=True) as client:
        assert (await client.api("scrape_pools"))["scrapePools"] == ["app"]
        path.write_text(scrape_config(target.address).replace("job_name: app", "job_name: other"), encoding="utf-8")
        assert await client.request("POST", "/-/reload") == (200, "")
        assert (await client.api("scrape_pools"))["scrapePools"] == ["other"]
        path.write_text("scrape_config: []", encoding="utf-8")
        status, text = await client.request("POST", "/-/reload")
        assert (status, 'did you mean "scrape_configs"?' in text) == (500, True)
        assert (await client.api("scrape_pools"))["scrapePools"] == ["other"]
        assert not (await client.api("status/runtimeinfo"))["reloadConfigSuccess"]
        assert "bellbuoy_config_last_reload_successful 0.0" in (await client.request("GET", "/metrics"))[1]
        path.write_text(scrape_config(target.address), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGHUP)

        async def again() -> bool:
            return bool((await client.api("scrape_pools"))["scrapePools"] == ["app"])

        await client.until(again)


async def test_reload_by_http_must_be_enabled(serve: Serve) -> None:
    async with serve("") as client:
        status, text = await client.request("POST", "/-/reload")
        assert (status, "--web.enable-lifecycle" in text) == (403, True)


class Operator:
    """The configuration service, as the operator has it."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.changed = asyncio.Event()
        self.url = ""

    def set(self, **parts: bytes) -> None:
        self.parts = parts
        self.changed.set()

    def hash(self) -> str:
        return str(hash(tuple(sorted(self.parts.items()))))

    async def changes(self, request: web.Request) -> web.Response:
        if request.query.get("after") == self.hash():
            self.changed.clear()
            await asyncio.wait([asyncio.create_task(self.changed.wait())], timeout=5)
        return web.json_response(
            {"hash": self.hash(), "parts": {name: str(hash(body)) for name, body in self.parts.items()}}
        )

    async def part(self, request: web.Request) -> web.Response:
        return web.Response(body=self.parts[request.match_info["name"]])


async def test_it_follows_the_operator_and_keeps_the_last_configuration(serve: Serve, tmp_path: Path) -> None:
    operator = Operator()
    app = web.Application()
    app.router.add_get("/stack/changes", operator.changes)
    app.router.add_get("/stack/{name:.+}", operator.part)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    main = b"scrape_configs: [{job_name: ns/app, http_sd_configs: [{url: 'http://127.0.0.1:1/'}]}]"
    rules = b"groups: [{name: g, rules: [{record: r, expr: up}]}]"
    targets = b'[{"targets": ["127.0.0.1:1"], "labels": {"__bellbuoy_not_ready__": "true"}}]'
    operator.set(**{"prometheus.yml": main, "rules.yml": rules, "targets/ns/app": targets})
    follow = FollowOptions(f"http://127.0.0.1:{runner.addresses[0][1]}/stack")
    async with serve(config_file=None, follow=follow, lifecycle=True) as client:
        found = await client.api("targets")
        assert [one["scrapeUrl"] for one in found["activeTargets"]] == ["http://127.0.0.1:1/metrics"]
        assert [one["name"] for one in (await client.api("rules"))["groups"]] == ["g"]
        more = targets.replace(b'"127.0.0.1:1"', b'"127.0.0.1:1", "127.0.0.1:2"')
        operator.set(**{"prometheus.yml": main, "rules.yml": rules, "targets/ns/app": more})

        async def both() -> bool:
            return len((await client.api("targets"))["activeTargets"]) == 2

        await client.until(both, seconds=10)
        assert (await client.request("POST", "/-/reload"))[0] == 409
        assert 'bellbuoy_config_polls_total{outcome="changed"} 2.0' in (await client.request("GET", "/metrics"))[1]
        operator.set(**{"prometheus.yml": b"nonsense: 1", "rules.yml": rules, "targets/ns/app": more})

        async def refused() -> bool:
            return not (await client.api("status/runtimeinfo"))["reloadConfigSuccess"]

        await client.until(refused, seconds=10)
        assert (await client.api("scrape_pools"))["scrapePools"] == ["ns/app"]
    await runner.cleanup()
    # A new server on a copy of the folder, as after a restart, while the operator is away.
    await asyncio.to_thread(shutil.copytree, tmp_path / "data" / CACHE_FOLDER, tmp_path / "again" / CACHE_FOLDER)
    async with serve(config_file=None, follow=follow, storage_path=tmp_path / "again") as client:
        assert len((await client.api("targets"))["activeTargets"]) == 2


async def test_it_is_not_ready_before_the_operator_has_answered(serve: Serve) -> None:
    async with serve(config_file=None, follow=FollowOptions("http://127.0.0.1:1/stack"), wait=False) as client:

        async def waits() -> bool:
            return "no configuration yet" in (await client.request("GET", "/-/ready"))[1]

        await client.until(waits)
        assert (await client.request("GET", "/-/healthy"))[0] == 200


async def test_told_to_end_before_it_listens_it_ends_quietly(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    await run(Options(listen="127.0.0.1:0", storage_path=tmp_path, config_file=tmp_path / "none.yml"), stop)


def parse(*arguments: str) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options(parser.parse_args(arguments))


def test_flags_become_options() -> None:
    made = parse("--storage.retention=30d", "--storage.retention-size=5GB", "--query.timeout", "30s")
    assert (made.retention_seconds, made.retention_bytes, made.query.timeout_seconds) == (30 * 86400, 5 << 30, 30)
    assert made.config_file == Path("prometheus.yml")
    assert made.flags["storage.retention"] == "30d"
    assert parse() == Options(flags=parse().flags)
    followed = parse("--config-url=https://o/v1", "--config-token-file=/t")
    assert (followed.config_file, followed.follow) == (None, FollowOptions("https://o/v1", Path("/t"), None))
    for bad in (["--config-url=u", "--config.file=f"], ["--config-ca-file=f"]):
        with pytest.raises(OptionsError):
            parse(*bad)
    with pytest.raises(SystemExit):
        parse("--query.timeout=5")


def test_features_are_named_as_in_prometheus() -> None:
    zeros = "created-timestamp-zero-ingestion"
    assert parse().features == frozenset()
    for words in ([f"--enable-feature={zeros}"], ["--enable-feature", f"{zeros},{zeros}", "--enable-feature="]):
        assert parse(*words).features == {zeros}
    assert parse(f"--enable-feature={zeros}").flags["enable-feature"] == zeros
    with pytest.raises(OptionsError, match='cannot enable the feature "x": it is none of created'):
        parse(f"--enable-feature={zeros},x")


def test_every_flag_has_help() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert all(action.help for action in parser._actions)
