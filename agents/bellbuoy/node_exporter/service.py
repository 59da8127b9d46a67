"""The node exporter as an HTTP service.

A scrape reads hundreds of small files, and a driver may take its time to answer: so it runs in a thread, and the event
loop goes on. `/metrics?collect[]=cpu&collect[]=meminfo` asks for some collectors only, `exclude[]` for all others.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from bellbuoy import __version__
from bellbuoy.exposition import respond
from bellbuoy.http import Health, application, serve
from bellbuoy.logs import fields
from bellbuoy.node_exporter.options import Options
from bellbuoy.node_exporter.scrape import Scraper

log = logging.getLogger(__name__)
# Scrapes at once; more wait for a thread. One for each of two servers and one for a person is enough.
THREADS = 3

INDEX = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Bellbuoy node exporter</title>
<h1>Bellbuoy node exporter {version}</h1><p><a href="{path}">Metrics</a></p><p>Collectors: {collectors}</p></html>
"""


def _select(request: web.Request, names: tuple[str, ...]) -> tuple[str, ...] | None:
    collect, exclude = request.query.getall("collect[]", []), request.query.getall("exclude[]", [])
    if collect and exclude:
        raise web.HTTPBadRequest(text="Combined collect and exclude queries are not allowed: use one of them.\n")
    for name in (*collect, *exclude):
        if name not in names:
            raise web.HTTPBadRequest(
                text=f"cannot select collector {name[:100]!r}, unknown or turned off: use one of {', '.join(names)}\n"
            )
    if collect:
        return tuple(dict.fromkeys(collect))
    return tuple(name for name in names if name not in exclude) if exclude else None


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Serve the machine's metrics until `stop` is set."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    about = "A metric with a constant '1' value labeled by the version of Bellbuoy that this is."
    Gauge("bellbuoy_build_info", about, ["version"], registry=registry).labels(__version__).set(1)
    scraper = Scraper(options)
    log.info("collectors are on", extra=fields(collectors=",".join(scraper.names)))
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(THREADS, thread_name_prefix="scrape")
    running = 0

    async def metrics(request: web.Request) -> web.Response:
        nonlocal running
        names = _select(request, scraper.names)
        if options.max_requests and running >= options.max_requests:
            text = f"limit of concurrent requests reached ({options.max_requests}), try again later.\n"
            raise web.HTTPServiceUnavailable(text=text)
        running += 1
        try:
            own = registry if options.exporter_metrics else None
            return await loop.run_in_executor(executor, lambda: respond(request, scraper.scrape(names), own))
        finally:
            running -= 1

    async def index(_: web.Request) -> web.Response:
        text = INDEX.format(version=__version__, path=options.telemetry_path, collectors=", ".join(scraper.names))
        return web.Response(text=text, content_type="text/html")

    health = Health()
    app = application("Node exporter", registry=registry, health=health, metrics=metrics)
    if options.telemetry_path != "/metrics":
        app.router.add_get(options.telemetry_path, metrics)
    app.router.add_get("/", index)
    health.set_ready()
    try:
        await serve(app, listen=options.listen, stop=stop, listening=listening)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
