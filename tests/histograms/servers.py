"""The two servers and the exposer, as the comparison runs them."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.programs import PROMETHEUS
from tests.histograms import EXPOSER, POOLS, Answer, config, settled
from tests.peers.programs import Program, free_port, part, query, started, until

EVERYTHING = '{__name__=~".+", instance="x"}'


@contextlib.asynccontextmanager
async def exposer(folder: Path) -> AsyncIterator[Program]:
    """The program in Go, built if need be."""
    port = free_port()
    command = [str(EXPOSER.path()), f"--listen=127.0.0.1:{port}"]
    async with started(command, name="exposer", port=port, folder=folder, ready="/text") as it:
        yield it


def _written(folder: Path, name: str, address: str) -> tuple[str, str]:
    place = folder / name
    place.mkdir()
    (place / "prometheus.yml").write_text(json.dumps(config(address)))
    return f"--config.file={place / 'prometheus.yml'}", str(place / "data")


@contextlib.asynccontextmanager
async def reference(address: str, folder: Path) -> AsyncIterator[Program]:
    """Prometheus 3.16, scraping the address with all pools."""
    port = free_port()
    file, data = _written(folder, "theirs", address)
    command = [
        str(PROMETHEUS.path()), file, f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    async with started(command, name="prometheus", port=port, folder=folder, ready="/-/ready") as it:
        yield it


@contextlib.asynccontextmanager
async def ours(address: str, folder: Path) -> AsyncIterator[Program]:
    """Our server, doing the same."""
    file, data = _written(folder, "ours", address)
    async with part("server", file, f"--storage.path={data}", folder=folder) as it:
        yield it


async def answered(at: Program, *, counted: int) -> Answer:
    """All that the server has once each pool has seen so many observations of `x_both`."""

    async def all_there() -> Answer:
        found: list[dict[str, Any]] = await query(at, EVERYTHING)
        fresh = {
            one["metric"]["job"]
            for one in found
            if (one["metric"]["__name__"], one.get("value", [0, ""])[1]) == ("x_both_count", str(counted))
            or (one["metric"]["__name__"] == "x_both" and one["histogram"][1]["count"] == str(counted))
        }
        settling = any(one["metric"]["__name__"] == "scrape_series_added" and one["value"][1] != "0" for one in found)
        return settled(found) if fresh == POOLS.keys() and not settling else []

    return await until(f"{at.name} has scraped all pools", all_there)
