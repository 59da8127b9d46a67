"""The admin API and what a start says of itself, over HTTP and on the disk."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bellbuoy.tsdb import Storage
from tests.server.conftest import Client, Serve, Target, scrape_config


async def values(client: Client, expr: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.api("query", query=expr))["result"]
    return found


async def some_samples(client: Client) -> None:
    async def has_some() -> bool:
        found = await values(client, "count_over_time(room_temperature_celsius[1m]) > 3")
        return len(found) == 2

    await client.until(has_some)


async def test_it_is_off_unless_told(serve: Serve) -> None:
    async with serve("") as client:
        for path in ("delete_series?match[]=up", "clean_tombstones", "snapshot"):
            status, body = await client.request("POST", f"/api/v1/admin/tsdb/{path}")
            assert (status, body["errorType"]) == (503, "unavailable")
            assert "--web.enable-admin-api" in body["error"]


async def test_what_is_deleted_is_gone_and_what_comes_later_is_not(
    serve: Serve, target: Target, tmp_path: Path
) -> None:
    config = scrape_config(target.address)
    async with serve(config, admin=True) as client:
        await some_samples(client)
        path = "/api/v1/admin/tsdb/delete_series"
        status, body = await client.request("POST", path)
        assert (status, body["error"]) == (400, "no match[] parameter provided")
        status, body = await client.request("POST", path, params={"match[]": "{"})
        assert (status, body["errorType"]) == (400, "bad_data")
        counted = "count_over_time(room_temperature_celsius{room='kitchen'}[1m])"
        before = float((await values(client, counted))[0]["value"][1])
        status, _ = await client.request("POST", path, params={"match[]": "room_temperature_celsius{room='kitchen'}"})
        assert status == 204

        async def fresh() -> bool:
            found = await values(client, counted)
            return bool(found) and 0 < float(found[0]["value"][1]) < before

        await client.until(fresh)
        other = await values(client, "count_over_time(room_temperature_celsius{room='cellar'}[1m])")
        assert float(other[0]["value"][1]) >= before
        assert (await client.request("POST", "/api/v1/admin/tsdb/clean_tombstones"))[0] == 204
    # The deletion holds over a restart.
    storage = Storage(str(tmp_path / "data"))
    found = storage.select([("room", "=", "kitchen"), ("__name__", "=", "room_temperature_celsius")], 0, 1 << 60)
    rest = storage.select([("room", "=", "cellar"), ("__name__", "=", "room_temperature_celsius")], 0, 1 << 60)
    assert 0 < len(found.values) < len(rest.values)
    storage.close()


async def test_a_snapshot_is_a_data_folder_that_outlives_its_origin(
    serve: Serve, target: Target, tmp_path: Path
) -> None:
    async with serve(scrape_config(target.address), admin=True) as client:
        await some_samples(client)
        status, body = await client.request("POST", "/api/v1/admin/tsdb/snapshot")
        assert status == 200
        name = body["data"]["name"]
    taken = tmp_path / "data" / "snapshots" / name
    moved = taken.rename(tmp_path / "moved")
    storage = Storage(str(moved))
    assert storage.losses() == []
    found = storage.select([("__name__", "=", "room_temperature_celsius")], 0, 1 << 60)
    assert len(found.labels) == 2
    assert len(found.values) > 6
    storage.close()


async def test_opening_shows_how_far_it_is_and_what_was_lost(
    serve: Serve, target: Target, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(scrape_config(target.address)) as client:
        await some_samples(client)
        done = await client.api("status/walreplay")
        assert done["state"] == "done"
    segment = sorted((tmp_path / "data" / "wal").iterdir())[0]
    content = bytearray(segment.read_bytes())
    content[40] ^= 0xFF
    segment.write_bytes(content)
    with caplog.at_level("INFO"):
        async with serve(scrape_config(target.address), wait=False) as client:
            # It answers from the first moment on.
            assert (await client.api("status/walreplay"))["state"] in ("waiting", "in progress", "done")
            await client.ready()
            assert (await client.api("status/runtimeinfo"))["corruptionCount"] == 1
            await asyncio.sleep(0)
    assert "reading the log" in caplog.messages
    assert "the storage was damaged" in caplog.messages
    assert segment.with_suffix(".damaged").read_bytes() == content
