"""What rules cost: the time of one evaluation of 1,000 rules over 100,000 series, ours beside Prometheus.

`make bench-rules` runs it. Both servers scrape the same targets; then each in turn is given the same rules, in one
group, and says itself how long its evaluations took. Ours is measured a second time with nothing shared between rules.
Rules are made from the metrics that the targets show: ten of each, as people write them. What was recorded is compared
at the end: figures of servers that did not do the same work are not shown. The last line is for machines.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import BenchmarkError
from bench.replay import Targets, free_port
from bench.scratch import scratch
from bench.servers import OURS, Kind, Server, theirs

_SCRAPE_SECONDS = 5
_TOLERANCE = 0.05
_READY_SECONDS = 300.0
# How each server says what the evaluations of groups took.
_DURATION = {"bellbuoy": "bellbuoy_rule_group_duration_seconds", "prometheus": "prometheus_rule_group_duration_seconds"}
ALONE = replace(OURS, command=(*OURS.command, "--rules.shared-samples=0"))
RULES = (
    ("record", "bench:job_rate:{m}", "sum by (job) (rate({m}[1m]))"),
    ("record", "bench:instance_rate:{m}", "sum by (instance) (rate({m}[1m]))"),
    ("record", "bench:average:{m}", "avg by (job) (rate({m}[1m]))"),
    ("record", "bench:most:{m}", "max by (job) (rate({m}[1m]))"),
    ("record", "bench:quantile:{m}", "quantile by (job) (0.9, rate({m}[1m]))"),
    ("record", "bench:count:{m}", "count by (job) ({m})"),
    ("record", "bench:share:{m}", "sum by (job) (rate({m}[1m])) / ignoring (job) group_left sum(rate({m}[1m]))"),
    ("alert", "Fast:{m}", "rate({m}[1m]) > 1e15"),
    ("alert", "Negative:{m}", "{m} < -1e15"),
    ("alert", "Slow:{m}", "sum by (job) (rate({m}[1m])) < -1"),
)


@dataclass(frozen=True)
class Cost:
    """What a server's evaluations took, and what they recorded."""

    name: str
    durations: tuple[float, ...]
    """Seconds of each evaluation, by the server's own count."""
    processor_seconds: float
    """Of one evaluation: what the process used, less what scraping used in as long a time before."""
    recorded: float
    counted: float

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.durations)

    def with_another(self, other: "Cost") -> "Cost":
        """The same server's costs in two turns as one."""
        mine, theirs = len(self.durations), len(other.durations)
        processor = (self.processor_seconds * mine + other.processor_seconds * theirs) / (mine + theirs)
        return replace(other, durations=self.durations + other.durations, processor_seconds=processor)


def rule_file(metrics: Sequence[str], *, count: int, interval_seconds: int) -> str:
    """The rules as a file."""
    rules = []
    for metric in metrics:
        for kind, name, expr in RULES:
            more = {"for": "5m", "labels": {"severity": "page"}} if kind == "alert" else {}
            rules.append({kind: name.format(m=metric), "expr": expr.format(m=metric), **more})
    # JSON is YAML.
    return json.dumps({"groups": [{"name": "bench", "interval": f"{interval_seconds}s", "rules": rules[:count]}]})


def measure(server: Server, folder: Path, rules: str, *, evaluations: int, interval_seconds: int, name: str) -> Cost:
    """Give the rules to a server, wait until it has evaluated them so often, and take them away again."""
    file = folder / "rules.yml"
    scraping = _processor_rate(server, seconds=interval_seconds / 2)
    begun = _evaluations(server)[0]
    _load(server, file, rules)
    durations: list[float] = []
    last = _evaluations(server)
    used, since = 0.0, 0.0
    deadline = time.monotonic() + _READY_SECONDS + 3 * evaluations * interval_seconds
    # The first one finds nothing warm.
    while len(durations) < evaluations + 1:
        time.sleep(min(0.5, interval_seconds / 4))
        server.process.check()
        now = _evaluations(server)
        if now[0] > last[0]:
            durations += [(now[1] - last[1]) / (now[0] - last[0])] * (now[0] - last[0])
            last = now
            if since == 0.0:
                used, since = server.process.processor_seconds(), time.monotonic()
        if time.monotonic() > deadline:
            raise BenchmarkError(
                f"cannot measure {name}: {last[0] - begun} evaluations within the time; see {server.process.log}"
            )
    used, since = server.process.processor_seconds() - used, time.monotonic() - since
    at = time.time()
    recorded = server.query('count({__name__=~"bench:.+"})', at=at)
    counted = server.query('sum({__name__=~"bench:count:.+"})', at=at)
    _load(server, file, "groups: []")
    measured = tuple(durations[1:])
    return Cost(name, measured, max(0.0, used - scraping * since) / len(measured), recorded, counted)


def _processor_rate(server: Server, *, seconds: float) -> float:
    """What the server uses of a processor without rules."""
    used, began = server.process.processor_seconds(), time.monotonic()
    time.sleep(seconds)
    return (server.process.processor_seconds() - used) / (time.monotonic() - began)


def _load(server: Server, file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)
    os.kill(server.process.pid, signal.SIGHUP)


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
    return body.decode()


def _evaluations(server: Server) -> tuple[int, float]:
    """How many evaluations of groups there were, and what they took together."""
    text = _page(f"{server.url}/metrics")
    metric = _DURATION[server.kind.name]
    found = {part: re.search(rf"^{metric}_{part} (\S+)$", text, re.MULTILINE) for part in ("count", "sum")}
    count, total = (float(match[1]) if match else 0.0 for match in found.values())
    return round(count), total


def metrics_of(server: Server, *, count: int) -> list[str]:
    """The metrics with the most series."""
    query = urllib.parse.urlencode({"query": f'topk({count}, count by (__name__) ({{job!=""}}))'})
    result = json.loads(_page(f"{server.url}/api/v1/query?{query}"))["data"]["result"]
    names = sorted(one["metric"]["__name__"] for one in result)
    if len(names) < count:
        raise BenchmarkError(f"cannot make rules: the targets show {len(names)} metrics, and {count} are needed")
    return names


def compare(ours: Cost, other: Cost) -> None:
    """Raise if they did not do the same work."""
    print(f"{ours.name} recorded {ours.recorded:,.0f} series, {other.name} {other.recorded:,.0f}", file=sys.stderr)
    for what, our, their in (
        ("series recorded", ours.recorded, other.recorded),
        ("series counted", ours.counted, other.counted),
    ):
        if our <= 0 or abs(our - their) > _TOLERANCE * max(our, their):
            raise BenchmarkError(f"cannot compare: {what} {our:,.0f} and {their:,.0f}")


def run(folder: Path, args: argparse.Namespace) -> list[Cost]:
    """Scrape, then evaluate on each server in turn: ours, ours with nothing shared, the peer."""
    targets = Targets(args.targets, free_port(), args.scrapes)
    every = {"scrape_interval": f"{args.scrape_interval}s", "scrape_timeout": f"{args.scrape_interval}s"}
    kinds: list[tuple[str, Kind]] = [("bellbuoy", OURS), ("nothing shared", ALONE), ("prometheus", theirs(args.peer))]
    with targets.serve(folder) as replay, contextlib.ExitStack() as stack:
        targets.wait(replay)
        servers = []
        for name, kind in kinds:
            place = folder / name.replace(" ", "-")
            configuration = {
                "global": every,
                "scrape_configs": targets.scrape_configs(plain={}),
                "rule_files": ["rules*.yml"],
            }
            server = kind.start(place, configuration=json.dumps(configuration), port=free_port())
            servers.append((name, place, stack.enter_context(server)))
        for _, _, server in servers:
            server.wait_until_ready()
        for _, _, server in servers:
            server.wait_until_scraping()
        time.sleep(args.warm_up)
        metrics = metrics_of(servers[0][2], count=-(-args.rules // len(RULES)))
        rules = rule_file(metrics, count=args.rules, interval_seconds=args.interval)
        names = "|".join(metrics)
        series = servers[0][2].query(f'count({{__name__=~"{names}"}})', at=time.time())
        print(f"{args.rules} rules over {series:,.0f} series of {len(metrics)} metrics", file=sys.stderr)
        costs: dict[str, Cost] = {}
        # In turns, so that what else the machine does meets all of them.
        for turn in range(args.turns):
            for name, place, server in servers:
                print(f"turn {turn + 1}, {name}: {args.evaluations} evaluations", file=sys.stderr)
                cost = measure(
                    server, place, rules, evaluations=args.evaluations, interval_seconds=args.interval, name=name
                )
                costs[name] = costs[name].with_another(cost) if name in costs else cost
    ours, *others = costs.values()
    for other in others:
        compare(ours, other)
    return [ours, *others]


def table(costs: Sequence[Cost]) -> str:
    """For people."""
    lines = [f"{'server':16}{'s an evaluation':>18}{'processor s':>14}{'evaluations':>14}{'series recorded':>18}"]
    lines += [
        f"{one.name:16}{one.seconds:>18.3f}{one.processor_seconds:>14.3f}{len(one.durations):>14}{one.recorded:>18,.0f}"
        for one in costs
    ]
    return "\n".join(lines)


def ratios(costs: Sequence[Cost]) -> str:
    """For machines: ours over theirs, and ours over ours with nothing shared; lower is better."""
    ours, alone, peer = costs
    pairs = {
        "rules": ours.seconds / peer.seconds,
        "rules_cpu": ours.processor_seconds / peer.processor_seconds,
        "rules_shared": ours.processor_seconds / alone.processor_seconds,
    }
    return "ratios: " + " ".join(f"{name}={value:.3f}" for name, value in pairs.items())


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rules", description="What rules cost, ours and Prometheus.")
    add = parser.add_argument
    add("--rules", type=int, default=1000, help="how many (default: %(default)s)")
    add("--targets", type=int, default=100, help="of about 1,000 series each (default: %(default)s)")
    add("--scrapes", type=int, help="show only so many of each recording; ready sooner (default: all)")
    add("--scrape-interval", type=int, default=_SCRAPE_SECONDS, help="seconds (default: %(default)s)")
    add("--warm-up", type=float, default=75, help="seconds of scraping before the rules (default: %(default)s)")
    add("--interval", type=int, default=20, help="seconds between evaluations (default: %(default)s)")
    add("--evaluations", type=int, default=2, help="that are measured in each turn (default: %(default)s)")
    add("--turns", type=int, default=2, help="of each server (default: %(default)s)")
    add("--peer", type=Path, metavar="PROGRAM", help="a Prometheus to compare with (default: 3.16, built if need be)")
    add("--keep", action="store_true", help="keep storages and logs, and say where")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _arguments(arguments)
    with scratch(keep=args.keep) as folder:
        try:
            costs = run(folder, args)
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    print(f"{args.rules} rules, {os.cpu_count()} processors")
    print(table(costs))
    print(ratios(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
