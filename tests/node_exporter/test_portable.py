"""A machine without /proc, as psutil tells of it: here of this one, so that both ways can be compared."""

import time

from bellbuoy.exposition import ParsedFamily, parse
from bellbuoy.node_exporter.machine import Machine
from bellbuoy.node_exporter.options import Options
from bellbuoy.node_exporter.scrape import Scraper


def scrape(options: Options) -> dict[str, ParsedFamily]:
    return parse(Scraper(options).scrape().text())


def test_the_essentials_have_the_same_names_types_and_help() -> None:
    without, whole = scrape(Options(machine=Machine(procfs="/nowhere"))), scrape(Options())
    for name in (
        "node_cpu_seconds_total",
        "node_load1",
        "node_memory_MemAvailable_bytes",
        "node_memory_SwapTotal_bytes",
        "node_disk_written_bytes_total",
        "node_filesystem_avail_bytes",
        "node_network_receive_bytes_total",
        "node_network_up",
        "node_boot_time_seconds",
        "node_time_seconds",
        "node_uname_info",
    ):
        assert name in without
    assert {n: (f.type, f.help) for n, f in without.items()}.items() <= {
        n: (f.type, f.help) for n, f in whole.items()
    }.items()
    assert without["node_memory_MemTotal_bytes"].samples == whole["node_memory_MemTotal_bytes"].samples
    assert without["node_uname_info"].samples == whole["node_uname_info"].samples
    assert (
        abs(without["node_boot_time_seconds"].samples[0].value - whole["node_boot_time_seconds"].samples[0].value) <= 1
    )
    assert abs(without["node_time_seconds"].samples[0].value - time.time()) < 60
    devices = {dict(s.labels)["device"] for s in whole["node_network_receive_bytes_total"].samples}
    assert {dict(s.labels)["device"] for s in without["node_network_receive_bytes_total"].samples} == devices


def test_what_psutil_does_not_know_has_success_0() -> None:
    samples = scrape(Options(machine=Machine(procfs="/nowhere")))["node_scrape_collector_success"].samples
    failed = {dict(s.labels)["collector"] for s in samples if not s.value}
    assert {"pressure", "vmstat", "netstat"} <= failed
    assert not failed & {"cpu", "meminfo", "filesystem", "netdev", "netclass", "diskstats", "stat", "uname", "loadavg"}
