"""The page as our server sends it, with `/api` passed on to whichever server answers Prometheus's API.

The headers are the server's own: a breach of its content policy shows as an error on the browser's console.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from bellbuoy.server.ui import add_ui


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

        app = web.Application()
        app.router.add_route("*", "/api/{path:.*}", passed_on)
        add_ui(app)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
