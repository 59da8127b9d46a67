"""The HTTP API v1: Prometheus's paths and shapes, and a few of our own below `/api/v1/bellbuoy/`.

`add_api()` binds every handler to the server's parts and wraps it, so that whatever goes wrong comes in the envelope.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from bellbuoy.server.api import admin, backtest, nodes, queries, rules, scraping, series, status, targets
from bellbuoy.server.api.answers import api_handler, failure, success
from bellbuoy.server.parts import Parts, Replay

Handler = Callable[[Parts, web.Request], Awaitable[web.Response]]
GET, BOTH = ("GET",), ("GET", "POST")
ROUTES: tuple[tuple[str, tuple[str, ...], Handler], ...] = (
    ("/query", BOTH, queries.query),
    ("/query_range", BOTH, queries.query_range),
    ("/query_exemplars", BOTH, queries.query_exemplars),
    ("/format_query", BOTH, queries.format_query),
    ("/series", BOTH, series.series),
    ("/labels", BOTH, series.labels),
    ("/label/{name}/values", GET, series.label_values),
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
    ("/status/tsdb", GET, status.tsdb),
    ("/admin/tsdb/delete_series", ("POST", "PUT"), admin.delete_series),
    ("/admin/tsdb/clean_tombstones", ("POST", "PUT"), admin.clean_tombstones),
    ("/admin/tsdb/snapshot", ("POST", "PUT"), admin.snapshot),
    ("/bellbuoy/backtest", BOTH, backtest.backtest),
    ("/bellbuoy/nodes", GET, nodes.nodes),
)
PREFIX = "/api/v1"


def add_api(
    app: web.Application, *, parts: Callable[[], Parts], ready: Callable[[], str], replay: Callable[[], Replay]
) -> None:
    """Add all paths; `parts()` is asked once `ready()` gives no reason to wait, `replay()` at any time."""

    def bind(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def run(request: web.Request) -> web.StreamResponse:
            return await handler(parts(), request)

        return api_handler(run, ready=ready)

    for path, methods, handler in ROUTES:
        for method in methods:
            app.router.add_route(method, PREFIX + path, bind(handler))

    async def walreplay(_: web.Request) -> web.Response:
        return success(replay().answer())

    app.router.add_get(PREFIX + "/status/walreplay", walreplay)

    async def unknown(request: web.Request) -> web.Response:
        return failure("not_found", f"there is no {request.path} here; docs/http-api.md lists what there is")

    app.router.add_get(PREFIX + "/{rest:.*}", unknown)
