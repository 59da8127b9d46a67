"""`bellbuoy/nodes`: every machine with a node exporter, and the figures that its page shows, by PromQL.

One query a figure over all machines at once; a figure that a machine does not have is null.
"""

import math
import time
from typing import Any

import numpy as np
from aiohttp import web

from bellbuoy.promql import Engine
from bellbuoy.server.api.answers import success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts
from bellbuoy.server.query_cost import Cost, Source

_NET = 'device!~"lo|veth.*|cni.*|flannel.*|docker.*|br-.*"'
_FS = 'fstype!~"tmpfs|ramfs|overlay|squashfs|iso9660|fuse.*|nsfs|proc|sysfs"'
FIGURES = {
    "cpuPercent": '100 * (1 - avg by (job, instance) (rate(node_cpu_seconds_total{mode="idle"}[2m])))',
    "cores": 'count by (job, instance) (node_cpu_seconds_total{mode="idle"})',
    "memoryTotalBytes": "max by (job, instance) (node_memory_MemTotal_bytes)",
    "memoryUsedBytes": "max by (job, instance) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)",
    "load1": "max by (job, instance) (node_load1)",
    "load5": "max by (job, instance) (node_load5)",
    "load15": "max by (job, instance) (node_load15)",
    "filesystemSizeBytes": "sum by (job, instance) (max by (job, instance, device) "
    f"(node_filesystem_size_bytes{{{_FS}}}))",
    "filesystemUsedBytes": "sum by (job, instance) (max by (job, instance, device) "
    f"(node_filesystem_size_bytes{{{_FS}}} - node_filesystem_avail_bytes{{{_FS}}}))",
    "networkReceiveBytesPerSecond": f"sum by (job, instance) (rate(node_network_receive_bytes_total{{{_NET}}}[2m]))",
    "networkTransmitBytesPerSecond": f"sum by (job, instance) (rate(node_network_transmit_bytes_total{{{_NET}}}[2m]))",
    "uptimeSeconds": "max by (job, instance) (time() - node_boot_time_seconds)",
}
_NAMES = "max by (job, instance, nodename, node, release) (node_uname_info)"
_UP = (
    "max by (job, instance) (up) and on (job, instance) count by (job, instance) (last_over_time(node_uname_info[1h]))"
)


def _rows(engine: Engine, query: str, at: int) -> list[tuple[dict[str, str], float]]:
    result = engine.instant(query, at)
    values = np.asarray(result.values, dtype=np.float64).reshape(-1)
    return list(zip(result.labels.to_dicts(), values.tolist(), strict=True))


def read_nodes(engine: Engine, at: int) -> list[dict[str, Any]]:
    """All machines, sorted by name."""
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for labels, up in _rows(engine, _UP, at):
        key = labels.get("job", ""), labels.get("instance", "")
        nodes[key] = {
            "name": key[1], "job": key[0], "instance": key[1], "kernel": "", "up": up == 1, **dict.fromkeys(FIGURES),
        }  # fmt: skip
    for labels, _ in _rows(engine, _NAMES, at):
        if (node := nodes.get((labels.get("job", ""), labels.get("instance", "")))) is not None:
            node["name"] = labels.get("node") or labels.get("nodename") or node["instance"]
            node["kernel"] = labels.get("release", "")
    for figure, query in FIGURES.items():
        for labels, value in _rows(engine, query, at):
            node = nodes.get((labels.get("job", ""), labels.get("instance", "")))
            if node is not None and math.isfinite(value):
                node[figure] = value
    return sorted(nodes.values(), key=lambda node: (node["name"], node["instance"]))


async def nodes(parts: Parts, request: web.Request) -> web.Response:
    """Machines and their figures now."""
    at = round(time.time() * 1000)
    filters = (await Parameters.of(request)).filters()
    engine = parts.engine.asking(Source(parts.storage, filters=filters, cost=Cost()))
    return success({"nodes": await parts.queries.run(request, lambda _: read_nodes(engine, at))})
