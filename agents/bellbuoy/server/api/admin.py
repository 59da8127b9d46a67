"""Prometheus's admin API: deletes series, cleans up behind it, makes snapshots. Off unless --web.enable-admin-api."""

import asyncio
import secrets
import time

from aiohttp import web

from bellbuoy.server.api.answers import ApiError, success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import restricted

# Snapshots lie below the data folder, since they are links into it.
SNAPSHOTS = "snapshots"


def _check_enabled(parts: Parts) -> None:
    if not parts.options.admin:
        raise ApiError("unavailable", "admin APIs disabled; start with --web.enable-admin-api")


async def delete_series(parts: Parts, request: web.Request) -> web.Response:
    """Hides what the selectors match, from start to end; 204. The disk has it until `clean_tombstones`."""
    _check_enabled(parts)
    parameters = await Parameters.of(request)
    selectors = parameters.selectors(named=True)
    if not selectors:
        raise ApiError("bad_data", "no match[] parameter provided")
    start, end = parameters.time_range()
    selectors = restricted(selectors, parameters.filters())
    await asyncio.to_thread(parts.storage.delete, selectors, start, end)
    return web.Response(status=204)


async def clean_tombstones(parts: Parts, _: web.Request) -> web.Response:
    """Writes blocks anew without what was deleted; 204."""
    _check_enabled(parts)
    await asyncio.to_thread(parts.storage.clean)
    return web.Response(status=204)


async def snapshot(parts: Parts, _: web.Request) -> web.Response:
    """A data folder of its own, of links, below `snapshots/`; `skip_head` is accepted, and changes nothing."""
    _check_enabled(parts)
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(8)}"
    await asyncio.to_thread(parts.storage.snapshot, str(parts.options.storage_path / SNAPSHOTS / name))
    return success({"name": name})
