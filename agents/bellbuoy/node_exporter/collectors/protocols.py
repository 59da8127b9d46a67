"""Network protocols: what the machine's namespace counts of IP, TCP and UDP, its sockets, and connection tracking."""

import re
import resource
from collections.abc import Callable

from bellbuoy.exposition import COUNTER, GAUGE, UNTYPED, Page
from bellbuoy.node_exporter.machine import Machine, NoData, read_attribute
from bellbuoy.node_exporter.options import Options


def _optional(machine: Machine, name: str) -> str:
    """A file of /proc/net that a kernel without IPv6 or without a module does not have."""
    try:
        return machine.net(name)
    except FileNotFoundError:
        return ""


class _Wanted:
    """Which columns of a line of names are asked for. The kernel has some 500 names and its lines do not change, so
    that each line is looked at once, and later scrapes take the columns."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._columns: dict[str, list[tuple[int, str, str]]] = {}

    def columns(self, names: str) -> list[tuple[int, str, str]]:
        """`(column, metric, help)` of the wanted names in `Protocol: name name …`."""
        found = self._columns.get(names)
        if found is None:
            protocol, *fields = names.split()
            protocol = protocol.removesuffix(":")
            found = self._columns[names] = [
                (at, f"node_netstat_{protocol}_{field}", f"Statistic {protocol}{field}.")
                for at, field in enumerate(fields, start=1)
                if self._pattern.search(f"{protocol}_{field}")
            ]
        return found

    def column6(self, name: str) -> list[tuple[int, str, str]]:
        """The same for a line of snmp6, whose one name begins with its protocol, up to the 6."""
        at = name.find("6")
        return self.columns(f"{name[: at + 1]}: {name[at + 1 :]}") if at >= 0 else []


def netstat(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_netstat_*`, the fields that the options ask for."""
    wanted = _Wanted(options.netstat_fields)

    def collect(page: Page) -> None:
        lines = (machine.net("netstat") + machine.net("snmp")).split("\n")
        # A line of names, then a line of values.
        rows = [(wanted.columns(names), values) for names, values in zip(lines[::2], lines[1::2], strict=False)]
        rows += [
            (wanted.column6(line.partition(" ")[0]), line) for line in _optional(machine, "snmp6").split("\n") if line
        ]
        for columns, values in rows:
            if columns:
                words = values.split()
                for at, name, about in columns:
                    page.family(name, UNTYPED, about).add(int(words[at]))

    return collect


def sockstat(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_sockstat_*`: sockets by protocol and state; memory in pages also as bytes."""
    page_bytes = resource.getpagesize()

    def collect(page: Page) -> None:
        for line in (_optional(machine, "sockstat") + _optional(machine, "sockstat6")).split("\n"):
            protocol, _, rest = line.partition(": ")
            words = rest.split()
            for state, text in zip(words[::2], words[1::2], strict=True):
                if protocol == "sockets":
                    page.gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.", int(text))
                    continue
                name, about = f"node_sockstat_{protocol}_{state}", f"Number of {protocol} sockets in state {state}."
                page.gauge(name, about, int(text))
                if state == "mem":
                    about = f"Number of {protocol} sockets in state mem_bytes."
                    page.gauge(f"{name}_bytes", about, int(text) * page_bytes)

    return collect


def udp_queues(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_udp_queues`: bytes in the queues of all UDP sockets together."""

    def collect(page: Page) -> None:
        family = page.family(
            "node_udp_queues", GAUGE, "Number of allocated memory in the kernel for UDP datagrams in bytes."
        )
        for version, name in (("v4", "udp"), ("v6", "udp6")):
            text = _optional(machine, name)
            if not text:
                continue
            sent = received = 0
            for line in text.split("\n")[1:]:
                words = line.split()
                if len(words) > 4:
                    waiting_to_send, _, waiting_to_read = words[4].partition(":")
                    sent += int(waiting_to_send, 16)
                    received += int(waiting_to_read, 16)
            family.add(sent, f'{{queue="tx",ip="{version}"}}')
            family.add(received, f'{{queue="rx",ip="{version}"}}')
        if not family.lines:
            raise NoData("this kernel has neither /proc/net/udp nor udp6")

    return collect


# Columns of /proc/net/softnet_stat, all hexadecimal, a line for each processor; newer kernels have more of them.
SOFTNET = (
    (0, "processed_total", COUNTER, "Number of processed packets"),
    (1, "dropped_total", COUNTER, "Number of dropped packets"),
    (2, "times_squeezed_total", COUNTER, "Number of times processing packets ran out of quota"),
    (8, "cpu_collision_total", COUNTER, "Number of collision occur while obtaining device lock while transmitting"),
    (9, "received_rps_total", COUNTER, "Number of times cpu woken up received_rps"),
    (10, "flow_limit_count_total", COUNTER, "Number of times flow limit has been reached"),
    (11, "backlog_len", GAUGE, "Softnet backlog status"),
)
_SOFTNET_CPU = 12


def softnet(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_softnet_*`: how each processor keeps up with packets."""

    def collect(page: Page) -> None:
        families = [page.family(f"node_softnet_{name}", kind, about) for _, name, kind, about in SOFTNET]
        for row, line in enumerate(filter(None, machine.net("softnet_stat").split("\n"))):
            words = line.split()
            # Processors that are off have no line, so the row is their number only where the kernel does not say it.
            cpu = int(words[_SOFTNET_CPU], 16) if len(words) > _SOFTNET_CPU else row
            for family, (column, *_) in zip(families, SOFTNET, strict=True):
                # A kernel that does not count it has a zero to the reference.
                family.add(int(words[column], 16) if column < len(words) else 0, f'{{cpu="{cpu}"}}')

    return collect


CONNTRACK = {
    "found": "Number of searched entries which were successful.",
    "invalid": "Number of packets seen which can not be tracked.",
    "ignore": "Number of packets seen which are already connected to a conntrack entry.",
    "insert": "Number of entries inserted into the list.",
    "insert_failed": "Number of entries for which list insertion was attempted but failed.",
    "drop": "Number of packets dropped due to conntrack failure.",
    "early_drop": "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached.",
    "search_restart": "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
}


def conntrack(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_nf_conntrack_*`.

    The sysctl that counts entries follows its reader's namespace, as does all of /proc/sys/net; the same count stands
    in each row of the statistics, which process 1 shows for the host. The limit is one for all namespaces.
    """

    def collect(page: Page) -> None:
        limit = read_attribute(f"{machine.procfs}/sys/net/netfilter/nf_conntrack_max")
        lines = _optional(machine, "stat/nf_conntrack").split("\n")
        if limit is None or len(lines) < 2:
            raise NoData("connection tracking is not loaded")
        names = lines[0].split()
        rows = [[int(text, 16) for text in line.split()] for line in lines[1:] if line]
        sums = {name: sum(row[at] for row in rows) for at, name in enumerate(names)}
        page.gauge(
            "node_nf_conntrack_entries",
            "Number of currently allocated flow entries for connection tracking.",
            rows[0][names.index("entries")],
        )
        page.gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.", int(limit))
        for name, about in CONNTRACK.items():
            page.gauge(f"node_nf_conntrack_stat_{name}", about, sums.get(name, 0))

    return collect
