"""Processor time and what /proc/stat counts besides.

The kernel's per-processor times may go back a little (idle and iowait are estimates), which a counter must not: the
last value is kept until the new one passes it. A processor that was unplugged and came back starts from nothing, and is
told from that by how far idle jumps back.
"""

import glob
import threading
from collections.abc import Callable

from bellbuoy.exposition import COUNTER, GAUGE, Page
from bellbuoy.node_exporter.machine import Machine, NoData, read_attribute
from bellbuoy.node_exporter.options import Options

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
GUEST_MODES = ("user", "nice")
_IDLE = MODES.index("idle")
_FIELDS = len(MODES) + len(GUEST_MODES)
# The unit of /proc/stat; every Linux that Python runs on has USER_HZ 100.
TICKS_PER_SECOND = 100
# Idle this far back is another processor, not an estimate that was corrected.
JUMP_BACK_TICKS = 3 * TICKS_PER_SECOND
SOFTIRQS = ("hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu")


def monotonic(before: list[int] | None, now: list[int]) -> list[int]:
    """Each of the times, never below what was shown before, unless the processor is a new one."""
    if before is None or before[_IDLE] - now[_IDLE] >= JUMP_BACK_TICKS:
        return now
    return [max(pair) for pair in zip(before, now, strict=True)]


def cpu(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_cpu_*`."""
    shown: dict[str, list[int]] = {}
    lock = threading.Lock()
    label_texts: dict[str, tuple[str, ...]] = {}
    fixed = _fixed(machine, options)

    def collect(page: Page) -> None:
        seconds = page.family("node_cpu_seconds_total", COUNTER, "Seconds the CPUs spent in each mode.")
        guest = page.family(
            "node_cpu_guest_seconds_total", COUNTER, "Seconds the CPUs spent in guests (VMs) for each mode."
        )
        online = set()
        with lock:
            for line in machine.proc("stat").split("\n"):
                if not line.startswith("cpu"):
                    break
                name, *texts = line.split()
                if name == "cpu":
                    continue
                number = name[3:]
                # Old kernels have fewer columns: what they lack is nothing.
                ticks = [int(text) for text in texts[:_FIELDS]] + [0] * (_FIELDS - len(texts))
                ticks = shown[number] = monotonic(shown.get(number), ticks)
                online.add(number)
                if number not in label_texts:
                    label_texts[number] = tuple(f'{{cpu="{number}",mode="{mode}"}}' for mode in MODES)
                for label_text, value in zip(label_texts[number], ticks, strict=False):
                    seconds.add(value / TICKS_PER_SECOND, label_text)
                if options.cpu_guest:
                    for mode, value in zip(GUEST_MODES, ticks[len(MODES) :], strict=True):
                        guest.add(value / TICKS_PER_SECOND, f'{{cpu="{number}",mode="{mode}"}}')
            for number in shown.keys() - online:
                del shown[number]
        if options.cpu_info:
            _info(machine, page)
        for each in fixed:
            each(page)

    return collect


def _info(machine: Machine, page: Page) -> None:
    names = {
        "package": "physical id", "core": "core id", "cpu": "processor", "vendor": "vendor_id", "family": "cpu family",
        "model": "model", "model_name": "model name", "microcode": "microcode", "stepping": "stepping",
        "cachesize": "cache size",
    }  # fmt: skip
    for block in machine.proc("cpuinfo").strip().split("\n\n"):
        said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.split("\n"))}
        if "processor" in said:
            labels = {label: said.get(field, "") for label, field in names.items()}
            page.info("node_cpu_info", "CPU information from /proc/cpuinfo.", labels)


def _fixed(machine: Machine, _: Options) -> list[Callable[[Page], None]]:
    """What this machine has of throttle counts, online and isolated processors; looked for once, as most have none."""
    found: list[Callable[[Page], None]] = []
    cpus = sorted(glob.glob(machine.sys("devices/system/cpu/cpu[0-9]*")))
    cores: dict[tuple[str, str], str] = {}
    packages: dict[str, str] = {}
    for path in cpus:
        package = read_attribute(f"{path}/topology/physical_package_id")
        core = read_attribute(f"{path}/topology/core_id")
        if package is None or core is None:
            continue
        if read_attribute(f"{path}/thermal_throttle/core_throttle_count") is not None:
            cores.setdefault((package, core), f"{path}/thermal_throttle/core_throttle_count")
        if read_attribute(f"{path}/thermal_throttle/package_throttle_count") is not None:
            packages.setdefault(package, f"{path}/thermal_throttle/package_throttle_count")
    if cores or packages:

        def throttles(page: Page) -> None:
            core_help = "Number of times this CPU core has been throttled."
            for (package, core), path in cores.items():
                if (text := read_attribute(path)) is not None:
                    labels = f'{{package="{package}",core="{core}"}}'
                    page.counter("node_cpu_core_throttles_total", core_help, int(text), labels)
            package_help = "Number of times this CPU package has been throttled."
            for package, path in packages.items():
                if (text := read_attribute(path)) is not None:
                    page.counter(
                        "node_cpu_package_throttles_total", package_help, int(text), f'{{package="{package}"}}'
                    )

        found.append(throttles)
    if read_attribute(machine.sys("devices/system/cpu/cpu0/online")) is not None:
        online_paths = [(path.rpartition("cpu")[2], f"{path}/online") for path in cpus]

        def online(page: Page) -> None:
            family = page.family("node_cpu_online", GAUGE, "CPUs that are online and being scheduled.")
            for number, path in online_paths:
                family.add(int(read_attribute(path) == "1"), f'{{cpu="{number}"}}')

        found.append(online)
    isolated_numbers = ranges(read_attribute(machine.sys("devices/system/cpu/isolated")) or "")
    if isolated_numbers:

        def isolated(page: Page) -> None:
            about = "Whether each core is isolated, information from /sys/devices/system/cpu/isolated."
            for number in isolated_numbers:
                page.gauge("node_cpu_isolated", about, 1, f'{{cpu="{number}"}}')

        found.append(isolated)
    return found


def ranges(text: str) -> list[int]:
    """The numbers of a kernel list such as `0-2,5`."""
    out: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        out.extend(range(int(first), int(last or first) + 1))
    return out


def stat(machine: Machine, options: Options) -> Callable[[Page], None]:
    """Interrupts, context switches, forks, boot time, processes that run or wait."""
    names = {
        "intr": ("node_intr_total", COUNTER, "Total number of interrupts serviced."),
        "ctxt": ("node_context_switches_total", COUNTER, "Total number of context switches."),
        "processes": ("node_forks_total", COUNTER, "Total number of forks."),
        "btime": ("node_boot_time_seconds", GAUGE, "Node boot time, in unixtime."),
        "procs_running": ("node_procs_running", GAUGE, "Number of processes in runnable state."),
        "procs_blocked": ("node_procs_blocked", GAUGE, "Number of processes blocked waiting for I/O to complete."),
    }

    def collect(page: Page) -> None:
        found = False
        for line in machine.proc("stat").split("\n"):
            word, _, rest = line.partition(" ")
            if word in names:
                # `intr` is followed by a count for every interrupt line: thousands, on a large machine.
                page.family(*names[word]).add(int(rest.partition(" ")[0]))
                found = True
            elif word == "softirq" and options.stat_softirq:
                family = page.family("node_softirqs_total", COUNTER, "Number of softirq calls.")
                for name, text in zip(SOFTIRQS, rest.split()[1:], strict=False):
                    family.add(int(text), f'{{vector="{name}"}}')
        if not found:
            raise NoData(f"{machine.procfs}/stat has none of {', '.join(names)}")

    return collect
