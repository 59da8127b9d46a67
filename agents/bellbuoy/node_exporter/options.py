"""The node exporter's flags: node_exporter's own names and defaults, so that its arguments can be kept."""

import argparse
import re
from dataclasses import dataclass, field

from bellbuoy.durations import DurationError, parse_duration
from bellbuoy.errors import OptionsError
from bellbuoy.node_exporter.machine import Machine

MOUNT_POINTS_EXCLUDE = r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
FS_TYPES_EXCLUDE = (
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
    r"|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
)
DISK_DEVICES_EXCLUDE = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
NETSTAT_FIELDS = (
    r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)
VMSTAT_FIELDS = r"^(oom_kill|pgpg|pswp|pg.*fault).*"

# Every collector and whether it is on when nobody says. The names are node_exporter's.
COLLECTORS: dict[str, bool] = {
    "arp": True,
    "conntrack": True,
    "cpu": True,
    "diskstats": True,
    "entropy": True,
    "filefd": True,
    "filesystem": True,
    "kernel_hung": True,
    "loadavg": True,
    "meminfo": True,
    "netclass": True,
    "netdev": True,
    "netstat": True,
    "os": True,
    "pressure": True,
    "sockstat": True,
    "softnet": True,
    "stat": True,
    "textfile": True,
    "thermal_zone": True,
    "time": True,
    "timex": True,
    "udp_queues": True,
    "uname": True,
    "vmstat": True,
}


@dataclass(frozen=True)
class Filter:
    """What is read of devices, mounts or types: all but those that `exclude` finds, or only those of `include`."""

    exclude: str = ""
    include: str = ""

    def keeps(self, name: str) -> bool:
        """Whether this one is read. `re` caches what it compiles."""
        if self.include:
            return re.search(self.include, name) is not None
        return not self.exclude or re.search(self.exclude, name) is None


@dataclass(frozen=True)
class Options:
    """What the node exporter reads, and where it listens."""

    listen: str = ":9100"
    telemetry_path: str = "/metrics"
    max_requests: int = 40
    exporter_metrics: bool = True
    machine: Machine = field(default_factory=Machine)
    node_name: str = ""
    collectors: frozenset[str] = frozenset(name for name, on in COLLECTORS.items() if on)
    cpu_guest: bool = True
    cpu_info: bool = False
    stat_softirq: bool = False
    disks: Filter = Filter(DISK_DEVICES_EXCLUDE)
    mount_points: Filter = Filter(MOUNT_POINTS_EXCLUDE)
    fs_types: Filter = Filter(FS_TYPES_EXCLUDE)
    mount_timeout_seconds: float = 5.0
    stat_workers: int = 4
    arp_devices: Filter = Filter()
    netclass_ignored: str = "^$"
    netclass_ignore_invalid_speed: bool = False
    netdev_devices: Filter = Filter()
    netstat_fields: str = NETSTAT_FIELDS
    vmstat_fields: str = VMSTAT_FIELDS
    textfile_directories: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags. A name with a dot is node_exporter's; `--no-…` turns a switch off."""

    def text(flag: str, default: str, meaning: str) -> None:
        shown = default.replace("%", "%%") or "none"
        parser.add_argument(
            flag, dest=_dest(flag), default=default, metavar="TEXT", help=f"{meaning} (default: {shown})"
        )

    def switch(flag: str, meaning: str, *, default: bool) -> None:
        parser.add_argument(
            flag,
            dest=_dest(flag),
            default=default,
            action=argparse.BooleanOptionalAction,
            help=f"{meaning} (default: {'on' if default else 'off'})",
        )

    def either(prefix: str, what: str, exclude: str = "") -> None:
        text(
            f"{prefix}-exclude",
            exclude,
            f"regular expression of {what} to leave out; not together with {prefix}-include",
        )
        text(f"{prefix}-include", "", f"regular expression of {what} to read, and no others")

    text("--web.listen-address", ":9100", "host:port to listen at")
    text("--web.telemetry-path", "/metrics", "the path of the metrics")
    parser.add_argument(
        "--web.max-requests", dest="web_max_requests", type=int, default=40, metavar="N",
        help="scrapes at once, above which 503 is answered; 0 is no limit (default: 40)",
    )  # fmt: skip
    switch("--web.disable-exporter-metrics", "leave out metrics about the exporter itself", default=False)
    text("--path.procfs", "/proc", "where the machine's /proc is mounted")
    text("--path.sysfs", "/sys", "where the machine's /sys is mounted")
    text("--path.rootfs", "/", "where the machine's root is mounted")
    text("--path.udev.data", "/run/udev/data", "where udev keeps what it knows of devices")
    text("--node-name", "", "nodename of node_uname_info; without it the machine's own, read below --path.rootfs")
    switch("--collector.disable-defaults", "turn off every collector that is not named by a flag", default=False)
    for name, on in COLLECTORS.items():
        parser.add_argument(
            f"--collector.{name}", dest=f"collector_{name}", default=None, action=argparse.BooleanOptionalAction,
            help=f"the {name} collector (default: {'on' if on else 'off'})",
        )  # fmt: skip
    switch("--collector.cpu.guest", "node_cpu_guest_seconds_total", default=True)
    switch("--collector.cpu.info", "node_cpu_info", default=False)
    switch("--collector.stat.softirq", "node_softirqs_total", default=False)
    either("--collector.diskstats.device", "disks", DISK_DEVICES_EXCLUDE)
    either("--collector.filesystem.mount-points", "mount points", MOUNT_POINTS_EXCLUDE)
    either("--collector.filesystem.fs-types", "file system types", FS_TYPES_EXCLUDE)
    text(
        "--collector.filesystem.mount-timeout",
        "5s",
        "how long a mount may take to answer before it is left out as stuck",
    )
    parser.add_argument(
        "--collector.filesystem.stat-workers", dest="collector_filesystem_stat_workers", type=int, default=4,
        metavar="N", help="mounts asked at once (default: 4)",
    )  # fmt: skip
    either("--collector.arp.device", "network devices")
    text("--collector.netclass.ignored-devices", "^$", "regular expression of network devices that netclass leaves out")
    switch("--collector.netclass.ignore-invalid-speed", "leave out a negative speed", default=False)
    either("--collector.netdev.device", "network devices")
    text("--collector.netstat.fields", NETSTAT_FIELDS, "regular expression of the fields that netstat shows")
    text("--collector.vmstat.fields", VMSTAT_FIELDS, "regular expression of the fields that vmstat shows")
    parser.add_argument(
        "--collector.textfile.directory", dest="collector_textfile_directory", action="append", default=[],
        metavar="DIR", help="folder whose *.prom files are added; may be a pattern, may be repeated (default: none)",
    )  # fmt: skip


def _dest(flag: str) -> str:
    return flag.lstrip("-").replace(".", "_").replace("-", "_")


def options(args: argparse.Namespace) -> Options:
    """The options that these arguments say. Raises OptionsError."""

    def regex(flag: str) -> str:
        value: str = getattr(args, _dest(flag))
        try:
            re.compile(value)
        except re.error as e:
            raise OptionsError(f"cannot read --{flag} {value!r}: {e}; write a regular expression") from e
        return value

    def either(prefix: str, default_exclude: str = "") -> Filter:
        exclude, include = regex(f"{prefix}-exclude"), regex(f"{prefix}-include")
        if include and exclude == default_exclude:
            exclude = ""
        if include and exclude:
            raise OptionsError(f"cannot use both --{prefix}-exclude and --{prefix}-include: give one of them")
        return Filter(exclude, include)

    try:
        timeout = parse_duration(args.collector_filesystem_mount_timeout)
    except DurationError as e:
        raise OptionsError(f"cannot use --collector.filesystem.mount-timeout: {e}") from e
    if timeout <= 0:
        raise OptionsError("cannot use --collector.filesystem.mount-timeout 0: give a duration above zero, such as 5s")
    if args.collector_filesystem_stat_workers < 1:
        raise OptionsError("cannot use --collector.filesystem.stat-workers below 1: give 1 or more")
    if not args.web_telemetry_path.startswith("/"):
        raise OptionsError(f"cannot use --web.telemetry-path {args.web_telemetry_path!r}: begin it with a slash")
    on: set[str] = set()
    for name, default in COLLECTORS.items():
        said = getattr(args, f"collector_{name}")
        if said if said is not None else default and not args.collector_disable_defaults:
            on.add(name)
    return Options(
        listen=args.web_listen_address,
        telemetry_path=args.web_telemetry_path,
        max_requests=args.web_max_requests,
        exporter_metrics=not args.web_disable_exporter_metrics,
        machine=Machine(args.path_procfs, args.path_sysfs, args.path_rootfs, args.path_udev_data),
        node_name=args.node_name,
        collectors=frozenset(on),
        cpu_guest=args.collector_cpu_guest,
        cpu_info=args.collector_cpu_info,
        stat_softirq=args.collector_stat_softirq,
        disks=either("collector.diskstats.device", DISK_DEVICES_EXCLUDE),
        mount_points=either("collector.filesystem.mount-points", MOUNT_POINTS_EXCLUDE),
        fs_types=either("collector.filesystem.fs-types", FS_TYPES_EXCLUDE),
        mount_timeout_seconds=timeout,
        stat_workers=args.collector_filesystem_stat_workers,
        arp_devices=either("collector.arp.device"),
        netclass_ignored=regex("collector.netclass.ignored-devices"),
        netclass_ignore_invalid_speed=args.collector_netclass_ignore_invalid_speed,
        netdev_devices=either("collector.netdev.device"),
        netstat_fields=regex("collector.netstat.fields"),
        vmstat_fields=regex("collector.vmstat.fields"),
        textfile_directories=tuple(args.collector_textfile_directory),
    )
