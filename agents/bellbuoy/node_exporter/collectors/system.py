"""The machine as a whole: load, pressure, names and versions, file descriptors, entropy, temperatures."""

import errno
import glob
import os
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime

from bellbuoy.exposition import COUNTER, Page, labels
from bellbuoy.node_exporter.machine import Machine, NoData, read, read_attribute
from bellbuoy.node_exporter.options import Options


def loadavg(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_load1`, `5`, `15`."""

    def collect(page: Page) -> None:
        for minutes, text in zip((1, 5, 15), machine.proc("loadavg").split(), strict=False):
            page.gauge(f"node_load{minutes}", f"{minutes}m load average.", float(text))

    return collect


# Resource, the kernel's line, and the metric. "some" is one task that waits, "full" is all of them.
PRESSURE = (
    ("cpu", "some", "cpu_waiting", "Total time in seconds that processes have waited for CPU time"),
    ("io", "some", "io_waiting", "Total time in seconds that processes have waited due to IO congestion"),
    ("io", "full", "io_stalled", "Total time in seconds no process could make progress due to IO congestion"),
    ("memory", "some", "memory_waiting", "Total time in seconds that processes have waited for memory"),
    (
        "memory",
        "full",
        "memory_stalled",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    ("irq", "full", "irq_stalled", "Total time in seconds no process could make progress due to IRQ congestion"),
)


def pressure(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_pressure_*`: how long work stood still for want of a resource."""

    def totals(resource: str) -> dict[str, int]:
        try:
            lines = machine.proc(f"pressure/{resource}").split("\n")
        except OSError as e:
            # Without CONFIG_PSI there is no file, with psi=0 reading it is not supported.
            if e.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return {}
            raise
        return {line.split(" ")[0]: int(line.rpartition("total=")[2]) for line in lines if "total=" in line}

    def collect(page: Page) -> None:
        found = {resource: totals(resource) for resource in ("cpu", "io", "memory", "irq")}
        if not any(found.values()):
            raise NoData(
                "the kernel tells no pressure: it is older than 4.20, built without CONFIG_PSI, or runs with psi=0"
            )
        for resource, line, name, about in PRESSURE:
            if line in found[resource]:
                microseconds = found[resource][line]
                page.counter(f"node_pressure_{name}_seconds_total", about, microseconds / 1_000_000)

    return collect


def uname(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_uname_info`. The system call names the container; the host's name is in its own /etc/hostname."""

    def node_name(own: str) -> str:
        if options.node_name:
            return options.node_name
        if machine.rootfs != "/" and (text := read_attribute(machine.root("/etc/hostname"))):
            return text
        return own

    def collect(page: Page) -> None:
        said = os.uname()
        page.info(
            "node_uname_info",
            "Labeled system information as provided by the uname system call.",
            {
                "sysname": said.sysname,
                "release": said.release,
                "version": said.version,
                "machine": said.machine,
                "nodename": node_name(said.nodename),
                "domainname": read_attribute(f"{machine.procfs}/sys/kernel/domainname") or "(none)",
            },
        )

    return collect


OS_FIELDS = (
    "build_id", "id", "id_like", "image_id", "image_version", "name", "pretty_name", "variant", "variant_id", "version",
    "version_codename", "version_id",
)  # fmt: skip
_MAJOR_MINOR = re.compile(r"^[0-9]+\.?[0-9]*")


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of an os-release file, which is a shell's."""
    out = {}
    for line in text.split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            out[key] = "".join(shlex.split(value))
    return out


def os_release(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_os_info`, `node_os_version`, and when the distribution's support ends, if it says so."""

    parsed: tuple[str, dict[str, str]] = ("", {})

    def text() -> str:
        for path in ("/etc/os-release", "/usr/lib/os-release"):
            try:
                return read(machine.root(path))
            except FileNotFoundError:
                continue
        raise NoData(f"neither /etc/os-release nor /usr/lib/os-release below {machine.rootfs}")

    def collect(page: Page) -> None:
        nonlocal parsed
        now = text()
        if now != parsed[0]:
            parsed = (now, parse_os_release(now))
        said = parsed[1]
        values = {field: said.get(field.upper(), "") for field in OS_FIELDS}
        about = f"A metric with a constant '1' value labeled by {', '.join(OS_FIELDS)}."
        page.info("node_os_info", about, values)
        if found := _MAJOR_MINOR.match(values["version_id"]):
            page.gauge(
                "node_os_version",
                "Metric containing the major.minor part of the OS version.",
                float(found.group()),
                labels(id=values["id"], id_like=values["id_like"], name=values["name"]),
            )
        if end := said.get("SUPPORT_END"):
            about = "Metric containing the end-of-life date timestamp of the OS."
            seconds = datetime.strptime(end, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
            page.gauge("node_os_support_end_timestamp_seconds", about, int(seconds))

    return collect


def filefd(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_filefd_allocated` and `_maximum`."""

    def collect(page: Page) -> None:
        allocated, _, maximum = machine.proc("sys/fs/file-nr").split()
        page.gauge("node_filefd_allocated", "File descriptor statistics: allocated.", int(allocated))
        page.gauge("node_filefd_maximum", "File descriptor statistics: maximum.", int(maximum))

    return collect


def entropy(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_entropy_*`."""

    def collect(page: Page) -> None:
        available = int(machine.proc("sys/kernel/random/entropy_avail"))
        page.gauge("node_entropy_available_bits", "Bits of available entropy.", available)
        page.gauge(
            "node_entropy_pool_size_bits", "Bits of entropy pool.", int(machine.proc("sys/kernel/random/poolsize"))
        )

    return collect


def kernel_hung(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_kernel_hung_tasks_total`."""

    def collect(page: Page) -> None:
        text = read_attribute(f"{machine.procfs}/sys/kernel/hung_task_detect_count")
        if text is None:
            raise NoData("the kernel is older than 6.13: it does not count hung tasks")
        about = "Total number of tasks that have been detected as hung since the system booted."
        page.family("node_kernel_hung_tasks_total", COUNTER, about).add(int(text))

    return collect


def thermal_zone(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_thermal_zone_temp` and the state of cooling devices."""

    def collect(page: Page) -> None:
        for path in sorted(glob.glob(machine.sys("class/thermal/thermal_zone[0-9]*"))):
            text = read_attribute(f"{path}/temp")
            if text is not None:
                said = labels(zone=path.rpartition("thermal_zone")[2], type=read_attribute(f"{path}/type") or "")
                page.gauge("node_thermal_zone_temp", "Zone temperature in Celsius", int(text) / 1000, said)
        for path in sorted(glob.glob(machine.sys("class/thermal/cooling_device[0-9]*"))):
            said = labels(name=path.rpartition("cooling_device")[2], type=read_attribute(f"{path}/type") or "")
            current, most = read_attribute(f"{path}/cur_state"), read_attribute(f"{path}/max_state")
            if current is not None and most is not None:
                about = "Current throttle state of the cooling device"
                page.gauge("node_cooling_device_cur_state", about, int(current), said)
                about = "Maximum throttle state of the cooling device"
                page.gauge("node_cooling_device_max_state", about, int(most), said)

    return collect
