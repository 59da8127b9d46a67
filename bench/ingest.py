"""What scraping costs: processor time a sample, memory and disk, ours beside Prometheus. `make bench-ingest` runs it.

Both servers scrape the same targets at the same time, first plain, then gzip, each time with an empty storage: a
warm-up, then a window in which they do nothing else. Afterwards, so that it costs the window nothing, both are asked
what they stored: figures of servers that did not do the same work are not shown. The last line is for machines.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchmarkError
from bench.processes import disk_bytes
from bench.replay import Targets, free_port
from bench.servers import OURS, Kind, Server, theirs

# How far the servers may differ in what they stored: a server that is starved of the processor skips some scrapes.
_TOLERANCE = 0.05
# They scrape at phases of their own, so a window's ends cut off up to one scrape each: in a short one that is more.
_SCRAPES_CUT_OFF = 1.5
_FORMS = ("plain", "gzip")


@dataclass(frozen=True)
class Cost:
    """What a server used for what it stored, in one window."""

    kind: Kind
    form: str
    seconds: float
    samples: int
    processor_seconds: float
    resident_bytes: float
    """The mean over the window: a collector's heap goes up and down."""
    disk_bytes: int
    """Of all that it stored, the warm-up's as well."""
    disk_samples: int

    @property
    def processor_us(self) -> float:
        """Microseconds a sample."""
        return self.processor_seconds * 1e6 / self.samples


@dataclass(frozen=True)
class Contents:
    """What a server says it holds, by PromQL."""

    series: float
    scraped: float
    """Samples of all bodies scraped in the window."""
    up: float

    @classmethod
    def of(cls, server: Server, *, at: float, seconds: float) -> "Contents":
        return cls(
            series=server.query('count({job!=""})', at=at),
            scraped=server.query(f"sum(sum_over_time(scrape_samples_scraped[{round(seconds)}s]))", at=at),
            up=server.query("sum(up)", at=at),
        )


@dataclass
class _Reading:
    """A server's counters at the window's start, and its memory since."""

    samples: int
    processor_seconds: float
    at: float
    resident: list[int]


def measure(
    targets: Targets, folder: Path, *, peer: Kind, form: str, warm_up: float, seconds: float
) -> tuple[Cost, Cost]:
    """One window of both servers: ours, and the peer. The targets must be there."""
    configs = targets.scrape_configs(compression=form == "gzip")
    # JSON is YAML.
    configuration = json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": configs})
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(kind.start(folder / kind.name, configuration=configuration, port=free_port()))
            for kind in (OURS, peer)
        ]
        for server in servers:
            server.wait_until_ready()
        # The warm-up is as long for both, though one begins to scrape later.
        for server in servers:
            server.wait_until_scraping()
        time.sleep(warm_up)
        # Asking costs: it lies outside of what is measured, at both ends.
        readings = [
            _Reading(server.samples(), server.process.processor_seconds(), time.monotonic(), []) for server in servers
        ]
        for _ in _ticks(seconds):
            for server, reading in zip(servers, readings, strict=True):
                server.process.check()
                reading.resident.append(server.process.resident_bytes())
        ours, their = (_cost(server, reading, form=form) for server, reading in zip(servers, readings, strict=True))
        # What was scraped last has been stored by then.
        at = time.time() - 1
        contents = [Contents.of(server, at=at, seconds=seconds) for server in servers]
        compare((ours, their), (contents[0], contents[1]), targets)
    return ours, their


def _ticks(seconds: float) -> Iterator[None]:
    """One a second, until they are over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        yield


def _cost(server: Server, start: _Reading, *, form: str) -> Cost:
    processor_seconds = server.process.processor_seconds() - start.processor_seconds
    elapsed = time.monotonic() - start.at
    samples = server.samples()
    if samples == start.samples:
        raise BenchmarkError(f"cannot measure {server.kind.name}: it stored nothing; see {server.process.log}")
    return Cost(
        kind=server.kind,
        form=form,
        seconds=elapsed,
        samples=samples - start.samples,
        processor_seconds=processor_seconds,
        resident_bytes=statistics.fmean(start.resident),
        disk_bytes=disk_bytes(server.storage),
        disk_samples=samples,
    )


def compare(costs: tuple[Cost, Cost], contents: tuple[Contents, Contents], targets: Targets) -> None:
    """Raise if the servers, ours first, did not do the same work."""
    (our_cost, their_cost), (ours, theirs) = costs, contents
    tolerance = max(_TOLERANCE, _SCRAPES_CUT_OFF / our_cost.seconds)
    pairs = {
        "samples appended": (our_cost.samples / our_cost.seconds, their_cost.samples / their_cost.seconds),
        "samples scraped": (ours.scraped, theirs.scraped),
        "series": (ours.series, theirs.series),
        "targets up": (ours.up, theirs.up),
    }
    shown = ", ".join(f"{name} {our:,.0f} and {their:,.0f}" for name, (our, their) in pairs.items())
    print(f"{our_cost.form}: both say the same: {shown}", file=sys.stderr)
    if our_cost.samples <= 0 or min(ours.up, theirs.up) < targets.count * (1 - _TOLERANCE):
        raise BenchmarkError(f"cannot compare: of {targets.count} targets not all are up: {shown}")
    for name, (our, their) in pairs.items():
        if abs(our - their) > tolerance * max(our, their):
            raise BenchmarkError(f"cannot compare: the servers differ by more than {tolerance:.0%} in {name}: {shown}")


def table(costs: Sequence[Cost]) -> str:
    """For people."""
    rows = [("server", "form", "samples/s", "µs a sample", "RSS MiB", "disk MiB", "bytes a sample")]
    rows += [
        (
            cost.kind.name,
            cost.form,
            f"{cost.samples / cost.seconds:,.0f}",
            f"{cost.processor_us:.3f}",
            f"{cost.resident_bytes / 2**20:.0f}",
            f"{cost.disk_bytes / 2**20:.1f}",
            f"{cost.disk_bytes / cost.disk_samples:.2f}",
        )
        for cost in costs
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def ratios(pairs: Sequence[tuple[Cost, Cost]]) -> str:
    """For machines: of each window ours over theirs, so lower is better. Memory is the worse of the two forms."""
    parts = [f"ingest_cpu_{our.form}={our.processor_us / their.processor_us:.3f}" for our, their in pairs]
    parts.append(f"rss={max(our.resident_bytes / their.resident_bytes for our, their in pairs):.3f}")
    return "ratios: " + " ".join(parts)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ingest", description="What scraping costs, ours and Prometheus."
    )
    parser.add_argument("--seconds", type=float, default=60, help="the window that is measured (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=20, help="seconds before it (default: %(default)s)")
    parser.add_argument("--targets", type=int, default=100, help="of about 1,000 series each (default: %(default)s)")
    parser.add_argument(
        "--scrapes",
        type=int,
        help="show only so many of each recording, over and over; ready sooner (default: all)",
    )
    parser.add_argument("--form", choices=_FORMS, action="append", help="may be repeated (default: both)")
    parser.add_argument(
        "--peer",
        type=Path,
        metavar="PROGRAM",
        help="a Prometheus to compare with (default: 3.16, which is built if it is not there)",
    )
    parser.add_argument("--keep", action="store_true", help="keep storages and logs, and say where")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(arguments)
    # Servers and targets must not outlive a run that is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="bellbuoy-bench-"))
    targets = Targets(args.targets, free_port(), args.scrapes)
    forms = [form for form in _FORMS if form in (args.form or _FORMS)]
    pairs: list[tuple[Cost, Cost]] = []
    try:
        peer = theirs(args.peer)
        with targets.serve(folder) as replay:
            targets.wait(replay)
            for form in forms:
                print(f"{form}: {args.warm_up:g} s to warm up, {args.seconds:g} s to measure", file=sys.stderr)
                pair = measure(targets, folder / form, peer=peer, form=form, warm_up=args.warm_up, seconds=args.seconds)
                pairs.append(pair)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if args.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    print(f"{args.targets} targets, every second, on {os.cpu_count()} processors")
    print(table([cost for pair in pairs for cost in pair]))
    print(ratios(pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
