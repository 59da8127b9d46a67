"""The built page behind a small server of its own, with `/api` passed on to whichever server answers Prometheus's API.

It sends the strictest policy that the page must live with, so that a breach shows as an error on the browser's console.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

STATIC = Path(__file__).parents[2] / "agents" / "bellbuoy" / "server" / "static"
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"


@asynccontextmanager
async def site(api: str) -> AsyncIterator[str]:
    """Serve the page while the context is open, and give its address; `api` is such as `http://127.0.0.1:9090`."""
    async with aiohttp.ClientSession() as session:

        async def passed_on(request: web.Request) -> web.Response:
            kept = {"Content-Type": request.headers["Content-Type"]} if request.can_read_body else {}
            body = await request.read()
            url = api + request.path_qs
            try:
                async with session.request(request.method, url, data=body or None, headers=kept) as answer:
                    return web.Response(
                        body=await answer.read(),
                        status=answer.status,
                        content_type=answer.content_type,
                        charset="utf-8",
                    )
            except aiohttp.ClientConnectionError as error:
                raise web.HTTPBadGateway(text=f"cannot reach {api}: {error}") from error

        async def page(_: web.Request) -> web.FileResponse:
            return web.FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": POLICY})

        app = web.Application()
        app.router.add_get("/", page)
        app.router.add_get("/graph", page)
        app.router.add_get("/rules", page)
        app.router.add_route("*", "/api/{path:.*}", passed_on)
        app.router.add_static("/", STATIC)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
