"""`query`, `query_range`, `query_exemplars` and `format_query`."""

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
from bellbuoy.server.api.answers import ApiError, bad_parameter, success
from bellbuoy.server.api.parameters import MAX_TIME_MS, MIN_TIME_MS, Parameters, truncated
from bellbuoy.server.parts import Parts

MAX_POINTS = 11_000


def _parsed(text: str) -> Any:
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


def _answer(parts: Parts, result: QueryResult, body: bytes, limit: int) -> web.Response:
    body = _checked(parts, body)
    warnings = list(result.warnings)
    if limit and len(result.labels) > limit and result.kind in ("vector", "matrix"):
        truncated(warnings)
    return success(body, warnings=warnings, infos=result.infos)


async def _run(
    parts: Parts,
    request: web.Request,
    parameters: Parameters,
    evaluate: Callable[[Callable[[], bool]], QueryResult],
) -> web.Response:
    limit = parameters.count("limit")

    def work(cancelled: Callable[[], bool]) -> tuple[QueryResult, bytes]:
        result = evaluate(cancelled)
        return result, (first(result, limit) if limit else result).to_json()

    result, body = await parts.queries.run(request, work, timeout_seconds=parameters.seconds("timeout"))
    return _answer(parts, result, body, limit)


async def query(parts: Parts, request: web.Request) -> web.Response:
    """An expression at one time."""
    parameters = await Parameters.of(request)
    parameters.count("limit")
    at = parameters.time_ms("time", round(time.time() * 1000))
    text = parameters.text("query")
    _parsed(text)
    return await _run(
        parts,
        request,
        parameters,
        lambda cancelled: parts.engine.instant(text, at, cancelled=cancelled),
    )


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
    _parsed(text)
    return await _run(
        parts,
        request,
        parameters,
        lambda cancelled: parts.engine.range(text, start, end, step_ms, cancelled=cancelled),
    )


def _seconds(time_ms: int) -> float:
    return time_ms // 1000 if time_ms % 1000 == 0 else time_ms / 1000


async def query_exemplars(parts: Parts, request: web.Request) -> web.Response:
    """Exemplars of the series that an expression's selectors match; ranges and offsets do not count."""
    parameters = await Parameters.of(request)
    start, end = parameters.time_ms("start", MIN_TIME_MS), parameters.time_ms("end", MAX_TIME_MS)
    if end < start:
        raise ApiError("bad_data", "end timestamp must not be before start timestamp")
    selectors = [one.all_matchers for one in promql.selectors(promql.parse(parameters.text("query")))]
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
    return success(promql.format_expr(_parsed(parameters.text("query"))))
