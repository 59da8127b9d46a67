"""Our node exporter beside the reference's, on this machine: the same series, and values that agree.

Debian's is version 1.5; ours follows 1.12. What changed between them stands in this file, and nothing else may differ.
"""

import re
from pathlib import Path

import pytest

from bellbuoy.exposition import ParsedFamily, parse
from bellbuoy.node_exporter.options import (
    COLLECTORS,
    DISK_DEVICES_EXCLUDE,
    FS_TYPES_EXCLUDE,
    MOUNT_POINTS_EXCLUDE,
    NETSTAT_FIELDS,
)
from tests.peers.programs import fetch, part, peer

pytestmark = pytest.mark.peers

# Collectors that version 1.5 does not have.
NEWER_COLLECTORS = {"kernel_hung"}
# Families that version 1.5 does not have.
NEWER_FAMILIES = {
    "node_filesystem_mount_info",
    "node_filesystem_purgeable_bytes",
    "node_softnet_backlog_len",
    "node_softnet_cpu_collision_total",
    "node_softnet_flow_limit_count_total",
    "node_softnet_received_rps_total",
}
# Labels that version 1.5 does not have, by family.
NEWER_LABELS = {
    "node_disk_info": {"rotational"},
    "node_network_info": {"adminstate"},
    **{f"node_filesystem_{name}": {"device_error"} for name in (
        "avail_bytes", "device_error", "files", "files_free", "free_bytes", "readonly", "size_bytes")},
}  # fmt: skip
FLAGS = (
    f"--collector.diskstats.device-exclude={DISK_DEVICES_EXCLUDE}",
    f"--collector.filesystem.mount-points-exclude={MOUNT_POINTS_EXCLUDE}",
    f"--collector.filesystem.fs-types-exclude={FS_TYPES_EXCLUDE}",
    f"--collector.netstat.fields={NETSTAT_FIELDS}",
)
Key = tuple[str, tuple[tuple[str, str], ...]]
COLLECTORS_OF_BOTH = [name for name in COLLECTORS if name not in NEWER_COLLECTORS]
ASK = "/metrics?" + "&".join(f"collect[]={name}" for name in COLLECTORS_OF_BOTH)
# Gauges that move by themselves within a scrape: what is between our two readings, and this much around it.
RELATIVE, ABSOLUTE = 0.1, 8.0


def node_families(text: str) -> dict[str, ParsedFamily]:
    """The families that are about the machine, without what this test does to them."""
    about_scraping = re.compile(r"node_(scrape_collector|exporter_build|textfile|arp)_")
    return {
        name: family
        for name, family in parse(text).items()
        if name.startswith("node_") and not about_scraping.match(name) and name not in NEWER_FAMILIES
    }


def values(families: dict[str, ParsedFamily]) -> dict[Key, float]:
    out: dict[Key, float] = {}
    for name, family in families.items():
        newer = NEWER_LABELS.get(name, set())
        for sample in family.samples:
            out[sample.name, tuple(pair for pair in sample.labels if pair[0] not in newer)] = sample.value
    return out


def disagreeing(
    before: dict[Key, float], theirs: dict[Key, float], after: dict[Key, float], counters: set[str]
) -> set[Key]:
    """The series whose value in their scrape is not between those of our scrapes before and after it."""
    out = set()
    for key in theirs.keys() & before.keys() & after.keys():
        low, high = sorted((before[key], after[key]))
        slack = 1e-6 * abs(high) if key[0] in counters else RELATIVE * abs(high) + ABSOLUTE
        if not low - slack <= theirs[key] <= high + slack:
            out.add(key)
    return out


async def test_series_types_and_values_are_the_references(tmp_path: Path) -> None:
    all_devices = "--collector.netdev.device-exclude=^$"
    async with (
        part("node-exporter", *FLAGS, folder=tmp_path) as ours,
        peer("prometheus-node-exporter", all_devices, *FLAGS, folder=tmp_path, ready="/metrics") as reference,
    ):
        suspects: set[Key] | None = None
        for _ in range(5):
            before = node_families(await fetch(ours.url + ASK))
            theirs = node_families(await fetch(reference.url + ASK))
            after = node_families(await fetch(ours.url + ASK))
            # Netlink, which their counters are read by, and /proc are the same; a device may come or go meanwhile.
            if values(before).keys() != values(after).keys():
                continue
            assert sorted(values(after)) == sorted(values(theirs))
            assert {n: (f.type, f.help) for n, f in after.items()} == {n: (f.type, f.help) for n, f in theirs.items()}
            counters = {name for name, family in theirs.items() if family.type in ("counter", "untyped")}
            found = disagreeing(values(before), values(theirs), values(after), counters=counters)
            suspects = found if suspects is None else suspects & found
            if not suspects:
                break
    assert suspects == set(), "these disagree in each of five scrapes"


async def test_every_collector_that_succeeds_for_the_reference_succeeds_for_us(tmp_path: Path) -> None:
    async with (
        part("node-exporter", folder=tmp_path) as ours,
        peer("prometheus-node-exporter", folder=tmp_path, ready="/metrics") as reference,
    ):
        success = "node_scrape_collector_success"
        mine = values({success: parse(await fetch(ours.url + ASK))[success]})
        theirs = values({success: parse(await fetch(reference.url + ASK))[success]})
    assert mine == theirs
