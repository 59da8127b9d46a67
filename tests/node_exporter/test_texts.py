"""Texts of kernels that this machine does not run."""

from pathlib import Path

import pytest

from bellbuoy.exposition import Page, parse
from bellbuoy.node_exporter.collectors import FACTORIES
from bellbuoy.node_exporter.collectors.cpu import monotonic, ranges
from bellbuoy.node_exporter.collectors.system import parse_os_release
from bellbuoy.node_exporter.machine import Machine, NoData
from bellbuoy.node_exporter.options import Options


class Host:
    """A machine made of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine = Machine(str(folder / "proc"), str(folder / "sys"), str(folder / "root"), str(folder / "udev"))

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def collect(self, name: str, options: Options | None = None) -> list[str]:
        """The sample lines of a collector."""
        page = Page()
        FACTORIES[name](self.machine, options or Options())(page)
        parse(page.text())
        return [line for line in page.text().splitlines() if not line.startswith("#")]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_processor_times_never_go_back_except_for_a_new_processor() -> None:
    def check(before: list[int] | None, now: list[int], want: list[int]) -> None:
        assert monotonic(before, now) == want

    check(None, [1, 0, 2, 900, 5], [1, 0, 2, 900, 5])
    check([1, 0, 2, 900, 5], [2, 0, 2, 890, 4], [2, 0, 2, 900, 5])
    check([1, 0, 2, 900, 5], [0, 0, 0, 10, 0], [0, 0, 0, 10, 0])


def test_kernel_lists() -> None:
    assert (ranges(""), ranges("3"), ranges("0-2,5")) == ([], [3], [0, 1, 2, 5])


def test_an_old_kernel_has_fewer_columns_and_a_processor_may_be_off(host: Host) -> None:
    host.write("proc/stat", "cpu 1 2 3 4\ncpu2 100 0 50 2000 7\nintr 5 1 2\nctxt 6\nbtime 7\nprocesses 8\n")
    host.write("sys/devices/system/cpu/cpu0/online", "1")
    host.write("sys/devices/system/cpu/cpu2/online", "0")
    host.write("sys/devices/system/cpu/isolated", "2")
    for name, text in (("physical_package_id", "0"), ("core_id", "1")):
        host.write(f"sys/devices/system/cpu/cpu2/topology/{name}", text)
    host.write("sys/devices/system/cpu/cpu2/thermal_throttle/core_throttle_count", "4")
    lines = host.collect("cpu")
    assert 'node_cpu_seconds_total{cpu="2",mode="idle"} 20.0' in lines
    assert 'node_cpu_seconds_total{cpu="2",mode="steal"} 0.0' in lines
    assert 'node_cpu_online{cpu="2"} 0' in lines
    assert 'node_cpu_isolated{cpu="2"} 1' in lines
    assert 'node_cpu_core_throttles_total{package="0",core="1"} 4' in lines
    assert "node_intr_total 5" in host.collect("stat")


def test_a_disk_with_udev_and_the_columns_of_an_old_kernel(host: Host) -> None:
    host.write("proc/diskstats", "8 0 sda 10 1 100 2000 20 2 200 3000 1 4000 5000\n7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n")
    host.write("sys/block/sda/queue/rotational", "1\n")
    host.write(
        "udev/b8:0",
        'S:disk/by-id/x\nE:ID_MODEL=Best "Disk"\nE:ID_SERIAL_SHORT=S1\nE:ID_FS_TYPE=ext4\n'
        "E:ID_ATA=1\nE:ID_ATA_ROTATION_RATE_RPM=7200\n",
    )
    lines = host.collect("diskstats")
    assert 'node_disk_read_bytes_total{device="sda"} 51200' in lines
    assert 'node_disk_io_time_weighted_seconds_total{device="sda"} 5.0' in lines
    assert not [line for line in lines if "discard" in line or "loop0" in line]
    info = (
        'device="sda",major="8",minor="0",path="",wwn="",model="Best \\"Disk\\"",serial="S1",revision="",rotational="1"'
    )
    assert f"node_disk_info{{{info}}} 1" in lines
    assert 'node_disk_filesystem_info{device="sda",type="ext4",usage="",uuid="",version=""} 1' in lines
    assert 'node_disk_ata_rotation_rate_rpm{device="sda"} 7200.0' in lines


def test_connections_are_counted_from_the_hosts_table(host: Host) -> None:
    host.write("proc/sys/net/netfilter/nf_conntrack_max", "262144\n")
    # What a reader in a container would be told of its own namespace.
    host.write("proc/sys/net/netfilter/nf_conntrack_count", "1\n")
    host.write(
        "proc/1/net/stat/nf_conntrack",
        "entries  found invalid drop\n0000001f  0000000a 00000001 00000000\n0000001f 00000001 00000002 00000003\n",
    )
    lines = host.collect("conntrack")
    assert lines[:2] == ["node_nf_conntrack_entries 31", "node_nf_conntrack_entries_limit 262144"]
    assert "node_nf_conntrack_stat_found 11" in lines
    assert "node_nf_conntrack_stat_drop 3" in lines
    assert "node_nf_conntrack_stat_ignore 0" in lines


def test_what_is_not_there_is_no_failure(host: Host) -> None:
    host.write("proc/1/net/other", "")
    for name in ("conntrack", "kernel_hung", "pressure", "udp_queues", "os", "netclass"):
        with pytest.raises(NoData):
            host.collect(name)
    assert host.collect("sockstat") == []
    assert host.collect("thermal_zone") == []


def test_irq_pressure_has_no_some(host: Host) -> None:
    host.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=1\n")
    host.write("proc/pressure/irq", "full avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\n")
    assert host.collect("pressure") == [
        "node_pressure_cpu_waiting_seconds_total 1.5",
        "node_pressure_irq_stalled_seconds_total 2.0",
    ]


def test_the_hosts_name_and_release_are_read_below_its_root(host: Host) -> None:
    host.write("root/etc/hostname", "node-7\n")
    host.write(
        "root/usr/lib/os-release",
        '# it is\nNAME="Some \\"OS\\""\nID=some\nVERSION_ID=\'12.3 x\'\nSUPPORT_END=2030-01-02\n',
    )
    host.write("proc/sys/kernel/domainname", "(none)\n")
    assert 'nodename="node-7"' in host.collect("uname")[0]
    assert 'nodename="given"' in host.collect("uname", Options(node_name="given"))[0]
    lines = host.collect("os")
    assert 'node_os_version{id="some",id_like="",name="Some \\"OS\\""} 12.3' in lines
    assert "node_os_support_end_timestamp_seconds 1893542400" in lines


def test_os_release_is_a_shells() -> None:
    text = "A=1\nB=\"two words\"\n#C=3\n\nD='x'\nE=\nnonsense\n"
    assert parse_os_release(text) == {"A": "1", "B": "two words", "D": "x", "E": ""}


def test_a_device_that_has_no_speed_or_goes_away(host: Host) -> None:
    for name, text in {"operstate": "up", "flags": "0x1003", "mtu": "1500", "speed": "-1", "address": "aa:bb"}.items():
        host.write(f"sys/class/net/eth0/{name}", text + "\n")
    (host.folder / "sys/class/net/gone").mkdir()
    host.write("sys/class/net/bonding_masters", "")
    lines = host.collect("netclass")
    assert 'node_network_up{device="eth0"} 1' in lines
    assert 'node_network_speed_bytes{device="eth0"} -125000' in lines
    assert 'node_network_flags{device="eth0"} 4099' in lines
    assert not [line for line in lines if "gone" in line or "bonding" in line]
    quiet = host.collect("netclass", Options(netclass_ignore_invalid_speed=True))
    assert not [line for line in quiet if "speed" in line]


def test_temperatures(host: Host) -> None:
    host.write("sys/class/thermal/thermal_zone0/temp", "47500\n")
    host.write("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n")
    host.write("sys/class/thermal/cooling_device1/cur_state", "2\n")
    host.write("sys/class/thermal/cooling_device1/max_state", "10\n")
    host.write("sys/class/thermal/cooling_device1/type", "Fan\n")
    assert host.collect("thermal_zone") == [
        'node_cooling_device_cur_state{name="1",type="Fan"} 2',
        'node_cooling_device_max_state{name="1",type="Fan"} 10',
        'node_thermal_zone_temp{zone="0",type="x86_pkg_temp"} 47.5',
    ]
