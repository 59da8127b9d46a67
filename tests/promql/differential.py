"""Asks Prometheus 3.16 and our server the same generated queries of the same data, and tells what differs.

`make differential QUERIES=5000 SEED=7` runs many. Equal are: success or error with its kind and text, the type of the
result, label sets, timestamps, values within 1e-9 of each other, warnings and infos. The order of series counts where
a query sorts.
"""

import argparse
import asyncio
import contextlib
import math
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.errors import BenchmarkError
from bench.replay import free_port
from bench.servers import OURS, Server, theirs
from tests.promql.generated import Generator, Query
from tests.promql.same_data import RETENTION, send, series, write

QUERIES = 600
SEED = 20261124
_AT_ONCE = 8
_TOLERANCE = 1e-9
_FEATURES = (
    "promql-experimental-functions",
    "promql-delayed-name-removal",
    "promql-duration-expr",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
)
# The API shows so many annotations and counts the rest.
_ANNOTATIONS = 10
# Errors name one of several groups that do not match: whichever was met first.
_EXAMPLE = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Difference:
    """A query, and what is not the same."""

    query: Query
    reason: str

    def __str__(self) -> str:
        return f"{self.query.parameters}\n    {self.reason}"


@dataclass(frozen=True)
class Outcome:
    """What came of all queries."""

    seed: int
    asked: int
    filled: int
    """How many both answered with at least one sample."""
    errors: int
    differences: list[Difference]

    def __str__(self) -> str:
        lines = [f"{len(self.differences)} of {self.asked} queries of seed {self.seed} differ; "
                 f"{self.filled} have samples, {self.errors} are errors"]  # fmt: skip
        return "\n".join(lines + [f"  {one}" for one in self.differences])


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Ours and Prometheus, both with the same data."""
    found = series()
    write(folder / "storage", found)
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(
            theirs().start(
                folder / "prometheus",
                configuration="{}",
                port=free_port(),
                flags=(
                    "--web.enable-remote-write-receiver",
                    f"--storage.tsdb.retention.time={RETENTION}",
                    f"--enable-feature={','.join(_FEATURES)}",
                ),
            )
        )
        ours = stack.enter_context(
            OURS.start(
                folder / "bellbuoy",
                configuration="{}",
                port=free_port(),
                storage=folder / "storage",
                flags=(f"--storage.retention={RETENTION}",),
            )
        )
        for one in (reference, ours):
            one.wait_until_ready()
        send(reference.url, found)
        yield ours, reference


async def run(ours: Server, reference: Server, *, seed: int, queries: int) -> Outcome:
    """Ask for so many."""
    generator = Generator(seed)
    wanted = [generator.query() for _ in range(queries)]
    limit = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession() as session:

        async def ask(query: Query) -> tuple[Any, Any]:
            async with limit:
                mine, their = await asyncio.gather(*(_ask(session, one.url, query) for one in (ours, reference)))
                return mine, their

        answers = await asyncio.gather(*map(ask, wanted))
    differences = [
        Difference(query, reason)
        for query, (mine, their) in zip(wanted, answers, strict=True)
        if (reason := difference(query, mine, their))
    ]
    both = [pair for pair in answers if all(one["status"] == "success" for one in pair)]
    filled = sum(all(one["data"]["result"] for one in pair) for pair in both)
    errors = sum(their["status"] == "error" for _, their in answers)
    return Outcome(seed=seed, asked=queries, filled=filled, errors=errors, differences=differences)


async def _ask(session: aiohttp.ClientSession, url: str, query: Query) -> Any:
    path = "query_range" if query.step_ms else "query"
    async with session.post(f"{url}/api/v1/{path}", data=query.parameters) as response:
        return await response.json() | {"code": response.status}


def difference(query: Query, ours: Any, theirs: Any) -> str | None:
    """The first thing that is not the same in two answers, or None."""
    # How a syntax error is worded depends on how a parser is made.
    for field in ("code", "status", "errorType", *(() if query.is_cut else ("error",))):
        mine, wanted = (_EXAMPLE.sub("{}", str(one.get(field))) for one in (ours, theirs))
        if mine != wanted:
            return f"{field}: ours {mine}, theirs {wanted}; " + str([one.get("error", "") for one in (ours, theirs)])
    if ours["status"] == "error":
        return None
    return _of_results(query, ours["data"], theirs["data"]) or _of_annotations(ours, theirs)


def _of_annotations(ours: Any, theirs: Any) -> str | None:
    for kind in ("warnings", "infos"):
        mine, wanted = (Counter(one.get(kind, ())) for one in (ours, theirs))
        if mine != wanted and max(mine.total(), wanted.total()) < _ANNOTATIONS:
            return f"{kind}: only ours {sorted(mine - wanted)}, only theirs {sorted(wanted - mine)}"
    return None


def _of_results(query: Query, ours: Any, theirs: Any) -> str | None:
    kind = theirs["resultType"]
    if ours["resultType"] != kind:
        return f"type: ours {ours['resultType']}, theirs {kind}"
    if kind in ("scalar", "string"):
        return _of_samples([ours["result"]], [theirs["result"]])
    if kind == "vector" and query.text.startswith("sort"):
        results = (ours["result"], theirs["result"])
        if query.text.startswith("sort_by_label"):
            orders = [[_key(row) for row in result] for result in results]
            if orders[0] != orders[1]:
                return f"order: ours {orders[0]}, theirs {orders[1]}"
        # The order of equal values is nobody's.
        reason = _of_samples(*([[0, row["value"][1]] for row in result] for result in results))
        if reason:
            return f"order: {reason}"
    mine, wanted = ({_key(row): row for row in one["result"]} for one in (ours, theirs))
    if len(mine) != len(ours["result"]):
        return "ours has a label set twice"
    if mine.keys() != wanted.keys():
        return f"series: only ours {sorted(mine.keys() - wanted)}, only theirs {sorted(wanted.keys() - mine)}"
    for key, row in wanted.items():
        reason = _of_samples(_samples(mine[key]), _samples(row))
        if reason:
            return f"{key}: {reason}"
    return None


def _key(row: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(row["metric"].items()))


def _samples(row: Any) -> list[list[Any]]:
    return row["values"] if "values" in row else [row["value"]]


def _of_samples(ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> str | None:
    times = [[at for at, _ in one] for one in (ours, theirs)]
    if times[0] != times[1]:
        return f"times: only ours {sorted({*times[0]} - {*times[1]})}, only theirs {sorted({*times[1]} - {*times[0]})}"
    for (at, mine), (_, wanted) in zip(ours, theirs, strict=True):
        a, b = float(mine), float(wanted)
        if not (math.isclose(a, b, rel_tol=_TOLERANCE) or (math.isnan(a) and math.isnan(b))):
            return f"at {at}: ours {mine}, theirs {wanted}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.promql.differential", description="Generated queries, ours and Prometheus."
    )
    parser.add_argument("--queries", type=int, default=QUERIES, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the queries (default: %(default)s)")
    args = parser.parse_args(arguments)
    # Servers must not outlive a run that is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="bellbuoy-differential-"))
    began = time.monotonic()
    try:
        with servers(folder) as (ours, reference):
            outcome = asyncio.run(run(ours, reference, seed=args.seed, queries=args.queries))
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
    print(f"{outcome}\n{time.monotonic() - began:.0f} s")
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
