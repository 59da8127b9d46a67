"""`search/metric_names`, `search/label_names`, `search/label_values`: what a person may mean, while they type.

Prometheus's experimental paths, with its parameters and its answer: lines of JSON, batches of results and then a line
that says how it ended. The last hour is searched unless the request says otherwise.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from bellbuoy.server.api.answers import ApiError
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.api.search_scores import scorer
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import restricted

HOUR_MS = 3600 * 1000
DEFAULT_LIMIT = DEFAULT_BATCH = 100
MOST_BATCH, MOST_TERMS, MOST_RESULTS = 1000, 32, 10_000
ALGORITHMS = ("subsequence", "jarowinkler")
_SUFFIXES = {
    "_total": ("counter",), "_bucket": ("histogram", "gaugehistogram"), "_info": ("info",),
    "_sum": ("histogram", "gaugehistogram", "summary"), "_count": ("histogram", "gaugehistogram", "summary"),
    "_gsum": ("gaugehistogram",), "_gcount": ("gaugehistogram",),
}  # fmt: skip
Found = list[tuple[str, float]]


def _bad(text: str) -> ApiError:
    return ApiError("bad_data", text)


@dataclass(frozen=True)
class Search:
    """A request's parameters."""

    terms: list[str]
    threshold: float
    algorithm: str
    case_sensitive: bool
    include_score: bool
    order: str
    descending: bool
    start: int
    end: int
    limit: int
    batch: int
    selectors: list[Any]

    @classmethod
    def of(cls, parameters: Parameters, *, endpoint: str) -> "Search":
        """Raises ApiError for what cannot be used, in Prometheus's words."""
        now = round(time.time() * 1000)
        start, end = parameters.time_ms("start", now - HOUR_MS), parameters.time_ms("end", now)
        if end < start:
            raise _bad("end timestamp must not be before start timestamp")
        terms = parameters.all("search[]")
        if len(terms) > MOST_TERMS:
            raise _bad(f"too many search[] terms: got {len(terms)}, maximum is {MOST_TERMS}")
        threshold = parameters.text("fuzz_threshold") or "0"
        if not threshold.isdecimal() or int(threshold) > 100:
            raise _bad(f'invalid fuzz_threshold "{threshold}": must be 0-100')
        algorithm = parameters.text("fuzz_alg") or ALGORITHMS[0]
        if algorithm not in ALGORITHMS:
            raise _bad(f'unsupported fuzz_alg "{algorithm}": must be one of [{" ".join(ALGORITHMS)}]')
        order, direction = parameters.text("sort_by"), parameters.text("sort_dir")
        if direction and not order:
            raise _bad("sort_dir is only valid when sort_by is set")
        if direction and order == "score":
            raise _bad("sort_dir is not supported for sort_by=score")
        if direction not in ("", "asc", "dsc"):
            raise _bad(f'invalid sort_dir "{direction}": must be "asc" or "dsc"')
        if order == "score" and not terms:
            raise _bad("sort_by=score requires search[] to be set")
        if order not in ("", "alpha", "score"):
            raise _bad(f'invalid sort_by "{order}" for {endpoint}: must be "alpha" or "score"')
        limit = _positive(parameters, "limit", DEFAULT_LIMIT)
        if limit > MOST_RESULTS:
            raise _bad(f"limit {limit} exceeds the maximum of {MOST_RESULTS}")
        return cls(
            terms=terms,
            threshold=int(threshold) / 100,
            algorithm=algorithm,
            case_sensitive=_flag(parameters, "case_sensitive", default=True),
            include_score=_flag(parameters, "include_score", default=False),
            order=order,
            descending=direction == "dsc",
            start=start,
            end=end,
            limit=limit,
            batch=min(_positive(parameters, "batch_size", DEFAULT_BATCH), limit, MOST_BATCH),
            selectors=restricted(parameters.selectors(), parameters.filters()),
        )

    def choose(self, texts: list[str], cancelled: Callable[[], bool]) -> Found:
        """Those of the texts that match, in order, one more than the limit at most."""
        score = scorer(
            self.terms, algorithm=self.algorithm, threshold=self.threshold, case_sensitive=self.case_sensitive
        )
        found: Found = []
        for at, text in enumerate(texts):
            if at % 1000 == 0 and cancelled():
                break
            its = 1.0 if score is None else score(text)
            if its > 0:
                found.append((text, its))
        if self.order == "score":
            found.sort(key=lambda one: (-one[1], one[0]))
        else:
            found.sort(reverse=self.descending)
        return found[: self.limit + 1]


def _positive(parameters: Parameters, name: str, default: int) -> int:
    text = parameters.text(name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise _bad(f'invalid {name} "{text}": must be a positive integer')
    return int(text)


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    text = parameters.text(name)
    if not text:
        return default
    if text not in ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"):
        raise _bad(f'invalid {name} "{text}": must be boolean')
    return text[0] in "1tT"


async def _answer(
    parts: Parts,
    request: web.Request,
    search: Search,
    texts: Callable[[], list[str]],
    *,
    key: str,
    more: Callable[[str], dict[str, str]] = lambda _: {},
) -> web.Response:
    found = await parts.queries.run(request, lambda cancelled: search.choose(texts(), cancelled))
    rows = [
        {key: text, **({"score": score} if search.include_score else {}), **more(text)}
        for text, score in found[: search.limit]
    ]
    lines: list[dict[str, Any]] = [
        {"results": rows[at : at + search.batch]} for at in range(0, len(rows), search.batch)
    ] or [{"results": []}]
    lines.append({"status": "success", "has_more": len(found) > search.limit})
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    return web.Response(body=body, headers={"Content-Type": "application/x-ndjson; charset=utf-8"})


def _metadata(parts: Parts) -> Callable[[str], dict[str, str]]:
    """Type, help and unit of a metric's name, by its family's where the type allows the name's ending."""
    families: dict[str, list[tuple[str, str, str]]] = {}
    for _, _, name, kind, text, unit in parts.scrape.metadata():
        families.setdefault(name, []).append((kind, text, unit))

    def find(name: str) -> dict[str, str]:
        found = families.get(name)
        if found is None:
            base, _, ending = name.rpartition("_")
            suffix = f"_{ending}"
            if suffix in ("_total", "_info") and base.endswith(suffix):
                return {}
            found = [one for one in families.get(base, []) if one[0] in _SUFFIXES.get(suffix, ())]
        if not found:
            return {}
        kind, text, unit = found[0]
        return {key: value for key, value in (("type", kind), ("help", text), ("unit", unit)) if value}

    return find


async def metric_names(parts: Parts, request: web.Request) -> web.Response:
    """Names of metrics."""
    parameters = await Parameters.of(request)
    search = Search.of(parameters, endpoint="metric_names")
    more = _metadata(parts) if _flag(parameters, "include_metadata", default=False) else lambda _: {}

    def texts() -> list[str]:
        return parts.storage.label_values("__name__", search.selectors, search.start, search.end)

    return await _answer(parts, request, search, texts, key="name", more=more)


async def label_names(parts: Parts, request: web.Request) -> web.Response:
    """Names of labels."""
    parameters = await Parameters.of(request)
    search = Search.of(parameters, endpoint="label_names")

    def texts() -> list[str]:
        return parts.storage.label_names(search.selectors, search.start, search.end)

    return await _answer(parts, request, search, texts, key="name")


async def label_values(parts: Parts, request: web.Request) -> web.Response:
    """Values of the label `label`."""
    parameters = await Parameters.of(request)
    search = Search.of(parameters, endpoint="label_values")
    label = parameters.text("label")
    if not label:
        raise _bad('missing required parameter "label"')

    def texts() -> list[str]:
        return parts.storage.label_values(label, search.selectors, search.start, search.end)

    return await _answer(parts, request, search, texts, key="value")
