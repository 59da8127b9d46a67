"""What is read from the machine: one collector for each word in `--collector.X`.

A collector is made once, from the machine and the options, and called once a scrape to fill the page. It raises
`NoData` where the machine does not have what it reads, and whatever goes wrong otherwise: the scrape counts that, and
goes on.
"""

import logging
import os
from collections.abc import Callable

from bellbuoy.exposition import Page
from bellbuoy.logs import fields
from bellbuoy.node_exporter.collectors.cpu import cpu, stat
from bellbuoy.node_exporter.collectors.disk import diskstats
from bellbuoy.node_exporter.collectors.filesystem import Filesystems
from bellbuoy.node_exporter.collectors.interfaces import arp, netclass, netdev
from bellbuoy.node_exporter.collectors.memory import meminfo, vmstat
from bellbuoy.node_exporter.collectors.protocols import conntrack, netstat, sockstat, softnet, udp_queues
from bellbuoy.node_exporter.collectors.system import (
    entropy,
    filefd,
    kernel_hung,
    loadavg,
    os_release,
    pressure,
    thermal_zone,
    uname,
)
from bellbuoy.node_exporter.collectors.textfile import textfile
from bellbuoy.node_exporter.collectors.time import time_collector, timex
from bellbuoy.node_exporter.machine import Machine
from bellbuoy.node_exporter.options import Options

log = logging.getLogger(__name__)
Collector = Callable[[Page], None]
Factory = Callable[[Machine, Options], Collector]

FACTORIES: dict[str, Factory] = {
    "arp": arp,
    "conntrack": conntrack,
    "cpu": cpu,
    "diskstats": diskstats,
    "entropy": entropy,
    "filefd": filefd,
    "filesystem": Filesystems,
    "kernel_hung": kernel_hung,
    "loadavg": loadavg,
    "meminfo": meminfo,
    "netclass": netclass,
    "netdev": netdev,
    "netstat": netstat,
    "os": os_release,
    "pressure": pressure,
    "sockstat": sockstat,
    "softnet": softnet,
    "stat": stat,
    "textfile": textfile,
    "thermal_zone": thermal_zone,
    "time": time_collector,
    "timex": timex,
    "udp_queues": udp_queues,
    "uname": uname,
    "vmstat": vmstat,
}


def factories(machine: Machine) -> dict[str, Factory]:
    """What makes the collectors for this machine, by name."""
    if os.path.exists(f"{machine.procfs}/stat"):
        return FACTORIES
    # Imported only here: psutil takes memory that a node's exporter has no use for.
    from bellbuoy.node_exporter.collectors import portable

    log.warning("no /proc here, only the essentials are told", extra=fields(procfs=machine.procfs))
    essentials: dict[str, Factory] = {
        "cpu": portable.cpu,
        "diskstats": portable.diskstats,
        "filesystem": portable.filesystem,
        "loadavg": portable.loadavg,
        "meminfo": portable.meminfo,
        "netclass": portable.netclass,
        "netdev": portable.netdev,
        "stat": portable.stat,
        "textfile": textfile,
        "time": time_collector,
        "uname": portable.uname,
    }
    return {**dict.fromkeys(FACTORIES, portable.missing), **essentials}


__all__ = ["FACTORIES", "Collector", "Factory", "factories"]
