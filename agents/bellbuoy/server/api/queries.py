"""`query`, `query_range`, `query_exemplars`, `format_query`, `parse_query`, and what queries cost."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from aiohttp import web

from bellbuoy import promql
from bellbuoy.exposition import go_json
from bellbuoy.promql import QueryResult
from bellbuoy.server.api import arrow
from bellbuoy.server.api.answers import ApiError, bad_parameter, success
from bellbuoy.server.api.parameters import MAX_TIME_MS, MIN_TIME_MS, TRUNCATED, Parameters
from bellbuoy.server.api.query_stats import query_stats
from bellbuoy.server.api.syntax import syntax
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import Source, restricted
from bellbuoy.server.query_ledger import ORDERS, Asked

MAX_POINTS = 11_000
MOST_KINDS_SHOWN = 20


def _parsed(text: str) -> promql.Expr:
    try:
        return promql.parse(text)
    except promql.QueryError as e:
        raise bad_parameter("query", e) from e


def first(result: QueryResult, limit: int) -> QueryResult:
    """The result's first series, so many."""
    if result.kind not in ("vector", "matrix") or len(result.labels) <= limit:
        return result
    labels = result.labels.take(np.arange(limit, dtype=np.int64))
    if result.offsets is not None and result.timestamps is not None:
        end = int(result.offsets[limit])
        return replace(
            result,
            labels=labels,
            offsets=np.ascontiguousarray(result.offsets[: limit + 1]),
            timestamps=np.ascontiguousarray(result.timestamps[:end]),
            values=np.ascontiguousarray(result.values[:end]),
        )
    return replace(
        result,
        labels=labels,
        values=np.ascontiguousarray(result.values[:limit]),
        present=np.ascontiguousarray(result.present[:limit]),
    )


def _checked(parts: Parts, body: bytes) -> bytes:
    most = parts.options.query.max_result_bytes
    if len(body) > most:
        raise ApiError(
            "execution",
            f"the result has {len(body)} bytes, over --query.max-result-size of {most}; "
            "aggregate, or ask for a shorter time",
        )
    return body


def _lookback(parameters: Parameters) -> float | None:
    try:
        seconds = parameters.seconds("lookback_delta")
    except ApiError as e:
        reason = str(e).partition(": ")[2]
        raise ApiError("bad_data", f"error parsing lookback delta duration: {reason}") from e
    # As there: nothing, and less than nothing, is the server's own.
    return seconds if seconds is not None and seconds > 0 else None


async def _run(
    parts: Parts,
    request: web.Request,
    parameters: Parameters,
    asked: Asked,
    evaluate: Callable[[promql.Engine, Callable[[], bool]], QueryResult],
) -> web.Response:
    """Run the query as its other parameters have it, and answer in the form that the client takes."""
    limit, stats, explain = parameters.count("limit"), parameters.text("stats"), parameters.flag("explain")
    columns = arrow.wanted(request)
    if columns:
        arrow.check()
    recorder = promql.Recorder() if stats or explain else None
    source = Source(parts.storage, filters=parameters.filters(), cost=asked.cost, recorder=recorder)
    engine = parts.engine.asking(source, lookback_seconds=_lookback(parameters), recorder=recorder)

    def work(cancelled: Callable[[], bool]) -> tuple[QueryResult, bytes]:
        start = time.perf_counter()
        try:
            result = evaluate(engine, cancelled)
        finally:
            asked.cost.evaluate_seconds = time.perf_counter() - start
        shown = first(result, limit) if limit else result
        if shown is not result:
            shown = replace(shown, warnings=[*shown.warnings, TRUNCATED])
        body = arrow.to_arrow(shown) if columns else shown.to_json()
        asked.cost.holds(result.values.nbytes + len(body))
        return shown, body

    timeout = parameters.seconds("timeout")
    with parts.ledger.running(asked):
        result, body = await parts.queries.run(request, work, timeout_seconds=timeout, cost=asked.cost)
        if recorder is not None:
            asked.stats = query_stats(recorder, asked, steps=stats == "all")
    body = _checked(parts, body)
    if columns:
        return web.Response(body=body, content_type=arrow.CONTENT_TYPE, headers={"Cache-Control": "no-store"})
    if stats and asked.stats is not None:
        body = _with(body, "stats", asked.stats)
    if explain and recorder is not None:
        body = _with(body, "explain", recorder.to_dict())
    return success(body, warnings=result.warnings, infos=result.infos)


def _with(body: bytes, key: str, value: Any) -> bytes:
    """The JSON object with one more key."""
    return b"".join((body[:-1], b',"', key.encode(), b'":', orjson.dumps(value), b"}"))


async def query(parts: Parts, request: web.Request) -> web.Response:
    """An expression at one time."""
    parameters = await Parameters.of(request)
    parameters.count("limit")
    at = parameters.time_ms("time", round(time.time() * 1000))
    text = parameters.text("query")
    asked = Asked.of(request, text, start_ms=at, end_ms=at)
    expr = _prepare(asked, text)
    return await _run(
        parts,
        request,
        parameters,
        asked,
        lambda engine, cancelled: engine.instant(text, at, cancelled=cancelled, expr=expr),
    )


def _prepare(asked: Asked, text: str) -> promql.Expr:
    start = time.perf_counter()
    expr = _parsed(text)
    asked.cost.prepare_seconds = time.perf_counter() - start
    return expr


async def query_range(parts: Parts, request: web.Request) -> web.Response:
    """An expression over a range, at each step."""
    parameters = await Parameters.of(request)
    parameters.count("limit")
    start, end = parameters.time_ms("start"), parameters.time_ms("end")
    if end < start:
        raise bad_parameter("end", "end timestamp must not be before start time")
    step = parameters.seconds("step")
    if step is None:
        raise bad_parameter("step", 'cannot parse "" to a valid duration')
    step_ms = round(step * 1000)
    if step_ms <= 0:
        raise bad_parameter(
            "step", "zero or negative query resolution step widths are not accepted. Try a positive integer"
        )
    if (end - start) // step_ms > MAX_POINTS:
        raise ApiError(
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. "
            "Try decreasing the query resolution (?step=XX)",
        )
    text = parameters.text("query")
    asked = Asked.of(request, text, start_ms=start, end_ms=end, step_ms=step_ms)
    expr = _prepare(asked, text)
    return await _run(
        parts,
        request,
        parameters,
        asked,
        lambda engine, cancelled: engine.range(text, start, end, step_ms, cancelled=cancelled, expr=expr),
    )


def _seconds(time_ms: int) -> float:
    return time_ms // 1000 if time_ms % 1000 == 0 else time_ms / 1000


async def query_exemplars(parts: Parts, request: web.Request) -> web.Response:
    """Exemplars of the series that an expression's selectors match; ranges and offsets do not count."""
    parameters = await Parameters.of(request)
    start, end = parameters.time_ms("start", MIN_TIME_MS), parameters.time_ms("end", MAX_TIME_MS)
    if end < start:
        raise ApiError("bad_data", "end timestamp must not be before start timestamp")
    found = promql.selectors(promql.parse(parameters.text("query")))
    selectors = restricted([one.all_matchers for one in found], parameters.filters()) if found else []
    if not selectors:
        # As there: nothing was asked for, so there is no answer, and no empty one either.
        return web.Response(status=204)

    def work() -> bytes:
        return orjson.dumps(
            [
                {
                    "seriesLabels": series,
                    "exemplars": [
                        {"labels": labels, "value": go_json(value), "timestamp": _seconds(time_ms)}
                        for labels, value, time_ms in exemplars
                    ],
                }
                for series, exemplars in parts.storage.exemplars(selectors, start, end)
            ]
        )

    return success(_checked(parts, await parts.queries.run(request, lambda _: work())))


async def format_query(_: Parts, request: web.Request) -> web.Response:
    """The expression as the printer writes it."""
    parameters = await Parameters.of(request)
    return success(promql.format_expr(_parsed(parameters.text("query")), pretty=True))


async def parse_query(_: Parts, request: web.Request) -> web.Response:
    """The expression's syntax tree."""
    parameters = await Parameters.of(request)
    return success(syntax(_parsed(parameters.text("query"))))


async def costs(parts: Parts, request: web.Request) -> web.Response:
    """Queries that run now, and the kinds of queries that cost most since the start."""
    parameters = await Parameters.of(request)
    order = parameters.text("order") or "cpu"
    if order not in ORDERS:
        raise bad_parameter("order", f'"{order}" is none of {", ".join(ORDERS)}')
    limit = parameters.count("limit") or MOST_KINDS_SHOWN
    return success({"active": parts.ledger.active(), "top": parts.ledger.top(order=order, limit=limit)})
