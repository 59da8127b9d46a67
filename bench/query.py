"""What queries cost over HTTP: time and memory, ours beside Prometheus 3.16.

`make bench-query` runs it.

Both serve the same samples, written beforehand: from a head two hours deep, from blocks, and from thirty days of
blocks. For each case both servers are started anew. The first request is the cold one, and what both answer to it must
be the same; then they are asked in turns, each time for a window a little earlier, and the median is shown; then, in
some cases, by several clients at once. What memory a server had at most is looked at before it is stopped. The last
line is for machines.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchmarkError
from bench.query_cases import CASES, GOALS, Case
from bench.query_client import Client, Window, compare
from bench.query_data import PLACES, RETENTION_SECONDS, Data, Place, Size, prepare, windows
from bench.replay import free_port
from bench.scratch import scratch
from bench.servers import OURS, Kind, Server, theirs

SIZES = {
    "full": Size(),
    "quick": Size(targets=200, head_hours=1, block_hours=3, month_hours=72, month_series=200),
    "tiny": Size(targets=10, head_hours=0.5, block_hours=2.5, month_hours=24, month_series=20),
}
_CLIENTS = 4
_FLAGS = {
    "bellbuoy": (f"--storage.retention={RETENTION_SECONDS}s",),
    "prometheus": (f"--storage.tsdb.retention.time={RETENTION_SECONDS}s",),
}
_WAYS = ("cold", "warm", "clients")


@dataclass(frozen=True)
class Figures:
    """What one server took for one case, in milliseconds and bytes."""

    cold: float
    warm: float
    clients: float | None
    peak_bytes: int

    def of(self, way: str) -> float | None:
        """By its name."""
        return {"cold": self.cold, "warm": self.warm, "clients": self.clients}[way]


@dataclass(frozen=True)
class Row:
    """A case from one place, of both."""

    case: Case
    place: Place
    points: int
    ours: Figures
    theirs: Figures

    def ratio(self, way: str) -> float | None:
        """Ours over theirs, lower is better."""
        our, their = self.ours.of(way), self.theirs.of(way)
        return None if our is None or their is None else our / their

    @property
    def peak(self) -> float:
        return self.ours.peak_bytes / self.theirs.peak_bytes


@contextlib.contextmanager
def _started(kinds: Sequence[Kind], data: Data, folder: Path) -> Iterator[list[Server]]:
    """A server of each, on the folder that was written for it."""
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in kinds:
            server = kind.start(
                folder / kind.name,
                configuration="{}",
                port=free_port(),
                storage=data.folders[kind.name],
                flags=_FLAGS[kind.name],
            )
            servers.append(stack.enter_context(server))
        for server in servers:
            server.wait_until_ready()
        yield servers


def measure(case: Case, data: Data, kinds: Sequence[Kind], folder: Path, *, repeat: int) -> Row:
    """One case from one place. Ours is first in `kinds`."""
    times = windows(data, case.hours)
    with _started(kinds, data, folder) as servers:
        clients = [Client(server) for server in servers]
        window = next(times)
        first = [client.ask(case, window) for client in clients]
        points = compare(case, first[0][1], first[1][1])
        cold = [seconds for seconds, _ in first]
        first.clear()
        warm: list[list[float]] = [[], []]
        for _ in range(repeat):
            window = next(times)
            for client, found in zip(clients, warm, strict=True):
                found.append(client.ask(case, window)[0])
        for client in clients:
            client.close()
        together: list[float | None] = [None, None]
        if case.clients:
            asked = [[next(times) for _ in range(max(1, repeat // 2))] for _ in range(_CLIENTS)]
            together = [_together(server, case, asked) for server in servers]
        figures = [
            Figures(
                cold=cold[i] * 1e3,
                warm=statistics.median(warm[i]) * 1e3,
                clients=together[i],
                peak_bytes=server.process.peak_bytes(),
            )
            for i, server in enumerate(servers)
        ]
    return Row(case, data.place, points, *figures)


def _together(server: Server, case: Case, asked: Sequence[Sequence[Window]]) -> float:
    """The mean time of a request in milliseconds, with a client for each list."""

    def run(windows: Sequence[Window]) -> list[float]:
        client = Client(server)
        try:
            return [client.ask(case, window)[0] for window in windows]
        finally:
            client.close()

    with ThreadPoolExecutor(len(asked)) as pool:
        return statistics.fmean(seconds for found in pool.map(run, asked) for seconds in found) * 1e3


def table(rows: Sequence[Row]) -> str:
    """For people: a line for each case, place and way; times are ours, theirs, and their ratio."""

    def pair(row: Row, way: str) -> tuple[str, str]:
        our, their, ratio = row.ours.of(way), row.theirs.of(way), row.ratio(way)
        if our is None or their is None or ratio is None:
            return "", ""
        return f"{our:,.1f} / {their:,.1f}", f"{ratio:.3f}"

    titles = (title for way in _WAYS for title in (f"{way}, ms", "ratio"))
    lines: list[tuple[str, ...]] = [("case", "kind", "place", "points", *titles, "peak, MiB", "ratio")]
    for row in rows:
        times = (cell for way in _WAYS for cell in pair(row, way))
        peaks = f"{row.ours.peak_bytes / 2**20:,.0f} / {row.theirs.peak_bytes / 2**20:,.0f}"
        case = row.case.name, row.case.kind, row.place, f"{row.points:,}"
        lines.append((*case, *times, peaks, f"{row.peak:.3f}"))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def goals(rows: Sequence[Row]) -> Mapping[str, tuple[float, str]]:
    """The worst ratio of each kind, and which case it is."""
    found: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        for way in _WAYS:
            ratio = row.ratio(way)
            if ratio is not None:
                kind = f"{row.case.kind}_clients" if way == "clients" else row.case.kind
                found.setdefault(kind, []).append((ratio, f"{row.case.name} from {row.place}, {way}"))
    worst = {kind: max(of) for kind, of in found.items()}
    if rows:
        largest = max(rows, key=lambda row: row.theirs.peak_bytes)
        worst["peak"] = largest.peak, f"{largest.case.name} from {largest.place}"
    return worst


def ratios(rows: Sequence[Row]) -> str:
    """For machines: each case by name, place and way, and peak memory of the largest."""
    parts = [
        f"{row.case.name}_{row.place}_{way}={ratio:.3f}"
        for row in rows
        for way in _WAYS
        if (ratio := row.ratio(way)) is not None
    ]
    return "ratios: " + " ".join([*parts, f"peak={goals(rows)['peak'][0]:.3f}"])


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.query", description="What queries cost over HTTP, ours and Prometheus."
    )
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=f"of {names}")
    parser.add_argument("--place", choices=PLACES, action="append", help="may be repeated (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="a fifth of the series")
    size.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="to see that it runs")
    parser.add_argument("--repeat", type=int, default=7, help="warm requests; the median counts (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="written there once, and used again (default: a temporary one)")
    parser.add_argument("--peer", type=Path, metavar="PROGRAM", help="a Prometheus to compare with (default: 3.16)")
    args = parser.parse_args(arguments)
    if args.repeat < 1:
        parser.error("--repeat is at least 1")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(arguments)
    size = SIZES[args.size or "full"]
    rows: list[Row] = []
    with scratch() as folder:
        try:
            kinds = (OURS, theirs(args.peer))
            for place in PLACES:
                cases = [case for case in CASES if place in case.places and case.name in args.cases]
                if not cases or place not in (args.place or PLACES):
                    continue
                began = time.monotonic()
                data = prepare(place, (args.folder or folder) / place, size)
                print(f"{place}: {data.samples:,} samples, {time.monotonic() - began:.0f} s to write", file=sys.stderr)
                for case in cases:
                    rows.append(measure(case, data, kinds, folder / f"{place}-{case.name}", repeat=args.repeat))
                    print(table(rows[-1:]).splitlines()[1], file=sys.stderr, flush=True)
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{len(rows)} cases on {os.cpu_count()} processors, {args.repeat} warm requests each")
    print(table(rows))
    for kind, (ratio, where) in goals(rows).items():
        print(f"worst of {kind}: {ratio:.3f} ({where}); at most {GOALS[kind]:g} is the goal")
    print(ratios(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
