"""`status/*`: configuration, flags, build and runtime; what the storage holds is in `cardinality`."""

import os
import platform
import socket
import time
from pathlib import Path

from aiohttp import web

import bellbuoy
from bellbuoy.durations import format_duration
from bellbuoy.server.api.answers import success
from bellbuoy.server.api.times import rfc3339
from bellbuoy.server.parts import Parts

# Whose API this is: clients such as Grafana choose by it what they may ask.
API_VERSION = "3.16.0"


async def config(parts: Parts, _: web.Request) -> web.Response:
    """The configuration in force, secrets hidden."""
    return success({"yaml": parts.config_yaml})


async def flags(parts: Parts, _: web.Request) -> web.Response:
    """The command line's flags."""
    return success(parts.options.flags)


async def build_info(_: Parts, __: web.Request) -> web.Response:
    """Versions: `version` is that of Prometheus's API, `bellbuoyVersion` ours."""
    return success(version())


def version() -> dict[str, str]:
    """What `/version` and `status/buildinfo` say."""
    return {
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
