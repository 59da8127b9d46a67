"""`status/tsdb` and `status/tsdb/blocks`: what the storage holds, and what of it is most.

Cardinality is counted over the series of the last two hours, as Prometheus counts those of its head: that is what grows
when a label gets out of hand. The labels of each are grouped in the core, one label at a time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from aiohttp import web

from bellbuoy.promql import QueryCanceled
from bellbuoy.server.api.answers import ApiError, success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import restricted
from bellbuoy.tsdb import LabelSets

TOP_DEFAULT, TOP_LIMIT = 10, 10_000
HEAD_MS = 2 * 3600 * 1000
# Between 0 and 2**48, as ULIDs have times.
_ULID_TIME_END = 1 << 48
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _top(counts: dict[str, int], limit: int) -> list[dict[str, Any]]:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [{"name": name, "value": count} for name, count in rows]


def cardinality(sets: LabelSets, names: list[str], limit: int, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """The four lists of these series, each with its largest entries."""
    metrics: dict[str, int] = {}
    values: dict[str, int] = {}
    memory: dict[str, int] = {}
    pairs: dict[str, int] = {}
    for name in names:
        if cancelled():
            raise QueryCanceled("query was canceled in query execution")
        groups, firsts = sets.keep([name]).group()
        counts = np.bincount(groups, minlength=len(firsts)).tolist()
        found = sets.take(firsts).get(name)
        having = {value: count for value, count in zip(found, counts, strict=True) if value}
        if not having:
            continue
        values[name] = len(having)
        # As Prometheus reckons: name and value, and a byte for the length of each, in every series.
        memory[name] = sum((len(name.encode()) + len(value.encode()) + 2) * n for value, n in having.items())
        most = sorted(having.items(), key=lambda item: (-item[1], item[0]))[:limit]
        pairs |= {f"{name}={value}": count for value, count in most}
        if name == "__name__":
            metrics = dict(most)
    return {
        "seriesCountByMetricName": _top(metrics, limit),
        "labelValueCountByLabelName": _top(values, limit),
        "memoryInBytesByLabelName": _top(memory, limit),
        "seriesCountByLabelValuePair": _top(pairs, limit),
        "numLabelPairs": sum(values.values()),
    }


async def tsdb(parts: Parts, request: web.Request) -> web.Response:
    """What the storage holds, and what of it is most."""
    parameters = await Parameters.of(request)
    text = parameters.text("limit")
    if text and not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ApiError("bad_data", "limit must be a positive number")
    limit = int(text or TOP_DEFAULT)
    if limit > TOP_LIMIT:
        raise ApiError("bad_data", f"limit must not exceed {TOP_LIMIT}")
    filters = parameters.filters()

    def work(cancelled: Callable[[], bool]) -> dict[str, Any]:
        storage = parts.storage
        stats = storage.stats()
        first, last = storage.time_range() or (0, 0)
        since = last - HEAD_MS
        selectors = restricted([(("__name__", "!=", ""),)], filters)
        sets = storage.series(selectors, since, last)
        names = storage.label_names(selectors, since, last)
        found = cardinality(sets, names, limit, cancelled)
        head = {
            "numSeries": len(sets),
            "numLabelPairs": found.pop("numLabelPairs"),
            "chunkCount": stats.get("chunks", 0),
            "minTime": max(first, since),
            "maxTime": last,
        }
        return {"headStats": head, **found, "bellbuoy": stats}

    return success(await parts.queries.run(request, work))


def ulid(time_ms: int, number: int) -> str:
    """A name in the form of Prometheus's blocks: when it begins, and its number."""
    whole = (min(max(time_ms, 0), _ULID_TIME_END - 1) << 80) | number
    return "".join(_CROCKFORD[whole >> shift & 31] for shift in range(125, -1, -5))


async def blocks(parts: Parts, _: web.Request) -> web.Response:
    """Each block, with the fields of Prometheus's meta.json."""
    out = []
    for block in sorted(parts.storage.blocks(), key=lambda one: (one["first"], one["number"])):
        name, sources = ulid(block["first"], block["number"]), list(block["sources"])
        out.append(
            {
                "ulid": name,
                "minTime": block["first"],
                # As there: the end is not part of it.
                "maxTime": block["last"] + 1,
                "stats": {"numSamples": block["samples"]},
                "compaction": {
                    "level": 2 if sources else 1,
                    "sources": [ulid(block["first"], one) for one in sources] or [name],
                },
                "version": 1,
            }
        )
    return success({"blocks": out})
