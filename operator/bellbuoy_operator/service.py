"""The configuration service: what a stack's server and alertmanager read, and any Prometheus by `http_sd`.

`GET /v1/stacks/NS/NAME/changes?after=HASH&timeout=SECONDS` answers when the stack's hash is not HASH, or the time is
over, with `{"hash": …, "parts": {name: hash}}`; `GET /v1/stacks/NS/NAME/PART` answers with a part. Until all that
configuration depends on is known, every answer is 503: an operator that has just started must not tell servers that
there is nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from bellbuoy.http import Health, application
from bellbuoy_operator.access import Access, DeniedError
from bellbuoy_operator.cluster import ClusterError
from bellbuoy_operator.publishing import TARGETS, Publication, Publications
from bellbuoy_operator.world import World

# The longest that a poll is held; and what it is without a word of the client.
POLL_LIMIT_SECONDS = 300.0
POLL_SECONDS = 30.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConfigService:
    """The routes, over the publications."""

    def __init__(self, world: World, publications: Publications, access: Access, registry: CollectorRegistry) -> None:
        self._world, self._publications, self._access = world, publications, access
        self._polls = Gauge("bellbuoy_config_polls_waiting", "Polls that wait for a change.", registry=registry)

    def application(self, *, registry: CollectorRegistry, health: Health) -> web.Application:
        """An application that answers for it."""
        app = application("Operator", registry=registry, health=health)
        app.router.add_get("/v1/stacks/{namespace}/{name}/changes", self._guarded(self._changes))
        app.router.add_get("/v1/stacks/{namespace}/{name}/{part:.+}", self._guarded(self._part))
        return app

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                await self._access.check(
                    request.headers.get("Authorization", ""),
                    namespace=request.match_info["namespace"],
                    name=request.match_info["name"],
                )
            except DeniedError as e:
                return web.Response(status=e.status, text=f"{e}\n")
            except ClusterError as e:
                return web.Response(status=503, text=f"cannot have the token reviewed: {e}; try again\n")
            if not self._world.synced:
                return web.Response(status=503, text=f"not all is known yet ({self._world.missing()}); try again\n")
            return await handler(request)

        return guarded

    async def _changes(self, request: web.Request) -> web.StreamResponse:
        try:
            seconds = float(request.query.get("timeout", POLL_SECONDS))
        except ValueError:
            return web.Response(status=400, text="timeout is no number: give seconds, such as 30\n")
        if not 0 <= seconds <= POLL_LIMIT_SECONDS:
            return web.Response(status=400, text=f"timeout must be from 0 to {POLL_LIMIT_SECONDS:g} seconds\n")
        with self._polls.track_inprogress():
            publication = await self._publications.wait_for_change(
                _key(request), after=request.query.get("after", ""), seconds=seconds
            )
        if publication is None:
            return self._unknown(request)
        return _json(orjson.dumps({"hash": publication.hash, "parts": dict(publication.hashes)}), publication.hash)

    async def _part(self, request: web.Request) -> web.StreamResponse:
        publication = self._publications.get(_key(request))
        if publication is None:
            return self._unknown(request)
        name = request.match_info["part"]
        if name not in publication.parts:
            return web.Response(status=404, text=f'the stack has no part "{name}": it has {_names(publication)}\n')
        etag = publication.hashes[name]
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": f'"{etag}"'})
        body = publication.parts[name]
        if name.startswith(TARGETS):
            return _json(body, etag)
        return web.Response(body=body, headers={"ETag": f'"{etag}"', "Content-Type": "application/yaml; charset=utf-8"})

    def _unknown(self, request: web.Request) -> web.Response:
        namespace, name = _key(request)
        # It may be known and not made yet; a moment later it is.
        return web.Response(
            status=404, text=f"there is no MonitoringStack {namespace}/{name}; apply it, or mend the URL\n"
        )


def _key(request: web.Request) -> tuple[str, str]:
    return request.match_info["namespace"], request.match_info["name"]


def _json(body: bytes, etag: str) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"ETag": f'"{etag}"'})


def _names(publication: Publication) -> str:
    return ", ".join(sorted(publication.parts))


async def end_polls(publications: Publications, stop: asyncio.Event) -> None:
    """When we are told to stop, answer those who wait, so that they ask another replica."""
    await stop.wait()
    publications.wake_all()
