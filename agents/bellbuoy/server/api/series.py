"""`series`, `labels` and `label/NAME/values`: what is stored, without samples."""

from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from bellbuoy.server.api.answers import ApiError, bad_parameter, success
from bellbuoy.server.api.parameters import TRUNCATED, Parameters
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import restricted

T = TypeVar("T")


async def _ask(parts: Parts, request: web.Request, work: Callable[[], list[T]], limit: int) -> web.Response:
    found = await parts.queries.run(request, lambda _: work())
    warnings: list[str] = []
    if limit and len(found) > limit:
        found = found[:limit]
        warnings.append(TRUNCATED)
    return success(found, warnings=warnings)


async def series(parts: Parts, request: web.Request) -> web.Response:
    """Label sets that match any of the selectors."""
    parameters = await Parameters.of(request)
    limit = parameters.count("limit")
    start, end = parameters.time_range()
    selectors = parameters.selectors(named=True)
    if not selectors:
        raise ApiError("bad_data", "no match[] parameter provided")
    selectors = restricted(selectors, parameters.filters())

    def work() -> list[dict[str, str]]:
        found = parts.storage.series(selectors, start, end)
        return [found[i] for i in range(limit + 1)] if 0 < limit < len(found) else found.to_dicts()

    return await _ask(parts, request, work, limit)


async def labels(parts: Parts, request: web.Request) -> web.Response:
    """Names of labels."""
    parameters = await Parameters.of(request)
    limit = parameters.count("limit")
    start, end = parameters.time_range()
    selectors = restricted(parameters.selectors(), parameters.filters())
    return await _ask(parts, request, lambda: parts.storage.label_names(selectors, start, end), limit)


async def label_values(parts: Parts, request: web.Request) -> web.Response:
    """Values of one label; a name in the escaped form `U__…` is taken as well."""
    parameters = await Parameters.of(request)
    name = unescape(request.match_info["name"])
    if not name:
        raise bad_parameter("name", "a label's name is needed")
    limit = parameters.count("limit")
    start, end = parameters.time_range()
    selectors = restricted(parameters.selectors(), parameters.filters())
    return await _ask(parts, request, lambda: parts.storage.label_values(name, selectors, start, end), limit)


def unescape(name: str) -> str:
    """`U__http_2e_status` as `http.status`; what is not in that form stays."""
    if not name.startswith("U__"):
        return name
    out, rest = "", name[3:]
    while rest:
        if rest.startswith("__"):
            out, rest = out + "_", rest[2:]
            continue
        if rest[0] != "_":
            out, rest = out + rest[0], rest[1:]
            continue
        code, end, after = rest[1:].partition("_")
        if not end or len(code) > 6 or any(c not in "0123456789abcdefABCDEF" for c in code) or not code:
            return name
        if int(code, 16) > 0x10FFFF:
            return name
        out, rest = out + chr(int(code, 16)), after
    return out
