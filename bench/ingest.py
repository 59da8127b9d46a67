"""What scraping costs: processor time a sample, memory and disk, ours beside Prometheus and VictoriaMetrics.

`make bench-ingest` runs it. All servers scrape the same targets at the same time, once for each form, each time with an
empty storage: a warm-up, then a window in which they do nothing else. Afterwards, so that it costs the window nothing,
they are asked what they stored: figures of servers that did not do the same work are not shown. With several sizes a
line tells how costs grow. The last line is for machines.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchmarkError
from bench.processes import disk_bytes
from bench.replay import Targets, free_port
from bench.scratch import scratch
from bench.servers import OURS, Kind, Server, theirs, victoria

# How far the servers may differ in what they stored: a server that is starved of the processor skips some scrapes.
_TOLERANCE = 0.05
# They scrape at phases of their own, so a window's ends cut off up to one scrape each: in a short one that is more.
_SCRAPES_CUT_OFF = 1.5
# What was stored can be asked for after a while: in VictoriaMetrics two seconds.
_SEEN_SECONDS = 2.5
_ALL, _SOME, _COUNTED_TARGETS = '{job!=""}', '{__name__=~"process_.*|go_.*"}', 200
# A pod of 35 is replaced every tenth scrape.
_CHURN_SCRAPES = 10
# With more series targets are scraped less often: the sizes shall differ in series and not in samples a second.
_SERIES_A_SECOND = 100_000


@dataclass(frozen=True)
class Form:
    """What is scraped, and how."""

    name: str
    targets: int = 100
    series: int | None = None
    compression: bool = False
    features: bool = False
    """OpenMetrics with exemplars, metadata, relabeling."""
    churn: bool = False


FORMS = (
    Form("plain"),
    Form("gzip", compression=True),
    Form("features", compression=True, features=True),
    Form("small", targets=200, series=300),
    Form("churn", targets=200, series=300, churn=True),
)


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
    def of(cls, server: Server, *, at: float, seconds: float, selector: str) -> "Contents":
        return cls(
            series=server.query(f"count({selector})", at=at),
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
    targets: Targets,
    folder: Path,
    *,
    peers: Sequence[Kind],
    form: Form,
    warm_up: float,
    seconds: float,
    interval: int = 1,
) -> list[Cost]:
    """One window of all servers: ours, the peer, and who else scraped the same. The targets must be there."""
    pods = folder / "pods" if form.churn else None
    if pods is not None:
        pods.mkdir(parents=True)
        targets.write_pods(pods, 0)
    every = {"scrape_interval": f"{interval}s", "scrape_timeout": f"{interval}s"}
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in (OURS, *peers):
            configs = targets.scrape_configs(plain={} if form.compression else kind.plain, pods=pods)
            # JSON is YAML.
            configuration = json.dumps({"global": every, "scrape_configs": configs})
            server = kind.start(
                folder / kind.name, configuration=configuration, port=free_port(), features=form.features
            )
            servers.append(stack.enter_context(server))
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
        for tick in _ticks(seconds):
            if pods is not None and tick % (_CHURN_SCRAPES * interval) == 0:
                targets.write_pods(pods, tick // (_CHURN_SCRAPES * interval) + 1)
            for server, reading in zip(servers, readings, strict=True):
                server.process.check()
                reading.resident.append(server.process.resident_bytes())
        costs = [_cost(server, reading, form=form.name) for server, reading in zip(servers, readings, strict=True)]
        # What was scraped last has been stored by then.
        at = time.time() - 1
        time.sleep(_SEEN_SECONDS)
        # Of very many series some are counted: it takes minutes otherwise.
        selector = _ALL if targets.count <= _COUNTED_TARGETS else _SOME
        contents = [Contents.of(server, at=at, seconds=seconds, selector=selector) for server in servers]
    compare((costs[0], costs[1]), (contents[0], contents[1]), targets, interval=interval)
    for cost, said in zip(costs[2:], contents[2:], strict=True):
        try:
            compare((costs[0], cost), (contents[0], said), targets, interval=interval)
        except BenchmarkError as error:
            print(f"no figures of {cost.kind.name}: {error}", file=sys.stderr)
            costs.remove(cost)
    return costs


def _ticks(seconds: float) -> Iterator[int]:
    """One a second, until they are over."""
    end, tick = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        yield tick
        tick += 1


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


def compare(
    costs: tuple[Cost, Cost], contents: tuple[Contents, Contents], targets: Targets, *, interval: int = 1
) -> None:
    """Raise if the servers, ours first, did not do the same work."""
    (our_cost, their_cost), (ours, theirs) = costs, contents
    tolerance = max(_TOLERANCE, _SCRAPES_CUT_OFF * interval / our_cost.seconds)
    pairs = {
        "samples appended": (our_cost.samples / our_cost.seconds, their_cost.samples / their_cost.seconds),
        "samples scraped": (ours.scraped, theirs.scraped),
        "series": (ours.series, theirs.series),
        "targets up": (ours.up, theirs.up),
    }
    shown = ", ".join(f"{name} {our:,.0f} and {their:,.0f}" for name, (our, their) in pairs.items())
    print(f"{our_cost.form}: {our_cost.kind.name} and {their_cost.kind.name} say: {shown}", file=sys.stderr)
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
    # Of the two main forms, where they were measured.
    main = [pair for pair in pairs if pair[0].form in ("plain", "gzip")] or pairs
    parts.append(f"rss={max(our.resident_bytes / their.resident_bytes for our, their in main):.3f}")
    return "ratios: " + " ".join(parts)


def growth(name: str, sizes: Sequence[int], costs: Sequence[Cost]) -> str:
    """How a server's cost goes up from the first size to the last."""
    steps = ", ".join(f"{size:,} series {cost.processor_us:.3f} µs" for size, cost in zip(sizes, costs, strict=True))
    return f"{name}, processor a sample: {steps}: {costs[-1].processor_us / costs[0].processor_us - 1:+.0%}"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ingest", description="What scraping costs, ours, Prometheus and VictoriaMetrics."
    )
    parser.add_argument("--seconds", type=float, default=60, help="the window that is measured (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=20, help="seconds before it (default: %(default)s)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--targets", type=int, help="how many (default: 100 of about 1,000 series, or the form's)")
    size.add_argument(
        "--series",
        type=int,
        action="append",
        help="the same as a number of series, for one form: 10000, 100000, 1000000 (scraped every ten seconds); "
        "with several of them costs are compared",
    )
    parser.add_argument(
        "--scrapes",
        type=int,
        help="show only so many of each recording, over and over; ready sooner (default: all)",
    )
    names = [form.name for form in FORMS]
    parser.add_argument("--form", choices=names, action="append", help="may be repeated (default: all; of sizes plain)")
    parser.add_argument(
        "--peer",
        type=Path,
        metavar="PROGRAM",
        help="a Prometheus to compare with (default: 3.16, which is built if it is not there)",
    )
    parser.add_argument("--no-victoria", action="store_true", help="without VictoriaMetrics")
    parser.add_argument("--keep", action="store_true", help="keep storages and logs, and say where")
    return parser.parse_args(arguments)


def _peers(args: argparse.Namespace) -> list[Kind]:
    """Prometheus, and VictoriaMetrics where it is built here; that it is not is said."""
    peers = [theirs(args.peer)]
    if not args.no_victoria:
        try:
            peers.append(victoria())
        except BenchmarkError as error:
            print(f"no figures of victoriametrics: {error}", file=sys.stderr)
    return peers


def _windows(args: argparse.Namespace) -> Iterator[tuple[Form, int, int]]:
    """What is measured: the form, how many targets, and the seconds between two scrapes."""
    chosen = args.form or (["plain"] if args.series else [form.name for form in FORMS])
    for form in (form for form in FORMS if form.name in chosen):
        if not args.series:
            yield form, args.targets or form.targets, 1
        for series in args.series or ():
            count = max(1, series // (form.series or 1000))
            yield form, count, max(1, round(series / _SERIES_A_SECOND))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(arguments)
    windows: list[list[Cost]] = []
    with scratch(keep=args.keep) as folder:
        try:
            peers = _peers(args)
            for number, (form, count, interval) in enumerate(_windows(args)):
                place = folder / f"{number}-{form.name}"
                place.mkdir()
                targets = Targets(count, free_port(), args.scrapes, form.series, form.features)
                # A few scrapes of each target, however seldom there is one.
                warm_up, seconds = args.warm_up, args.seconds
                if interval > 1:
                    warm_up, seconds = max(warm_up, 4 * interval), max(seconds, 6 * interval)
                every = f"{count} targets every {interval} s"
                print(f"{form.name}: {every}, {warm_up:g} s to warm up, {seconds:g} s to measure", file=sys.stderr)
                with targets.serve(place) as replay:
                    targets.wait(replay)
                    windows.append(
                        measure(
                            targets,
                            place,
                            peers=peers,
                            form=form,
                            warm_up=warm_up,
                            seconds=seconds,
                            interval=interval,
                        )
                    )
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{len(windows)} windows on {os.cpu_count()} processors")
    print(table([cost for window in windows for cost in window]))
    if args.series and len(args.series) > 1:
        for name in dict.fromkeys(window[0].form for window in windows):
            of_form = [window for window in windows if window[0].form == name]
            for which, kind in enumerate((OURS, peers[0])):
                print(growth(f"{kind.name}, {name}", args.series, [window[which] for window in of_form]))
    # Of several sizes the last one's.
    pairs = {window[0].form: (window[0], window[1]) for window in windows}
    print(ratios(list(pairs.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
