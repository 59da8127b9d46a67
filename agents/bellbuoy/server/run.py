"""The part's life: listen, open the storage, get a configuration and follow its changes, end when told.

From a file, SIGHUP and `POST /-/reload` read it again. From the operator, a long poll hands over what changed;
targets that change touch their pool only. The health pages and the UI answer from the first moment; the API says 503
until the storage is open, and `/-/ready` until there is a configuration too.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from bellbuoy.configuration import ConfigError
from bellbuoy.errors import CannotError
from bellbuoy.http import Health, application, serve
from bellbuoy.http.follow import Change, ConfigFollower, RejectedError
from bellbuoy.logs import fields
from bellbuoy.server import following
from bellbuoy.server.api import add_api
from bellbuoy.server.config import read_files
from bellbuoy.server.cors import add_cors
from bellbuoy.server.options import FollowOptions, Options
from bellbuoy.server.server import Server
from bellbuoy.server.ui import add_ui
from bellbuoy.tsdb import StorageError

log = logging.getLogger(__name__)
# The last configuration of the operator lies here, beside the series.
CACHE_FOLDER = "operator-config"
NO_LIFECYCLE = "Lifecycle API is not enabled; start with --web.enable-lifecycle.\n"


class StorageFailedError(CannotError):
    """The storage cannot be opened, or cannot be written to any more; the text is the core's."""


def with_external_url(options: Options, address: str) -> Options:
    """The options with the address that links lead to; this machine's name, unless told."""
    port = address.rpartition(":")[2]
    url = options.external_url or f"http://{socket.gethostname()}:{port}"
    return replace(options, external_url=url, rules=replace(options.rules, external_url=url))


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Serve until `stop` is set.

    Raises ConfigError when the first configuration cannot be used, StorageFailedError, and ListenError for the port.
    """
    registry, health = CollectorRegistry(), Health()
    server = Server(options, registry=registry, health=health)
    app = application("Server", registry=registry, health=health)
    add_api(
        app,
        parts=lambda: server.parts,
        ready=server.waiting,
        replay=lambda: server.replay,
        notifications_=server.notifications,
    )
    add_cors(app, origin=options.cors_origin)
    reload = _Reload(options, server)
    for method in ("POST", "PUT"):
        app.router.add_route(method, "/-/reload", reload.handler)
        app.router.add_route(method, "/-/quit", _quit(options, stop))
    add_ui(app)
    bound: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def told(address: str) -> None:
        # Told to stop meanwhile, nobody waits for it any more.
        if not bound.done():
            bound.set_result(address)
        if listening is not None:
            listening(address)

    ended = asyncio.Event()
    http = asyncio.create_task(serve(app, listen=options.listen, stop=ended, listening=told), name="http")
    work = asyncio.create_task(_work(server, reload, bound, registry), name="server")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    ends: list[asyncio.Future[Any]] = [http, work, stopping, server.failure]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in ends[1:]:
            one.cancel()
        results = await asyncio.gather(*ends[1:], return_exceptions=True)
        server.stopping()
        ended.set()
        try:
            await http
        finally:
            await server.close()
    for result in results:
        if isinstance(result, StorageError):
            raise StorageFailedError(str(result)) from result
        if isinstance(result, Exception):
            raise result


def _quit(options: Options, stop: asyncio.Event) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        """`POST /-/quit`."""
        if not options.lifecycle:
            return web.Response(status=403, text=NO_LIFECYCLE)
        stop.set()
        return web.Response(text="Requesting termination... Goodbye!")

    return handler


async def _work(server: Server, reload: "_Reload", bound: "asyncio.Future[str]", registry: CollectorRegistry) -> None:
    """Open, configure, follow. Ends by cancellation only, or by an error that the part cannot go on with."""
    options = server.options
    server.options = with_external_url(options, await bound)
    await server.open()
    if options.follow is not None:
        await _follow(options.follow, server, registry)
        return
    try:
        await reload()
    except ConfigError as e:
        server.refused(e)
        raise
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    # Several parts may share a process and its main thread only takes signals: without it, reload is by HTTP.
    try:
        loop.add_signal_handler(signal.SIGHUP, asked.set)
    except (RuntimeError, ValueError) as e:
        log.info("SIGHUP is not taken here", extra=fields(reason=str(e)))
    try:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await reload()
            except ConfigError as e:
                server.refused(e)
                log.error("cannot reload the configuration, the last one stays", extra=fields(error=str(e)))  # noqa: TRY400
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _follow(follow: FollowOptions, server: Server, registry: CollectorRegistry) -> None:
    async def apply(change: Change) -> None:
        touched = change.changed | change.removed
        try:
            if server.parts.config_time and all(name.startswith(following.TARGETS_PREFIX) for name in touched):
                for name in sorted(touched):
                    body = change.parts.get(name, b"[]")
                    groups = following.read_targets(name, body)
                    server.parts.scrape.set_targets(name.removeprefix(following.TARGETS_PREFIX), groups)
                return
            loaded = await asyncio.to_thread(following.read_parts, dict(change.parts))
        except ConfigError as e:
            server.refused(e)
            raise RejectedError(str(e)) from e
        await server.apply(loaded)

    await ConfigFollower(
        url=follow.url,
        apply=apply,
        cache_folder=server.options.storage_path / CACHE_FOLDER,
        token_file=follow.token_file,
        ca_file=follow.ca_file,
        wanted=following.wanted,
        registry=registry,
    ).run()


class _Reload:
    """Reading the file again, for signals and HTTP alike."""

    def __init__(self, options: Options, server: Server) -> None:
        self._options, self._server = options, server

    async def __call__(self) -> None:
        path = self._options.config_file
        if path is None:
            raise ConfigError("the configuration comes from the operator; there is no file to read again")
        loaded = await asyncio.to_thread(read_files, path)
        await self._server.apply(loaded)
        log.info("configuration applied", extra=fields(file=path, pools=len(loaded.config.scrape_configs)))

    async def handler(self, _: web.Request) -> web.Response:
        """`POST /-/reload`."""
        if not self._options.lifecycle:
            return web.Response(status=403, text=NO_LIFECYCLE)
        if self._options.config_file is None:
            text = "The configuration comes from the operator; there is no file to read again.\n"
            return web.Response(status=409, text=text)
        if reason := self._server.waiting():
            return web.Response(status=503, text=f"The server is not ready: {reason}\n")
        try:
            await self()
        except ConfigError as e:
            self._server.refused(e)
            log.error("cannot reload the configuration, the last one stays", extra=fields(error=str(e)))  # noqa: TRY400
            return web.Response(status=500, text=f"failed to reload config: {e}\n")
        return web.Response(text="")
