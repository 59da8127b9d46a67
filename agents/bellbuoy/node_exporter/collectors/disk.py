"""Disks: /proc/diskstats, with what udev knows of each device."""

from collections.abc import Callable

from bellbuoy.exposition import COUNTER, GAUGE, Page, labels
from bellbuoy.node_exporter.machine import Machine, read, read_attribute
from bellbuoy.node_exporter.options import Options

# A sector of /proc/diskstats is this long on every device.
SECTOR_BYTES = 512

# The columns after the device's name, in the kernel's order; older kernels stop early. The last item is what a unit of
# the column is worth: counts, sectors to bytes, milliseconds to seconds.
COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("reads_completed_total", COUNTER, "The total number of reads completed successfully.", "count"),
    ("reads_merged_total", COUNTER, "The total number of reads merged.", "count"),
    ("read_bytes_total", COUNTER, "The total number of bytes read successfully.", "sectors"),
    ("read_time_seconds_total", COUNTER, "The total number of seconds spent by all reads.", "ms"),
    ("writes_completed_total", COUNTER, "The total number of writes completed successfully.", "count"),
    ("writes_merged_total", COUNTER, "The number of writes merged.", "count"),
    ("written_bytes_total", COUNTER, "The total number of bytes written successfully.", "sectors"),
    ("write_time_seconds_total", COUNTER, "This is the total number of seconds spent by all writes.", "ms"),
    ("io_now", GAUGE, "The number of I/Os currently in progress.", "count"),
    ("io_time_seconds_total", COUNTER, "Total seconds spent doing I/Os.", "ms"),
    ("io_time_weighted_seconds_total", COUNTER, "The weighted # of seconds spent doing I/Os.", "ms"),
    ("discards_completed_total", COUNTER, "The total number of discards completed successfully.", "count"),
    ("discards_merged_total", COUNTER, "The total number of discards merged.", "count"),
    ("discarded_sectors_total", COUNTER, "The total number of sectors discarded successfully.", "count"),
    ("discard_time_seconds_total", COUNTER, "This is the total number of seconds spent by all discards.", "ms"),
    ("flush_requests_total", COUNTER, "The total number of flush requests completed successfully", "count"),
    (
        "flush_requests_time_seconds_total", COUNTER,
        "This is the total number of seconds spent by all flush requests.", "ms",
    ),
)  # fmt: skip


def _scaled(text: str, unit: str) -> int | float:
    value = int(text)
    if unit == "sectors":
        return value * SECTOR_BYTES
    return value / 1000 if unit == "ms" else value


def _udev(machine: Machine, number: str) -> dict[str, str]:
    """What udev's database says of a block device; empty without udev, as in most containers."""
    try:
        text = read(f"{machine.udev}/b{number}")
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return {}
    pairs = (line[2:].partition("=") for line in text.split("\n") if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def diskstats(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_disk_*`."""
    ata = {
        "ID_ATA_WRITE_CACHE": ("node_disk_ata_write_cache", "ATA disk has a write cache."),
        "ID_ATA_WRITE_CACHE_ENABLED": ("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
        "ID_ATA_ROTATION_RATE_RPM": ("node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs)."),
    }

    def describe(page: Page, device: str, major: str, minor: str) -> None:
        udev = _udev(machine, f"{major}:{minor}")
        serial = udev.get("SCSI_IDENT_SERIAL") or udev.get("ID_SERIAL_SHORT") or udev.get("ID_SERIAL", "")
        rotational = read_attribute(machine.sys(f"block/{device}/queue/rotational"))
        page.info(
            "node_disk_info",
            "Info of /sys/block/<block_device>.",
            {
                "device": device,
                "major": major,
                "minor": minor,
                "path": udev.get("ID_PATH", ""),
                "wwn": udev.get("ID_WWN", ""),
                "model": udev.get("ID_MODEL", ""),
                "serial": serial,
                "revision": udev.get("ID_REVISION", ""),
                "rotational": "1" if rotational == "1" else "0",
            },
        )
        if udev.get("ID_FS_TYPE"):
            said = {name: udev.get(f"ID_FS_{name.upper()}", "") for name in ("type", "usage", "uuid", "version")}
            page.info("node_disk_filesystem_info", "Info about disk filesystem.", {"device": device, **said})
        if udev.get("DM_NAME"):
            fields = ("name", "uuid", "vg_name", "lv_name", "lv_layer")
            said = {name: udev.get(f"DM_{name.upper()}", "") for name in fields}
            page.info("node_disk_device_mapper_info", "Info about disk device mapper.", {"device": device, **said})
        if udev.get("ID_ATA"):
            for key, (name, about) in ata.items():
                if key in udev:
                    page.gauge(name, about, float(udev[key]), labels(device=device))

    def collect(page: Page) -> None:
        families = [page.family(f"node_disk_{name}", kind, about) for name, kind, about, _ in COLUMNS]
        for line in machine.proc("diskstats").split("\n"):
            words = line.split()
            if len(words) < 4 or not options.disks.keeps(words[2]):
                continue
            major, minor, device, *values = words
            describe(page, device, major, minor)
            label_text = labels(device=device)
            for family, (_, _, _, unit), text in zip(families, COLUMNS, values, strict=False):
                family.add(_scaled(text, unit), label_text)

    return collect
