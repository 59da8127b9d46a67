"""`notifications` as a list and as a stream of events, while the server is starting as well."""

import asyncio

import orjson
from aiohttp import web

from bellbuoy.server.api.answers import success
from bellbuoy.server.notifications import Notifications

# A comment is sent this often, so that a listener who left is noticed.
ALIVE_SECONDS = 15.0


async def current(notifications: Notifications) -> web.Response:
    """What holds now."""
    return success([one.to_dict() for one in notifications.all()])


async def live(notifications: Notifications, request: web.Request) -> web.StreamResponse:
    """Server-sent events: what holds, then each change; 204 when too many listen."""
    with notifications.listening() as queue:
        if queue is None:
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        while True:
            try:
                one = await asyncio.wait_for(queue.get(), ALIVE_SECONDS)
                if one is None:
                    return response
                await response.write(b"data: " + orjson.dumps(one.to_dict()) + b"\n\n")
            except TimeoutError:
                try:
                    await response.write(b": still here\n\n")
                except ConnectionError:
                    return response
            except ConnectionError:
                return response
