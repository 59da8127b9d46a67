"""How late scrapes are, while nobody asks and while four clients ask for what takes seconds. `make bench-lateness`.

Targets answer here, and write down when each was asked. Scrapes of one target lie on a grid of an interval; how much
later than the earliest of them, by the grid, one comes is its lateness. It is measured at the targets, so that the
server's own clock has no say; what this program itself is late by is in it. Exits 1 when under load a scrape in a
hundred is later than --most, or when one is missing.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from bench.errors import BenchmarkError
from bench.replay import free_port
from bench.scratch import scratch
from bench.servers import OURS, Kind, Server, theirs

INTERVAL_SECONDS = 1.0
CLIENTS = 4
# Each step of it looks at a minute of every series.
QUERY = 'sum(quantile_over_time(0.9, {__name__="heavy"}[1m]))'
RANGE_SECONDS = 60


class Targets:
    """Many targets at one port, told apart by path."""

    def __init__(self, *, count: int, series: int) -> None:
        self.arrivals: list[list[float]] = [[] for _ in range(count)]
        body = "# TYPE heavy gauge\n" + "".join(f'heavy{{n="{n}"}} {n}.5\n' for n in range(series))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\n\r\n"
        self._answer = (head + body).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; it ends with the server that keeps it, or with the loop."""
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                now = time.monotonic()
                self.arrivals[int(request.split(b" ", 2)[1].strip(b"/"))].append(now)
                writer.write(self._answer)
                await writer.drain()
        writer.close()


def lateness(arrivals: Sequence[float], interval: float) -> tuple[list[float], int]:
    """Seconds by which each came later than the earliest of them, by the grid; and how many of the grid are missing."""
    if not arrivals:
        return [], 0
    places = [round((one - arrivals[0]) / interval) for one in arrivals]
    offsets = [one - place * interval for one, place in zip(arrivals, places, strict=True)]
    first = min(offsets)
    return [one - first for one in offsets], places[-1] + 1 - len(set(places))


def _configuration(port: int, count: int) -> str:
    pools = [
        {
            "job_name": f"t{number}",
            "metrics_path": f"/{number}",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for number in range(count)
    ]
    return json.dumps({"scrape_configs": pools})


async def _client(session: aiohttp.ClientSession, server: Server, durations: list[float]) -> None:
    while True:
        start, end = time.monotonic(), time.time()
        params = {"query": QUERY, "start": f"{end - RANGE_SECONDS}", "end": f"{end}", "step": "1"}
        async with session.get(f"{server.url}/api/v1/query_range", params=params) as response:
            said = await response.text()
            if response.status != 200:
                raise BenchmarkError(f"cannot measure {server.kind.name}: {said[:200]}")
        durations.append(time.monotonic() - start)


def _percentile(numbers: Sequence[float], percent: int) -> float:
    return statistics.quantiles(numbers, n=100, method="inclusive")[percent - 1] if len(numbers) > 1 else 0.0


async def _phase(targets: Targets, seconds: float, *, name: str) -> tuple[list[float], int]:
    for one in targets.arrivals:
        one.clear()
    await asyncio.sleep(seconds)
    found = [lateness(one, INTERVAL_SECONDS) for one in targets.arrivals]
    late = sorted(number for numbers, _ in found for number in numbers)
    missing = sum(count for _, count in found)
    shown = "  ".join(f"p{percent} {_percentile(late, percent) * 1000:7.2f} ms" for percent in (50, 90, 99))
    worst = max(late, default=0.0) * 1000
    print(f"{name:24} {len(late):6} scrapes  {shown}  max {worst:7.2f} ms  missing {missing}")
    return late, missing


async def measure(kind: Kind, folder: Path, options: argparse.Namespace) -> tuple[float, float, int]:
    """p99 in seconds while nobody asks and under load, and the scrapes that are missing under load."""
    targets = Targets(count=options.targets, series=options.series)
    port, own = free_port(), free_port()
    listener = await asyncio.start_server(targets.serve, "127.0.0.1", own)
    async with listener, aiohttp.ClientSession() as session:
        with kind.start(folder, configuration=_configuration(own, options.targets), port=port) as server:
            await asyncio.to_thread(server.wait_until_ready)
            await asyncio.to_thread(server.wait_until_scraping)
            await asyncio.sleep(options.warm)
            idle, _ = await _phase(targets, options.seconds, name=f"{kind.name}, nobody asks")
            durations: list[float] = []
            clients = [asyncio.create_task(_client(session, server, durations)) for _ in range(CLIENTS)]
            await asyncio.sleep(2)
            loaded, missing = await _phase(targets, options.seconds, name=f"{kind.name}, {CLIENTS} clients")
            for one in clients:
                if one.done():
                    one.result()
                one.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            middle = statistics.median(durations) if durations else float("nan")
            print(f"{'':24} {len(durations):6} queries, {middle:.2f} s in the median")
        listener.close()
    return _percentile(idle, 99), _percentile(loaded, 99), missing


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.lateness", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=50, help="targets (default: %(default)s)")
    parser.add_argument("--series", type=int, default=200, help="series of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to look, twice (default: %(default)s)")
    parser.add_argument("--warm", type=float, default=30.0, help="seconds of samples before (default: %(default)s)")
    parser.add_argument("--most", type=float, default=0.25, help="p99 in seconds that may be (default: %(default)s)")
    parser.add_argument("--peer", action="store_true", help="look at Prometheus in the same way, too")
    options = parser.parse_args(arguments)
    found = {}
    try:
        with scratch("bellbuoy-lateness-") as folder:
            for kind in (OURS, *([theirs()] if options.peer else [])):
                found[kind.name] = asyncio.run(measure(kind, folder / kind.name, options))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    idle, loaded, missing = found[OURS.name]
    print(f"lateness: idle={idle * 1000:.2f}ms loaded={loaded * 1000:.2f}ms missing={missing}")
    return int(loaded > options.most or missing > 0)


if __name__ == "__main__":
    sys.exit(main())
