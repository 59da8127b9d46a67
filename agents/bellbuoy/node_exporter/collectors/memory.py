"""Memory: every line of /proc/meminfo, and the paging counters of /proc/vmstat."""

import re
from collections.abc import Callable

from bellbuoy.exposition import GAUGE, UNTYPED, Page
from bellbuoy.node_exporter.machine import Machine
from bellbuoy.node_exporter.options import Options

_BRACKETS = re.compile(r"\((.*)\)")


def meminfo(machine: Machine, _: Options) -> Callable[[Page], None]:
    """`node_memory_*`: the name is the line's, brackets become underscores, and `kB` becomes bytes."""
    names: dict[str, tuple[str, str]] = {}

    def name_of(key: str, unit: str) -> tuple[str, str]:
        field = _BRACKETS.sub(r"_\1", key) + ("_bytes" if unit else "")
        return f"node_memory_{field}", f"Memory information field {field}."

    def collect(page: Page) -> None:
        for line in machine.proc("meminfo").split("\n"):
            key, _, rest = line.partition(":")
            words = rest.split()
            if not words:
                continue
            unit = words[1] if len(words) > 1 else ""
            if key not in names:
                names[key] = name_of(key, unit)
            name, about = names[key]
            page.family(name, GAUGE, about).add(int(words[0]) * (1024 if unit else 1))

    return collect


def vmstat(machine: Machine, options: Options) -> Callable[[Page], None]:
    """`node_vmstat_*`, the fields that the options ask for."""
    wanted = re.compile(options.vmstat_fields)
    names: dict[str, str | None] = {}

    def collect(page: Page) -> None:
        for line in machine.proc("vmstat").split("\n"):
            field, _, text = line.partition(" ")
            if not text:
                continue
            if field not in names:
                names[field] = f"node_vmstat_{field}" if wanted.search(field) else None
            name = names[field]
            if name is not None:
                page.family(name, UNTYPED, f"/proc/vmstat information field {field}.").add(int(text))

    return collect
