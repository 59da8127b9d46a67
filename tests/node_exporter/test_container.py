"""From inside a container it tells of the host: here namespaces of its own stand for the container."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from bellbuoy.exposition import ParsedFamily, parse

# What the container's entry point would be: mounts as a DaemonSet has them, then our own view of everything else.
SCRIPT = """
set -e
mkdir proc sys root
mount --make-rprivate /
mount --rbind /proc proc
mount --rbind /sys sys
mount --bind / root
hostname the-container
mount -t tmpfs -o size=4k only-in-the-container /mnt
exec unshare --pid --fork --mount-proc {python} {scrape} proc sys root
"""
SCRAPE = """
import json, sys, os
from bellbuoy.node_exporter.machine import Machine
from bellbuoy.node_exporter.options import Options
from bellbuoy.node_exporter.scrape import Scraper
proc, sys_, root = (os.path.abspath(name) for name in sys.argv[1:])
os.chdir("/")
machine = Machine(proc, sys_, root)
own = os.listdir("/sys/class/net"), open("/proc/self/net/dev").read(), os.uname().nodename
print(json.dumps([own, Scraper(Options(machine=machine, node_name="host-by-flag")).scrape().text()]))
"""


def labels(families: dict[str, ParsedFamily], name: str, label: str) -> set[str]:
    return {dict(sample.labels)[label] for sample in families[name].samples}


async def test_a_container_reports_its_host(tmp_path: Path) -> None:
    scrape = tmp_path / "scrape.py"
    scrape.write_text(SCRAPE)
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = SCRIPT.format(python=sys.executable, scrape=scrape)
    done = await asyncio.to_thread(
        subprocess.run,
        ["unshare", *as_root, "--net", "--mount", "--uts", "sh", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (_, own_net, own_name), text = json.loads(done.stdout)
    # So this was a container: its own namespace has nothing but lo, and a name of its own.
    assert {line.split(":")[0].strip() for line in own_net.splitlines()[2:]} == {"lo"}
    assert own_name == "the-container"

    families = parse(text)
    host = set(psutil.net_io_counters(pernic=True))
    assert host - {"lo"}, "this machine has only lo: the test would prove nothing"
    assert labels(families, "node_network_receive_bytes_total", "device") == host
    assert labels(families, "node_network_info", "device") == host
    assert "/" in labels(families, "node_filesystem_size_bytes", "mountpoint")
    root = next(s for s in families["node_filesystem_size_bytes"].samples if dict(s.labels)["mountpoint"] == "/")
    assert root.value == psutil.disk_usage("/").total
    # Neither the container's own mounts nor the mounts of the host's files in it.
    assert "only-in-the-container" not in text
    assert str(tmp_path) not in text
    assert labels(families, "node_uname_info", "nodename") == {"host-by-flag"}
    assert families["node_memory_MemTotal_bytes"].samples[0].value == psutil.virtual_memory().total
    assert families["node_boot_time_seconds"].samples[0].value == int(psutil.boot_time())
    failed = [dict(s.labels)["collector"] for s in families["node_scrape_collector_success"].samples if not s.value]
    assert set(failed) <= {"conntrack", "kernel_hung", "pressure"}, "these depend on the kernel, all others must work"
