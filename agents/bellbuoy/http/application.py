"""An aiohttp application with what every part's has: `/-/healthy`, `/-/ready`, `/metrics`, limits, request metrics.

`serve()` listens until an event says stop, then finishes what is under way. It leaves signals to the command line.
"""

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram

from bellbuoy.errors import CannotError
from bellbuoy.http.metrics import metrics_handler
from bellbuoy.logs import fields

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# An error's text in an answer is cut here: it may quote the input.
ERROR_LIMIT = 4096
# A request that is still running when we are told to stop gets this long.
SHUTDOWN_SECONDS = 10.0
# The largest body that any of our paths takes, unless a part says otherwise.
BODY_LIMIT_BYTES = 16 << 20


class ListenError(CannotError, OSError):
    """An address that we cannot listen at."""


@dataclass
class Health:
    """Whether a part is ready, and if not, why: the text of `/-/ready`."""

    ready: bool = False
    reason: str = "starting"
    detail: dict[str, str] = field(default_factory=dict)

    def set_ready(self) -> None:
        """From now on `/-/ready` answers 200."""
        self.ready, self.reason = True, ""

    def set_waiting(self, reason: str) -> None:
        """From now on `/-/ready` answers 503 with this reason."""
        self.ready, self.reason = False, reason


def application(
    part: str,
    *,
    registry: CollectorRegistry,
    health: Health,
    body_limit_bytes: int = BODY_LIMIT_BYTES,
    metrics: Handler | None = None,
) -> web.Application:
    """The application of one part: `part` is its name in texts, such as `Alertmanager`.

    `metrics` answers `/metrics` in place of the registry alone, for a part whose trade is metrics.
    """
    requests = Counter(
        "bellbuoy_http_requests",
        "HTTP requests by handler, method and code.",
        ["handler", "method", "code"],
        registry=registry,
    )
    seconds = Histogram(
        "bellbuoy_http_request_duration_seconds", "Time to answer an HTTP request.", ["handler"], registry=registry
    )

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        name = resource.canonical if resource is not None else "unknown"
        start = asyncio.get_running_loop().time()
        code = 500
        try:
            response = await handler(request)
            code = response.status
            return response
        except web.HTTPException as e:
            code = e.status
            raise
        finally:
            requests.labels(name, request.method, str(code)).inc()
            seconds.labels(name).observe(asyncio.get_running_loop().time() - start)

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text=f"{part} is healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        if health.ready:
            return web.Response(text=f"{part} is ready.\n")
        return web.Response(status=503, text=f"{part} is not ready: {health.reason}\n")

    app = web.Application(middlewares=[count], client_max_size=body_limit_bytes)
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/-/ready", ready)
    app.router.add_get("/metrics", metrics or metrics_handler(registry))
    return app


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ListenError(f"cannot listen at {listen}: it is no address; write HOST:PORT, such as 127.0.0.1:9090")
    return host, int(port)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; end what listens there, or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "we may not; choose a port above 1023"
    # The loop wraps the reason in a sentence of its own.
    reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error.strerror or error)
    return f"{reason}; choose an address of this machine"


async def serve(
    app: web.Application,
    *,
    listen: str,
    stop: asyncio.Event,
    tls: ssl.SSLContext | None = None,
    listening: Callable[[str], None] | None = None,
) -> None:
    """Listen at `host:port` (an empty host is every address; port 0 is any free one) until `stop` is set.

    `listening` is told the real address, such as `127.0.0.1:41234`. Raises ListenError when the address cannot be had.
    """
    host, port = _split(listen)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]") or None, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as e:
            raise ListenError(f"cannot listen at {listen}: {_reason(e)}") from e
        bound = runner.addresses[0]
        address = f"{host or '127.0.0.1'}:{bound[1]}"
        log.info("listening", extra=fields(address=address, tls=tls is not None))
        if listening is not None:
            listening(address)
        await stop.wait()
    finally:
        await runner.cleanup()
