"""Native histograms, from the wire to an answer, beside Prometheus.

`exposer` is a program in Go that exposes every kind of metric with Prometheus's own client library. Each pool of
`POOLS` scrapes it with other settings, in Prometheus 3.16 and in ours, and what the two answer must be the same, sample
by sample. `python -m tests.histograms` records what the program says and what Prometheus answers, so that this is held
to where no Prometheus has been built, too.
"""

import json
from pathlib import Path
from typing import Any

from bench.programs import Program

HERE = Path(__file__).parent
EXPOSER = Program("exposer", HERE / "exposer", ".")
RECORDED = HERE / "recorded"
_NATIVE, _CLASSIC = {"scrape_native_histograms": True}, {"always_scrape_classic_histograms": True}
_CONVERTED = {"convert_classic_histograms_to_nhcb": True}
_PROTO = {"scrape_protocols": ["PrometheusProto"]}

POOLS: dict[str, dict[str, Any]] = {
    "native": _NATIVE,
    "native_and_classic": _NATIVE | _CLASSIC,
    "native_and_converted": _NATIVE | _CONVERTED,
    "all": _NATIVE | _CONVERTED | _CLASSIC,
    "classic": _PROTO,
    "converted": _PROTO | _CONVERTED,
    "few_buckets": _NATIVE | {"native_histogram_bucket_limit": 30},
    "coarse": _NATIVE | {"native_histogram_min_bucket_factor": 1.5},
    "text": {"metrics_path": "/text"},
    "text_converted": _CONVERTED | {"metrics_path": "/text"},
    "text_all": _CONVERTED | _CLASSIC | {"metrics_path": "/text", "scrape_protocols": ["PrometheusText0.0.4"]},
}
"""What each pool says in its scrape configuration."""

Answer = list[dict[str, Any]]


def config(address: str) -> dict[str, Any]:
    """A configuration with all pools, for either server."""
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [address], "labels": {"instance": "x"}}], **more}
        for name, more in POOLS.items()
    ]
    return {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}


def settled(answer: Answer) -> Answer:
    """An instant query's result without what differs from scrape to scrape, in an order of its own."""
    kept = [
        {"metric": one["metric"]} | {kind: one[kind][1] for kind in ("value", "histogram") if kind in one}
        for one in answer
        if not one["metric"]["__name__"].endswith("_duration_seconds")
    ]
    return sorted(kept, key=lambda one: sorted(one["metric"].items()))


def recorded_answer() -> Answer:
    """What Prometheus answered."""
    answer: Answer = json.loads((RECORDED / "answer.json").read_text())
    return answer
