"""Network interfaces: traffic counters, the attributes of each device, and the ARP table's size."""

import os
import re
from collections import Counter
from collections.abc import Callable

from bellbuoy.exposition import COUNTER, GAUGE, Page, labels
from bellbuoy.node_exporter.machine import Machine, NoData, read_attribute
from bellbuoy.node_exporter.options import Options

# The columns of /proc/net/dev behind the device's name.
NETDEV_COLUMNS = (
    "receive_bytes", "receive_packets", "receive_errs", "receive_drop", "receive_fifo", "receive_frame",
    "receive_compressed", "receive_multicast", "transmit_bytes", "transmit_packets", "transmit_errs", "transmit_drop",
    "transmit_fifo", "transmit_colls", "transmit_carrier", "transmit_compressed",
)  # fmt: skip

# Files of /sys/class/net/<device> that are numbers, and the metrics they become.
ATTRIBUTES: tuple[tuple[str, str, str], ...] = (
    ("addr_assign_type", "address_assign_type", GAUGE),
    ("carrier", "carrier", GAUGE),
    ("carrier_changes", "carrier_changes_total", COUNTER),
    ("carrier_up_count", "carrier_up_changes_total", COUNTER),
    ("carrier_down_count", "carrier_down_changes_total", COUNTER),
    ("dev_id", "device_id", GAUGE),
    ("dormant", "dormant", GAUGE),
    ("flags", "flags", GAUGE),
    ("ifindex", "iface_id", GAUGE),
    ("iflink", "iface_link", GAUGE),
    ("link_mode", "iface_link_mode", GAUGE),
    ("mtu", "mtu_bytes", GAUGE),
    ("name_assign_type", "name_assign_type", GAUGE),
    ("netdev_group", "net_dev_group", GAUGE),
    ("tx_queue_len", "transmit_queue_length", GAUGE),
    ("type", "protocol_type", GAUGE),
)
IFF_UP = 1
# What /sys says in megabits a second is shown as bytes a second.
BYTES_PER_MEGABIT = 1_000_000 // 8


def netdev(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_network_{receive,transmit}_*_total`, from the counters of the machine's own network namespace.

    The reference takes a count that /proc/net/dev does not have, `receive_nohandler`, by netlink, which speaks only of
    the reader's namespace; here it comes from /sys, where the host's is mounted.
    """

    def collect(page: Page) -> None:
        families = [
            page.family(f"node_network_{name}_total", COUNTER, f"Network device statistic {name}.")
            for name in NETDEV_COLUMNS
        ]
        nohandler = page.family(
            "node_network_receive_nohandler_total", COUNTER, "Network device statistic receive_nohandler."
        )
        for line in machine.net("dev").split("\n")[2:]:
            # The name may hold a colon (an alias does), the counters never.
            device, colon, rest = line.rpartition(":")
            device = device.strip()
            if not colon or not options.netdev_devices.keeps(device):
                continue
            label_text = labels(device=device)
            for family, text in zip(families, rest.split(), strict=True):
                family.add(int(text), label_text)
            count = read_attribute(machine.sys(f"class/net/{device}/statistics/rx_nohandler"))
            if count is not None:
                nohandler.add(int(count), label_text)

    return collect


def netclass(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_network_up`, `_info`, `_mtu_bytes`, `_speed_bytes` and the other attributes of /sys/class/net."""
    ignored = re.compile(options.netclass_ignored)
    root = machine.sys("class/net")

    def collect(page: Page) -> None:
        try:
            # Files such as `bonding_masters` stand beside the devices.
            devices = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        except (FileNotFoundError, PermissionError) as e:
            raise NoData(f"cannot list {root}: {e}") from e
        up = page.family("node_network_up", GAUGE, "Value is 1 if operstate is 'up', 0 otherwise.")
        speed = page.family("node_network_speed_bytes", GAUGE, "Network device property: speed_bytes")
        numbers = [
            (attribute, page.family(f"node_network_{name}", kind, f"Network device property: {name}"))
            for attribute, name, kind in ATTRIBUTES
        ]
        for device in devices:
            if ignored.search(device):
                continue
            path = f"{root}/{device}"
            operstate = read_attribute(f"{path}/operstate")
            if operstate is None:
                # It went away since it was listed.
                continue
            label_text = labels(device=device)
            up.add(int(operstate == "up"), label_text)
            flags: int | None = None
            for attribute, family in numbers:
                if text := read_attribute(f"{path}/{attribute}"):
                    value = int(text, 0)
                    family.add(value, label_text)
                    if attribute == "flags":
                        flags = value
            if text := read_attribute(f"{path}/speed"):
                megabits = int(text)
                if megabits >= 0 or not options.netclass_ignore_invalid_speed:
                    speed.add(megabits * BYTES_PER_MEGABIT, label_text)
            page.info(
                "node_network_info",
                "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
                {
                    "device": device,
                    "address": read_attribute(f"{path}/address") or "",
                    "broadcast": read_attribute(f"{path}/broadcast") or "",
                    "duplex": read_attribute(f"{path}/duplex") or "",
                    "operstate": operstate,
                    "adminstate": "unknown" if flags is None else "up" if flags & IFF_UP else "down",
                    "ifalias": read_attribute(f"{path}/ifalias") or "",
                },
            )

    return collect


def arp(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_arp_entries`."""

    def collect(page: Page) -> None:
        rows = [line.split() for line in machine.net("arp").split("\n")[1:]]
        counts = Counter(row[-1] for row in rows if len(row) >= 6)
        family = page.family("node_arp_entries", GAUGE, "ARP entries by device")
        for device, count in sorted(counts.items()):
            if options.arp_devices.keeps(device):
                family.add(count, labels(device=device))

    return collect
