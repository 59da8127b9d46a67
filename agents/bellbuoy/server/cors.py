"""Which pages of other sites may read the API: `--web.cors.origin`, as in Prometheus.

Every answer of the API to a request with an `Origin` says who may read it; the browser does the rest. A preflight
(`OPTIONS`) is answered 204.
"""

import re

from aiohttp import web

from bellbuoy._core import Regex

PREFIXES = ("/api/", "/federate")
_HEADERS = {
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Origin",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Expose-Headers": "Date",
}
# A pattern that takes everyone is said as `*`, which caches can share.
_EVERYONE = re.compile(r"\^?\(?(\?:)?\.\*\)?\$?")


def add_cors(app: web.Application, *, origin: str) -> None:
    """Let pages whose origin matches the pattern read the API. Raises ValueError for one that cannot be read."""
    everyone, pattern = _EVERYONE.fullmatch(origin) is not None, Regex(origin)

    async def allow(request: web.Request, response: web.StreamResponse) -> None:
        if not request.path.startswith(PREFIXES):
            return
        response.headers.add("Vary", "Origin")
        asking = request.headers.get("Origin")
        if not asking:
            return
        response.headers.update(_HEADERS)
        if everyone or pattern.matches(asking):
            response.headers["Access-Control-Allow-Origin"] = "*" if everyone else asking

    async def preflight(_: web.Request) -> web.Response:
        return web.Response(status=204)

    app.on_response_prepare.append(allow)
    app.router.add_route("OPTIONS", "/api/v1/{rest:.*}", preflight)
