"""What `stats` adds to a query's answer, named as in Prometheus, and `explain=1`: the plan as it went."""

from typing import Any

import numpy as np

from bellbuoy.promql import Recorder
from bellbuoy.server.query_ledger import Asked


def _per_step(counts: tuple[Any, Any]) -> list[list[float]]:
    times, samples = counts
    return [[time / 1000, count] for time, count in zip(times.tolist(), samples.tolist(), strict=True)]


def query_stats(recorder: Recorder, asked: Asked, *, steps: bool) -> dict[str, Any]:
    """Timings and samples; with `steps` the samples of each step as well."""
    queryable, read = recorder.queryable, recorder.read
    samples: dict[str, Any] = {}
    if steps:
        samples["totalQueryableSamplesPerStep"] = _per_step(queryable)
    samples["totalQueryableSamples"] = int(np.sum(queryable[1]))
    if steps:
        samples["samplesReadPerStep"] = _per_step(read)
    samples |= {
        "samplesRead": int(np.sum(read[1])),
        "seriesTouched": asked.cost.series,
        "peakSamples": asked.cost.samples,
    }
    return {"timings": asked.timings(), "samples": samples}
