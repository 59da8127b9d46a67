"""The pushgateway as an HTTP service, and the task that writes the groups to their file.

A large body is parsed, and a large page printed, in a thread. What changes the groups happens in the event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from bellbuoy import __version__
from bellbuoy.exposition import Page, ParseError, number, parse, respond, series
from bellbuoy.http import ERROR_LIMIT, Health, application, serve
from bellbuoy.logs import fields
from bellbuoy.pushgateway.api import group_json, iso, status_page
from bellbuoy.pushgateway.families import PushError, Stored, prepare
from bellbuoy.pushgateway.grouping import GroupingError, Labels, parse_grouping
from bellbuoy.pushgateway.options import Options
from bellbuoy.pushgateway.persistence import PersistenceError, encode, load, save
from bellbuoy.pushgateway.protobuf import MEDIA_TYPE, parse_delimited
from bellbuoy.pushgateway.store import Group, LimitError, Store

log = logging.getLogger(__name__)
# A body or a page above this is worth a thread.
INLINE_BYTES = 64 << 10
INLINE_SERIES = 1000
_CORS = {
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Origin",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Date",
    "Cache-Control": "no-cache, no-store, must-revalidate",
}


class Pushgateway:
    """The handlers, around one store."""

    def __init__(
        self,
        options: Options,
        stop: asyncio.Event,
        *,
        registry: CollectorRegistry,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self.registry = registry
        self._stop = stop
        self._now = now
        self._started = now()
        self.store = Store(
            group_limit=options.group_limit,
            series_limit=options.series_limit,
            ttl_seconds=options.group_ttl_seconds,
            now=now,
        )
        self.pushes = Counter(
            "bellbuoy_pushgateway_pushes", "Pushes by what became of them.", ["result"], registry=registry
        )
        for result in ("taken", "unreadable", "refused", "limited"):
            self.pushes.labels(result)
        groups = Gauge("bellbuoy_pushgateway_groups", "Groups that are kept.", registry=registry)
        groups.set_function(lambda: len(self.store.groups))
        kept = Gauge("bellbuoy_pushgateway_series", "Pushed series that are kept.", registry=registry)
        kept.set_function(lambda: self.store.series)
        self.persisted = Gauge(
            "bellbuoy_pushgateway_persisted_timestamp_seconds", "When the file was last written.", registry=registry
        )
        self.persist_failures = Counter(
            "bellbuoy_pushgateway_persist_failures", "Writes of the file that failed.", registry=registry
        )

    def open(self) -> None:
        """Fill the store from the file, if there is one. Raises PersistenceError."""
        options = self.options
        self.store.own_types = {family.name: family.type for family in self._own()}
        if options.persistence_file:
            groups = load(Path(options.persistence_file), now=self._now())
            self.store.restore(groups)
            log.info("groups are restored", extra=fields(file=options.persistence_file, groups=len(groups)))

    def _own(self) -> list[Any]:
        return list(parse(generate_latest(self.registry).decode()).values())

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`: all groups, with the pushgateway's own metrics in the same families where they meet."""
        page: Page = self.store.page()
        for family in self._own():
            target = page.family(family.name, family.type, family.help or "")
            target.lines.extend(f"{series(s.name, s.labels)} {number(s.value)}" for s in family.samples)
        if self.store.series < INLINE_SERIES:
            return respond(request, page, None)
        return await asyncio.to_thread(respond, request, page, None)

    def _grouping(self, request: web.Request) -> Labels:
        # Split before it is decoded: a %2F is part of a value.
        raw = request.rel_url.raw_path.partition("/metrics/")[2]
        try:
            return parse_grouping(raw, utf8_names=self.options.utf8_names)
        except GroupingError as e:
            raise web.HTTPBadRequest(text=f"{e}\n"[:ERROR_LIMIT]) from e

    def _families(self, body: bytes, content_type: str, labels: Labels) -> dict[str, Stored]:
        if content_type == MEDIA_TYPE:
            parsed = parse_delimited(body)
        else:
            try:
                parsed = parse(body.decode())
            except UnicodeDecodeError as e:
                raise ParseError(f"cannot read metrics: they are not UTF-8: {e}") from e
        return prepare(parsed.values(), labels, pushed_at=self._now(), utf8_names=self.options.utf8_names)

    async def push(self, request: web.Request) -> web.Response:
        """`PUT` replaces a group, `POST` only its metrics of the names that are pushed."""
        labels = self._grouping(request)
        _check_headers(request)
        body = await request.read()
        content_type = request.content_type
        try:
            if len(body) < INLINE_BYTES:
                families = self._families(body, content_type, labels)
            else:
                families = await asyncio.to_thread(self._families, body, content_type, labels)
            self.store.push(labels, families, replace=request.method == "PUT")
        except ParseError as e:
            self.pushes.labels("unreadable").inc()
            raise web.HTTPBadRequest(text=f"{e}\n"[:ERROR_LIMIT]) from e
        except PushError as e:
            self.pushes.labels("refused").inc()
            self.store.failed(labels)
            log.warning("push is refused", extra=fields(group=dict(labels), source=request.remote, error=e))
            text = f"pushed metrics are invalid or inconsistent with existing metrics: {e}\n"
            raise web.HTTPBadRequest(text=text[:ERROR_LIMIT]) from e
        except LimitError as e:
            self.pushes.labels("limited").inc()
            self.store.failed(labels)
            log.warning("push is above a limit", extra=fields(group=dict(labels), source=request.remote, error=e))
            raise web.HTTPTooManyRequests(text=f"{e}\n") from e
        self.pushes.labels("taken").inc()
        return web.Response()

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE`: 202 whether or not the group was there."""
        self.store.delete(self._grouping(request))
        return web.Response(status=202)

    async def api_metrics(self, _: web.Request) -> web.Response:
        """`GET /api/v1/metrics`."""
        self.store.expire()
        return _json([group_json(group) for group in self.store.groups.values()])

    async def api_status(self, _: web.Request) -> web.Response:
        """`GET /api/v1/status`."""
        flags = {name.replace("_", "-"): str(value) for name, value in asdict(self.options).items()}
        return _json({"flags": flags, "start_time": iso(self._started), "build_information": {"version": __version__}})

    async def wipe(self, request: web.Request) -> web.Response:
        """`PUT /api/v1/admin/wipe`."""
        log.warning("all groups are wiped", extra=fields(groups=self.store.wipe(), source=request.remote))
        return web.Response(status=202)

    async def quit(self, _: web.Request) -> web.Response:
        """`PUT /-/quit`."""
        self._stop.set()
        return web.Response(text="Requesting termination... Goodbye!")

    async def status(self, _: web.Request) -> web.Response:
        """`GET /`."""
        self.store.expire()
        text = status_page(self.store, self.options.telemetry_path)
        return web.Response(text=text, content_type="text/html", headers={"X-Content-Type-Options": "nosniff"})

    def routes(self, app: web.Application) -> None:
        """Put the handlers where the protocol has them."""
        router = app.router
        for path in ("/metrics/job/{job}", "/metrics/job@base64/{job}"):
            for each in (path, path + "/{labels:.*}"):
                router.add_put(each, self.push)
                router.add_post(each, self.push)
                router.add_delete(each, self.delete)
        if self.options.telemetry_path != "/metrics":
            router.add_get(self.options.telemetry_path, self.metrics)
        router.add_get("/", self.status)
        router.add_get("/status", self.status)
        router.add_get("/api/v1/metrics", self.api_metrics)
        router.add_get("/api/v1/status", self.api_status)
        router.add_options("/api/v1/{path:.*}", _cors)
        router.add_put("/api/v1/admin/wipe", self.wipe if self.options.enable_admin_api else _no_admin)
        handler = self.quit if self.options.enable_lifecycle else _no_lifecycle
        router.add_put("/-/quit", handler)
        router.add_post("/-/quit", handler)

    async def persist_changes(self) -> None:
        """Write the file after changes, at most once an interval, until cancelled; the last write is `persist`'s."""
        written = self.store.version
        while True:
            await asyncio.sleep(max(self.options.persistence_interval_seconds, 0.1))
            if self.store.version != written:
                version = self.store.version
                if await self.persist():
                    written = version

    async def persist(self) -> bool:
        """Write the file now; whether that went well."""
        path = Path(self.options.persistence_file)
        # Families never change: copies of the groups are a snapshot.
        groups = [Group(g.labels, g.families, g.push_time, g.failure_time) for g in self.store.groups.values()]
        try:
            await asyncio.to_thread(lambda: save(path, encode(groups)))
        except PersistenceError as e:
            self.persist_failures.inc()
            log.error("groups are not persisted", extra=fields(error=e))  # noqa: TRY400 - the reason says all
            return False
        self.persisted.set(self._now())
        return True


def _check_headers(request: web.Request) -> None:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise web.HTTPUnsupportedMediaType(text=f"cannot read content encoding {encoding[:50]}: send gzip, or none\n")
    if request.content_type == MEDIA_TYPE:
        said = {
            name.strip(): value.strip(' "')
            for name, _, value in (part.partition("=") for part in request.headers["Content-Type"].split(";")[1:])
        }
        if said.get("encoding") != "delimited" or said.get("proto") != "io.prometheus.client.MetricFamily":
            text = (
                "cannot read this protobuf: send proto=io.prometheus.client.MetricFamily; encoding=delimited, or text\n"
            )
            raise web.HTTPUnsupportedMediaType(text=text)


async def _cors(_: web.Request) -> web.Response:
    return web.Response(headers=_CORS)


async def _no_lifecycle(_: web.Request) -> web.Response:
    return web.Response(status=403, text="Lifecycle API is not enabled: start with --web.enable-lifecycle.\n")


async def _no_admin(_: web.Request) -> web.Response:
    return web.Response(status=404, text="Admin API is not enabled: start with --web.enable-admin-api.\n")


def _json(data: Any) -> web.Response:
    body = orjson.dumps({"status": "success", "data": data})
    return web.Response(body=body, content_type="application/json", headers=_CORS)


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Take pushes until `stop` is set, and write the groups a last time. Raises PersistenceError."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    about = "A metric with a constant '1' value labeled by the version of Bellbuoy that this is."
    Gauge("bellbuoy_build_info", about, ["version"], registry=registry).labels(__version__).set(1)
    gateway = Pushgateway(options, stop, registry=registry)
    health = Health()
    app = application(
        "Pushgateway",
        registry=registry,
        health=health,
        body_limit_bytes=options.body_limit_bytes,
        metrics=gateway.metrics,
    )
    await asyncio.to_thread(gateway.open)
    gateway.routes(app)
    health.set_ready()
    writer = asyncio.create_task(gateway.persist_changes()) if options.persistence_file else None
    try:
        await serve(app, listen=options.listen, stop=stop, listening=listening)
    finally:
        if writer is not None:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await gateway.persist()
