"""The API v2, as Alertmanager's OpenAPI document has it; and the pages, the flags, the operator's configuration."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bellbuoy.alertmanager import Options, OptionsError, add_arguments, options
from bellbuoy.alertmanager.alerts import fingerprint, format_fingerprint
from bellbuoy.alertmanager.times import SECOND, format_time
from tests.alertmanager.conftest import START, Alertmanager, LoopClock, Start, Webhook, running

CONFIG = """
route:
  receiver: default
  group_by: [alertname]
  group_wait: 10s
  routes: [{matchers: [team=db], receiver: db-team, continue: true}, {matchers: [severity=page], receiver: pager}]
receivers: [{name: default}, {name: db-team, labels: {owner: dba}}, {name: pager}]
"""


async def names(ours: Alertmanager, path: str = "/api/v2/alerts", **params: Any) -> list[str]:
    return sorted(one["labels"]["alertname"] for one in await ours.get(path, **params))


async def test_an_alert_is_shown_with_all_its_fields(start: Start) -> None:
    async with start(CONFIG) as ours:
        await ours.post(
            "/api/v2/alerts",
            [
                {
                    "labels": {"alertname": "Slow", "team": "db", "severity": "page", "empty": ""},
                    "annotations": {"summary": "s"},
                    "startsAt": "2026-01-05T13:00:00.123456789+01:00",
                    "endsAt": "2026-01-05T13:30:00Z",
                    "generatorURL": "http://p.example/g",
                }
            ],
        )
        (shown,) = await ours.get("/api/v2/alerts")
        assert shown.pop("updatedAt").startswith("2026-01-05T12:00:0")
        assert shown == {
            "annotations": {"summary": "s"},
            "endsAt": "2026-01-05T13:30:00.000Z",
            "fingerprint": format_fingerprint(fingerprint(shown["labels"])),
            "generatorURL": "http://p.example/g",
            "labels": {"alertname": "Slow", "team": "db", "severity": "page"},
            "receivers": [{"name": "db-team"}, {"name": "pager"}],
            "startsAt": "2026-01-05T12:00:00.123Z",
            "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"},
        }


async def test_alerts_are_filtered(start: Start) -> None:
    async with start(CONFIG) as ours:
        await ours.fire("One", ends_in=600, team="db")
        await ours.fire("Two", ends_in=600, severity="page")
        await ours.fire("Three", ends_in=600)
        await ours.resolve("Gone")
        await ours.silence(alertname="Three")
        assert await names(ours) == ["One", "Three", "Two"]
        assert await names(ours, filter='team="db"') == ["One"]
        assert await names(ours, filter="alertname=~T.*") == ["Three", "Two"]
        assert await names(ours, silenced="false") == ["One", "Two"]
        assert await names(ours, active="false") == ["Three"]
        assert await names(ours, receiver="db.*") == ["One"]
        assert await names(ours, receiver="d") == []
        assert await names(ours, receiver_matchers="owner=dba") == ["One"]
        assert [one["name"] for one in await ours.get("/api/v2/receivers")] == ["default", "db-team", "pager"]
        groups = await ours.get("/api/v2/alerts/groups", receiver="pager|default")
        assert [(one["labels"], one["receiver"]["name"], one["routeLabels"]) for one in groups] == [
            ({"alertname": "Three"}, "default", {}),
            ({"alertname": "Two"}, "pager", {}),
        ]
        async with ours.session.get(f"{ours.url}/api/v2/alerts", params={"filter": "{x}"}) as response:
            assert response.status == 400
            assert "unexpected brace" in await response.json()
        async with ours.session.get(f"{ours.url}/api/v2/alerts", params={"active": "maybe"}) as response:
            assert response.status == 422


async def test_invalid_alerts_are_refused_and_the_valid_ones_of_the_list_taken(start: Start) -> None:
    async with start(CONFIG) as ours:
        answer = await ours.post(
            "/api/v2/alerts",
            [
                {"labels": {"alertname": "Good"}},
                {"labels": {"empty": ""}},
                {"labels": {"alertname": "Bad"}, "startsAt": format_time(START), "endsAt": format_time(START - SECOND)},
            ],
            status=400,
        )
        assert answer == "at least one label pair required\nstart time must be before end time"
        assert await names(ours) == ["Good"]
        assert "[0].labels: is missing" in (await ours.post("/api/v2/alerts", [{}], status=422))["message"]
        answer = await ours.post("/api/v2/alerts", [{"labels": {}, "startsAt": "noon"}], status=422)
        assert "write it as 2026-01-02T15:04:05Z" in answer["message"]
        async with ours.session.post(f"{ours.url}/api/v2/alerts", data="[]") as response:
            assert response.status == 415
        async with ours.session.post(
            f"{ours.url}/api/v2/alerts", data="[", headers={"Content-Type": "application/json"}
        ) as response:
            assert response.status == 400


async def test_an_end_that_is_told_again_does_not_shorten_one_that_was_told(start: Start) -> None:
    async with start(CONFIG) as ours:
        await ours.fire("Slow", ends_in=600)
        await asyncio.sleep(5)
        await ours.fire("Slow", ends_in=300)
        (shown,) = await ours.get("/api/v2/alerts")
        assert shown["endsAt"].startswith("2026-01-05T12:10:0")
        assert shown["startsAt"].startswith("2026-01-05T12:00:0")


async def test_a_silence_lives_from_pending_over_active_to_expired(start: Start) -> None:
    async with start(CONFIG, retention_seconds=3600.0) as ours:
        posted: dict[str, Any] = {
            "matchers": [
                {"name": "alertname", "value": "S.*", "isRegex": True},
                {"name": "team", "value": "db", "isRegex": False, "isEqual": False},
            ],
            "startsAt": format_time(START + 100 * SECOND),
            "endsAt": format_time(START + 200 * SECOND),
            "createdBy": "me",
            "comment": "work",
            "annotations": {"ticket": "1"},
        }
        key = (await ours.post("/api/v2/silences", posted))["silenceID"]
        shown = await ours.get(f"/api/v2/silence/{key}")
        assert shown["status"] == {"state": "pending"}
        assert shown["annotations"] == {"ticket": "1"}
        assert shown["matchers"][0] == {"name": "alertname", "value": "S.*", "isRegex": True, "isEqual": True}
        assert shown["matchers"][1] == {"name": "team", "value": "db", "isRegex": False, "isEqual": False}
        # It may be moved while it is pending, and keeps its id.
        moved = posted | {"id": key, "endsAt": format_time(START + 300 * SECOND)}
        assert (await ours.post("/api/v2/silences", moved))["silenceID"] == key
        await asyncio.sleep(150)
        assert (await ours.get(f"/api/v2/silence/{key}"))["status"]["state"] == "active"
        # What it silences cannot change: there is a new one then, and the old one ends.
        other = moved | {"matchers": posted["matchers"][:1]}
        new = (await ours.post("/api/v2/silences", other))["silenceID"]
        assert new != key
        assert [(one["id"], one["status"]["state"]) for one in await ours.get("/api/v2/silences")] == [
            (new, "active"),
            (key, "expired"),
        ]
        assert await ours.get("/api/v2/silences", active="false", expired="false") == []
        assert len(await ours.get("/api/v2/silences", filter='team!="db"')) == 1
        async with ours.session.delete(f"{ours.url}/api/v2/silence/{new}") as response:
            assert response.status == 200
        assert {one["status"]["state"] for one in await ours.get("/api/v2/silences")} == {"expired"}
        # Kept for a while as a history.
        await asyncio.sleep(0.9 * 3600)
        assert len(await ours.get("/api/v2/silences")) == 2
        await asyncio.sleep(0.2 * 3600)
        assert await ours.get("/api/v2/silences") == []


async def test_silences_that_cannot_be_are_refused(start: Start) -> None:
    async with start(CONFIG) as ours:
        good: dict[str, Any] = {
            "matchers": [{"name": "a", "value": "b", "isRegex": False}],
            "startsAt": format_time(START),
            "endsAt": format_time(START + 600 * SECOND),
            "createdBy": "me",
            "comment": "work",
        }

        async def refuse(change: dict[str, Any], status: int, want: str) -> None:
            answer = await ours.post("/api/v2/silences", good | change, status=status)
            assert want in (answer if isinstance(answer, str) else answer["message"])

        await refuse({"endsAt": format_time(START)}, 400, "start time must be before end time")
        await refuse({"endsAt": format_time(START - SECOND), "startsAt": "2020-01-01T00:00:00Z"}, 400, "in the past")
        await refuse({"matchers": []}, 422, "matchers")
        await refuse(
            {"matchers": [{"name": "a", "value": "", "isRegex": False}]}, 400, "must not match the empty string"
        )
        await refuse({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, 400, "regular expression")
        await refuse({"comment": None}, 422, "comment")
        await refuse({"id": "01234567-89ab-cdef-0123-456789abcdef"}, 404, "not found")
        for key, status in (("nothing", 422), ("01234567-89ab-cdef-0123-456789abcdef", 404)):
            async with ours.session.get(f"{ours.url}/api/v2/silence/{key}") as response:
                assert response.status == status


async def test_status_metrics_health_and_pages(start: Start) -> None:
    async with start(CONFIG, external_url="http://bell.example") as ours:
        await ours.fire("<b>Slow", ends_in=600, annotations={"summary": "<script>x</script>"})
        await ours.silence(alertname="Other")
        status = await ours.get("/api/v2/status")
        assert status["cluster"] == {"status": "disabled", "peers": []}
        assert "db-team" in status["config"]["original"]
        assert set(status["versionInfo"]) == {"branch", "buildDate", "buildUser", "goVersion", "revision", "version"}
        for path in ("/-/healthy", "/-/ready"):
            async with ours.session.get(ours.url + path) as response:
                assert response.status == 200
        async with ours.session.get(f"{ours.url}/metrics") as response:
            metrics = await response.text()
        assert 'alertmanager_alerts{state="active"} 1.0' in metrics
        assert 'alertmanager_silences{state="active"} 1.0' in metrics
        assert 'alertmanager_alerts_received_total{status="firing",version="v2"} 1.0' in metrics
        async with ours.session.get(f"{ours.url}/") as response:
            page = await response.text()
        assert "&lt;script&gt;x&lt;/script&gt;" in page
        assert "<b>Slow" not in page
        async with ours.session.get(f"{ours.url}/silences/new", params={"filter": '{a="b"}'}) as response:
            assert 'value="{a=&quot;b&quot;}"' in await response.text()


async def test_the_operators_configuration_is_followed_and_a_bad_one_changes_nothing(
    tmp_path: Path, webhook: Webhook
) -> None:
    text = {"alertmanager.yml": CONFIG}
    changed = asyncio.Event()

    async def changes(request: web.Request) -> web.Response:
        now = str(hash(text["alertmanager.yml"]))
        if request.query.get("after") == now:
            changed.clear()
            await asyncio.wait_for(changed.wait(), 3600)
        return web.json_response(
            {
                "hash": str(hash(text["alertmanager.yml"])),
                "parts": {"alertmanager.yml": str(hash(text["alertmanager.yml"])), "prometheus.yml": "1"},
            }
        )

    async def part(request: web.Request) -> web.Response:
        return web.Response(text=text[request.match_info["name"]])

    def say(config: str) -> None:
        text["alertmanager.yml"] = config
        changed.set()

    app = web.Application()
    app.router.add_get("/s/changes", changes)
    app.router.add_get("/s/{name}", part)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    clock = LoopClock()
    given = Options(config_url="", storage_path=tmp_path / "data", listen="127.0.0.1:0")
    port = 0

    def with_port() -> Options:
        return Options(config_url=f"http://127.0.0.1:{port}/s", storage_path=given.storage_path, listen=given.listen)

    async def receivers(ours: Alertmanager) -> list[str]:
        return [one["name"] for one in await ours.get("/api/v2/receivers")]

    async def ready(ours: Alertmanager) -> int:
        async with ours.session.get(f"{ours.url}/-/ready") as response:
            return response.status

    try:
        await runner.setup()
        port = 1
        async with running(with_port(), clock=clock) as ours:
            assert await ready(ours) == 503
            # What comes before the first configuration waits for it.
            await ours.fire("Early", ends_in=36000)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with running(with_port(), clock=clock) as ours:
            await asyncio.sleep(1)
            assert await ready(ours) == 200
            assert await receivers(ours) == ["default", "db-team", "pager"]
            say(
                "route: {receiver: new, group_wait: 1s}\n"
                f"receivers: [{{name: new, webhook_configs: [{{url: '{webhook.url}'}}]}}]"
            )
            await asyncio.sleep(2)
            assert await receivers(ours) == ["new"]
            await asyncio.sleep(5)
            assert webhook.told == [("firing", ["Early:firing"])]
            say("route: {}")
            await asyncio.sleep(2)
            assert await receivers(ours) == ["new"]
            assert await ready(ours) == 200
            async with ours.session.get(f"{ours.url}/metrics") as response:
                assert "alertmanager_config_last_reload_successful 0.0" in await response.text()
        await runner.cleanup()
        async with running(with_port(), clock=clock) as ours:
            await asyncio.sleep(1)
            assert await ready(ours) == 200
            assert await receivers(ours) == ["new"]
    finally:
        await runner.cleanup()


def parse(*args: str) -> Options:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options(parser.parse_args(args))


def test_flags_become_options() -> None:
    assert parse() == Options(config_file=Path("alertmanager.yml"))
    given = parse(
        "--config-url=https://o/v1/stacks/a/b", "--config-token-file=t", "--config-ca-file=c", "--storage.path=/s",
        "--data.retention=1d", "--web.listen-address=127.0.0.1:0", "--web.external-url=http://x/",
    )  # fmt: skip
    assert given == Options(
        config_url="https://o/v1/stacks/a/b",
        config_token_file=Path("t"),
        config_ca_file=Path("c"),
        storage_path=Path("/s"),
        retention_seconds=86400.0,
        listen="127.0.0.1:0",
        external_url="http://x",
    )
    for args in (["--config.file=x", "--config-url=y"], ["--config-token-file=x"], ["--data.retention=long"]):
        with pytest.raises(OptionsError):
            parse(*args)


def test_every_flag_and_path_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alertmanager.md").read_text()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    flags = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    paths = ["/api/v2/status", "/api/v2/alerts", "/api/v2/alerts/groups", "/api/v2/silences", "/api/v2/silence/"]
    paths += ["/api/v2/receivers", "/api/v1/bellbuoy/receivers", "/-/reload", "/-/ready", "/-/healthy", "/metrics"]
    assert [one for one in flags + paths if one not in text and one != "--help"] == []
