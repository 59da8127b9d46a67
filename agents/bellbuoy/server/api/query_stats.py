"""What `stats` adds to a query's answer, named as in Prometheus, and `explain=1`: the plan as it went."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bellbuoy.promql import Recorder
from bellbuoy.server.query_ledger import Asked


def query_stats(recorder: Recorder, asked: Asked, *, steps: bool) -> dict[str, Any]:
    """Timings and samples; with `steps` the samples of each step as well."""
    times = range(asked.start_ms, asked.end_ms + 1, asked.step_ms or 1)
    queryable, read = recorder.queryable(len(times)), recorder.read(len(times))
    samples: dict[str, Any] = {}
    if steps:
        samples["totalQueryableSamplesPerStep"] = _per_step(times, queryable)
    samples["totalQueryableSamples"] = int(queryable.sum())
    if steps:
        samples["samplesReadPerStep"] = _per_step(times, read)
    samples |= {
        "samplesRead": int(read.sum()),
        "seriesTouched": asked.cost.series,
        "peakSamples": asked.cost.samples,
    }
    return {"timings": asked.timings(), "samples": samples}


def _per_step(times: range, samples: NDArray[np.int64]) -> list[list[float]]:
    return [[time / 1000, count] for time, count in zip(times, samples.tolist(), strict=True)]
