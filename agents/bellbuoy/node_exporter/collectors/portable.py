"""The essentials of a machine without /proc, such as a developer's Mac: what psutil can tell, under the same names.

Where a name is Linux's alone (`node_memory_MemAvailable_bytes`) it is kept, since rules and dashboards ask for it. All
that psutil does not know is left out. On Linux none of this runs: /proc says more, and for less.
"""

import os
import platform
import socket
from collections.abc import Callable

import psutil

from bellbuoy.exposition import COUNTER, GAUGE, Page, labels
from bellbuoy.node_exporter.collectors.filesystem import Workers
from bellbuoy.node_exporter.machine import Machine, NoData
from bellbuoy.node_exporter.options import Options


def cpu(_: Machine, __: Options) -> Callable[[Page], None]:
    """`node_cpu_seconds_total`, of the modes that this system tells apart."""
    modes = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

    def collect(page: Page) -> None:
        family = page.family("node_cpu_seconds_total", COUNTER, "Seconds the CPUs spent in each mode.")
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            for mode in modes:
                if (seconds := getattr(times, mode, None)) is not None:
                    family.add(seconds, f'{{cpu="{number}",mode="{mode}"}}')

    return collect


def stat(_: Machine, __: Options) -> Callable[[Page], None]:
    """When the machine was started."""

    def collect(page: Page) -> None:
        page.gauge("node_boot_time_seconds", "Node boot time, in unixtime.", int(psutil.boot_time()))

    return collect


def loadavg(_: Machine, __: Options) -> Callable[[Page], None]:
    """`node_load1`, `5`, `15`."""

    def collect(page: Page) -> None:
        for minutes, value in zip((1, 5, 15), psutil.getloadavg(), strict=True):
            page.gauge(f"node_load{minutes}", f"{minutes}m load average.", value)

    return collect


def meminfo(_: Machine, __: Options) -> Callable[[Page], None]:
    """Total, free and available memory, and swap."""

    def collect(page: Page) -> None:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        for field, value in (
            ("MemTotal", memory.total),
            ("MemFree", memory.free),
            ("MemAvailable", memory.available),
            ("SwapTotal", swap.total),
            ("SwapFree", swap.free),
        ):
            page.gauge(f"node_memory_{field}_bytes", f"Memory information field {field}_bytes.", value)

    return collect


def diskstats(_: Machine, options: Options) -> Callable[[Page], None]:
    """Operations, bytes and times of each disk."""
    fields = (
        ("reads_completed_total", "The total number of reads completed successfully.", "read_count", 1),
        ("read_bytes_total", "The total number of bytes read successfully.", "read_bytes", 1),
        ("read_time_seconds_total", "The total number of seconds spent by all reads.", "read_time", 1000),
        ("writes_completed_total", "The total number of writes completed successfully.", "write_count", 1),
        ("written_bytes_total", "The total number of bytes written successfully.", "write_bytes", 1),
        ("write_time_seconds_total", "This is the total number of seconds spent by all writes.", "write_time", 1000),
    )

    def collect(page: Page) -> None:
        for device, counters in (psutil.disk_io_counters(perdisk=True) or {}).items():
            if options.disks.keeps(device):
                for name, about, field, divisor in fields:
                    page.counter(f"node_disk_{name}", about, getattr(counters, field) / divisor, labels(device=device))

    return collect


def filesystem(_: Machine, options: Options) -> Callable[[Page], None]:
    """Sizes of file systems, asked for by the same workers, so that a dead mount holds nothing up."""
    workers = Workers(options.stat_workers, timeout_seconds=options.mount_timeout_seconds, statvfs=os.statvfs)

    def collect(page: Page) -> None:
        found = {
            part.mountpoint: part
            for part in psutil.disk_partitions(all=False)
            if options.mount_points.keeps(part.mountpoint) and options.fs_types.keeps(part.fstype)
        }
        for mount_point, answer in workers.ask(found).items():
            part = found[mount_point]
            text = labels(device=part.device, mountpoint=mount_point, fstype=part.fstype, device_error=answer.error)
            about = "Whether an error occurred while getting statistics for the given device."
            page.gauge("node_filesystem_device_error", about, int(answer.result is None), text)
            if answer.result is None:
                continue
            said = answer.result
            about = "Filesystem space available to non-root users in bytes."
            page.gauge("node_filesystem_avail_bytes", about, said.f_bavail * said.f_frsize, text)
            page.gauge(
                "node_filesystem_free_bytes", "Filesystem free space in bytes.", said.f_bfree * said.f_frsize, text
            )
            page.gauge("node_filesystem_size_bytes", "Filesystem size in bytes.", said.f_blocks * said.f_frsize, text)
            readonly = int("ro" in part.opts.split(","))
            page.gauge("node_filesystem_readonly", "Filesystem read-only status.", readonly, text)

    return collect


def netdev(_: Machine, options: Options) -> Callable[[Page], None]:
    """Traffic, errors and drops of each network device."""
    fields = (
        ("receive_bytes", "bytes_recv"), ("receive_packets", "packets_recv"), ("receive_errs", "errin"),
        ("receive_drop", "dropin"), ("transmit_bytes", "bytes_sent"), ("transmit_packets", "packets_sent"),
        ("transmit_errs", "errout"), ("transmit_drop", "dropout"),
    )  # fmt: skip

    def collect(page: Page) -> None:
        for device, counters in psutil.net_io_counters(pernic=True).items():
            if options.netdev_devices.keeps(device):
                for name, field in fields:
                    about = f"Network device statistic {name}."
                    page.counter(f"node_network_{name}_total", about, getattr(counters, field), labels(device=device))

    return collect


def netclass(_: Machine, __: Options) -> Callable[[Page], None]:
    """Whether each network device is up, its MTU and its speed."""

    def collect(page: Page) -> None:
        up = page.family("node_network_up", GAUGE, "Value is 1 if operstate is 'up', 0 otherwise.")
        mtu = page.family("node_network_mtu_bytes", GAUGE, "Network device property: mtu_bytes")
        speed = page.family("node_network_speed_bytes", GAUGE, "Network device property: speed_bytes")
        for device, said in psutil.net_if_stats().items():
            up.add(int(said.isup), labels(device=device))
            mtu.add(said.mtu, labels(device=device))
            if said.speed:
                speed.add(said.speed * 1_000_000 // 8, labels(device=device))

    return collect


def uname(_: Machine, options: Options) -> Callable[[Page], None]:
    """`node_uname_info`."""

    def collect(page: Page) -> None:
        said = platform.uname()
        page.info(
            "node_uname_info",
            "Labeled system information as provided by the uname system call.",
            {
                "sysname": said.system,
                "release": said.release,
                "version": said.version,
                "machine": said.machine,
                "nodename": options.node_name or said.node or socket.gethostname(),
                "domainname": "(none)",
            },
        )

    return collect


def missing(machine: Machine, _: Options) -> Callable[[Page], None]:
    """A collector that this system has nothing for."""

    def collect(_: Page) -> None:
        raise NoData(f"{machine.procfs} is not there: this is no Linux")

    return collect
