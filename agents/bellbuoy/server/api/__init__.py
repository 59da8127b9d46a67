"""The HTTP API v1: Prometheus's paths and shapes, and a few of our own below `/api/v1/bellbuoy/`.

`add_api()` binds every handler to the server's parts and wraps it, so that whatever goes wrong comes in the envelope.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from bellbuoy.server.api import (
    admin,
    backtest,
    cardinality,
    features,
    nodes,
    notifications,
    openapi,
    queries,
    rules,
    scraping,
    search,
    self_metrics,
    series,
    status,
    targets,
)
from bellbuoy.server.api.answers import api_handler, failure, success
from bellbuoy.server.api.federate import federate
from bellbuoy.server.api.remote_read import remote_read
from bellbuoy.server.notifications import Notifications
from bellbuoy.server.parts import Parts, Replay

Handler = Callable[[Parts, web.Request], Awaitable[web.StreamResponse]]
GET, BOTH = ("GET",), ("GET", "POST")
ROUTES: tuple[tuple[str, tuple[str, ...], Handler], ...] = (
    ("/query", BOTH, queries.query),
    ("/query_range", BOTH, queries.query_range),
    ("/query_exemplars", BOTH, queries.query_exemplars),
    ("/format_query", BOTH, queries.format_query),
    ("/parse_query", BOTH, queries.parse_query),
    ("/series", BOTH, series.series),
    ("/labels", BOTH, series.labels),
    ("/label/{name}/values", BOTH, series.label_values),
    ("/targets", GET, targets.targets),
    ("/targets/metadata", GET, targets.targets_metadata),
    ("/targets/relabel_steps", GET, scraping.relabel_steps),
    ("/targets/response", GET, scraping.response),
    ("/scrape_pools", GET, scraping.scrape_pools),
    ("/scrape_pools/config", GET, scraping.scrape_pool_config),
    ("/metadata", GET, targets.metadata),
    ("/alertmanagers", GET, targets.alertmanagers),
    ("/rules", GET, rules.rules),
    ("/alerts", GET, rules.alerts),
    ("/status/config", GET, status.config),
    ("/status/flags", GET, status.flags),
    ("/status/buildinfo", GET, status.build_info),
    ("/status/runtimeinfo", GET, status.runtime_info),
    ("/status/tsdb", GET, cardinality.tsdb),
    ("/status/tsdb/blocks", GET, cardinality.blocks),
    ("/status/self_metrics", GET, self_metrics.self_metrics),
    ("/features", GET, features.features),
    ("/search/metric_names", BOTH, search.metric_names),
    ("/search/label_names", BOTH, search.label_names),
    ("/search/label_values", BOTH, search.label_values),
    ("/read", ("POST",), remote_read),
    ("/admin/tsdb/delete_series", ("POST", "PUT"), admin.delete_series),
    ("/admin/tsdb/clean_tombstones", ("POST", "PUT"), admin.clean_tombstones),
    ("/admin/tsdb/snapshot", ("POST", "PUT"), admin.snapshot),
    ("/bellbuoy/backtest", BOTH, backtest.backtest),
    ("/bellbuoy/nodes", GET, nodes.nodes),
    ("/bellbuoy/queries", GET, queries.costs),
)
PREFIX = "/api/v1"
# Asked again and again, and mostly unchanged: these get a tag, and 304.
KEPT = frozenset(
    {"/targets", "/targets/metadata", "/metadata", "/rules", "/features", "/scrape_pools", "/status/config"}
    | {"/status/flags", "/status/buildinfo", "/openapi.yaml"}
)
# Answered while the server starts, too: what it is about is not in its parts.
EARLY = ("/status/walreplay", "/notifications", "/notifications/live", "/openapi.yaml")


def add_api(
    app: web.Application,
    *,
    parts: Callable[[], Parts],
    ready: Callable[[], str],
    replay: Callable[[], Replay],
    notifications_: Notifications,
) -> None:
    """Add all paths; `parts()` is asked once `ready()` gives no reason to wait, the others at any time."""

    def bind(handler: Handler, *, kept: bool = False) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def run(request: web.Request) -> web.StreamResponse:
            return await handler(parts(), request)

        return api_handler(run, ready=ready, kept=kept)

    def early(path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        app.router.add_get(PREFIX + path, api_handler(handler, ready=lambda: "", kept=path in KEPT))

    for path, methods, handler in ROUTES:
        for method in methods:
            app.router.add_route(method, PREFIX + path, bind(handler, kept=path in KEPT))
    for method in BOTH:
        app.router.add_route(method, "/federate", bind(federate))

    async def walreplay(_: web.Request) -> web.Response:
        return success(replay().answer())

    async def version(_: web.Request) -> web.Response:
        return web.json_response(status.version())

    async def description(_: web.Request) -> web.Response:
        return await openapi.answer(ROUTES, prefix=PREFIX)

    early("/status/walreplay", walreplay)
    early("/notifications", lambda _: notifications.current(notifications_))
    early("/notifications/live", lambda request: notifications.live(notifications_, request))
    early("/openapi.yaml", description)
    app.router.add_get("/version", version)

    async def unknown(request: web.Request) -> web.Response:
        return failure("not_found", f"there is no {request.path} here; docs/http-api.md lists what there is")

    app.router.add_get(PREFIX + "/{rest:.*}", unknown)
