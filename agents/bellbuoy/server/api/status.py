"""`status/*`: configuration, flags, build, runtime, and what the storage holds."""

import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

from aiohttp import web

import bellbuoy
from bellbuoy.durations import format_duration
from bellbuoy.server.api.answers import success
from bellbuoy.server.api.parameters import MAX_TIME_MS, MIN_TIME_MS, Parameters
from bellbuoy.server.api.times import rfc3339
from bellbuoy.server.parts import Parts

# Whose API this is: clients such as Grafana choose by it what they may ask.
API_VERSION = "3.16.0"
TOP_DEFAULT, TOP_LIMIT = 10, 10_000


async def config(parts: Parts, _: web.Request) -> web.Response:
    """The configuration in force, secrets hidden."""
    return success({"yaml": parts.config_yaml})


async def flags(parts: Parts, _: web.Request) -> web.Response:
    """The command line's flags."""
    return success(parts.options.flags)


async def build_info(_: Parts, __: web.Request) -> web.Response:
    """Versions: `version` is that of Prometheus's API, `bellbuoyVersion` ours."""
    return success(
        {
            "version": API_VERSION,
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
            "application": "bellbuoy",
            "bellbuoyVersion": bellbuoy.__version__,
            "pythonVersion": platform.python_version(),
        }
    )


async def runtime_info(parts: Parts, _: web.Request) -> web.Response:
    """The process. The fields named after Go's runtime are there for clients that read them."""
    retention = format_duration(parts.options.retention_seconds)
    if parts.options.retention_bytes:
        retention += f" or {parts.options.retention_bytes}B"
    return success(
        {
            "startTime": rfc3339(parts.started),
            "CWD": str(Path.cwd()),
            "hostname": socket.gethostname(),
            "serverTime": rfc3339(time.time()),
            "reloadConfigSuccess": parts.reload_successful,
            "lastConfigTime": rfc3339(parts.config_time),
            "corruptionCount": len(parts.storage.losses()),
            "goroutineCount": 0,
            "GOMAXPROCS": os.cpu_count() or 1,
            "GOMEMLIMIT": 0,
            "GOGC": "",
            "GODEBUG": "",
            "storageRetention": retention,
        }
    )


def _top(counts: dict[str, int], limit: int) -> list[dict[str, Any]]:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [{"name": name, "value": count} for name, count in rows]


async def tsdb(parts: Parts, request: web.Request) -> web.Response:
    """What the storage holds, and what of it is most."""
    parameters = await Parameters.of(request)
    limit = min(parameters.count("limit") or TOP_DEFAULT, TOP_LIMIT)

    def work() -> dict[str, Any]:
        storage = parts.storage
        stats = storage.stats()
        first, last = storage.time_range() or (0, 0)
        values = {
            name: len(storage.label_values(name, [], MIN_TIME_MS, MAX_TIME_MS))
            for name in storage.label_names([], MIN_TIME_MS, MAX_TIME_MS)
        }
        return {
            "headStats": {
                "numSeries": stats.get("series", 0),
                "numLabelPairs": sum(values.values()),
                "chunkCount": stats.get("chunks", 0),
                "minTime": first,
                "maxTime": last,
            },
            "seriesCountByMetricName": [
                {"name": name, "value": count} for name, count in storage.metrics_by_name(limit)
            ],
            "labelValueCountByLabelName": _top(values, limit),
            "memoryInBytesByLabelName": [],
            "seriesCountByLabelValuePair": [],
            "bellbuoy": stats,
        }

    return success(await parts.queries.run(request, lambda _: work()))
