"""`status/self_metrics`: this server's own metrics as JSON, in the mapping that protobuf's MetricFamily has for it."""

from typing import Any

from aiohttp import web
from prometheus_client import Metric

from bellbuoy._core import Regex
from bellbuoy.server.api.answers import ApiError, success
from bellbuoy.server.api.parameters import Parameters
from bellbuoy.server.parts import Parts

_TYPES = {
    "counter": "COUNTER", "gauge": "GAUGE", "histogram": "HISTOGRAM", "summary": "SUMMARY", "info": "GAUGE",
    "stateset": "GAUGE", "gaugehistogram": "GAUGE_HISTOGRAM",
}  # fmt: skip


def number(value: float) -> float | str:
    """A double of protobuf's JSON: what JSON has no number for is a text."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def family(metric: Metric) -> dict[str, Any]:
    """One metric family."""
    kind = _TYPES.get(metric.type, "UNTYPED")
    counter = metric.type == "counter"
    rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in metric.samples:
        suffix = sample.name.removeprefix(metric.name)
        if suffix == "_created":
            continue
        own = {name: value for name, value in sample.labels.items() if name not in ("le", "quantile") or not suffix}
        labels = tuple(own.items())
        row = rows.setdefault(labels, {})
        if kind in ("HISTOGRAM", "SUMMARY", "GAUGE_HISTOGRAM"):
            body = row.setdefault("summary" if kind == "SUMMARY" else "histogram", {})
            _distribution(body, suffix, sample.labels, sample.value)
        else:
            row[kind.lower()] = {"value": number(sample.value)}
    name = f"{metric.name}_total" if counter else metric.name
    head = {"name": name, "help": metric.documentation, "type": kind}
    metrics = [
        {**({"label": [{"name": key, "value": value} for key, value in labels]} if labels else {}), **row}
        for labels, row in rows.items()
    ]
    return {**head, "metric": metrics}


def _distribution(body: dict[str, Any], suffix: str, labels: dict[str, str], value: float) -> None:
    """One sample of a histogram or a summary; whole numbers are texts, as protobuf's JSON has them."""
    if suffix == "_count":
        body["sampleCount"] = str(int(value))
    elif suffix == "_sum":
        body["sampleSum"] = number(value)
    elif suffix == "_bucket" and labels["le"] != "+Inf":
        bucket = {"cumulativeCount": str(int(value)), "upperBound": number(float(labels["le"]))}
        body.setdefault("bucket", []).append(bucket)
    elif not suffix:
        body.setdefault("quantile", []).append({"quantile": float(labels["quantile"]), "value": number(value)})


async def self_metrics(parts: Parts, request: web.Request) -> web.Response:
    """All families, or those whose name the whole pattern matches."""
    pattern = (await Parameters.of(request)).text("metric_name_pattern")
    try:
        wanted = Regex(pattern) if pattern else None
    except ValueError as e:
        raise ApiError("bad_data", f"invalid metric_name_pattern: {e}") from e
    families = [family(one) for one in parts.registry.collect()]
    return success([one for one in families if wanted is None or wanted.matches(one["name"])])
