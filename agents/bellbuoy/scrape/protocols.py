"""Scrape protocols: what a target is asked for, and how its answer is read if it does not say.

The header is Prometheus 3.16's, weights included, so that an exporter chooses as it would there. Protobuf is asked for,
before all others, where native histograms are wanted, which only it carries, or when counters began, which it says at
less cost than OpenMetrics.
"""

from collections.abc import Sequence
from typing import Literal, get_args

Protocol = Literal[
    "PrometheusProto", "OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"
]
ValidationScheme = Literal["", "legacy", "utf8"]
EscapingScheme = Literal["", "allow-utf-8", "underscores", "dots", "values"]

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
_NOT_READ = {"OpenMetricsText2.0.0": "OpenMetrics 2.0 is still a draft"}
_MEDIA: dict[Protocol, str] = {
    "PrometheusProto": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    "OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
    "OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
    "PrometheusText1.0.0": "text/plain;version=1.0.0",
    "PrometheusText0.0.4": "text/plain;version=0.0.4",
}
# What the first protocol weighs: Prometheus knows six, and each weighs less than the one before.
_FIRST_WEIGHT = 7


def check_protocol(name: str) -> str:
    """The name, if it can be read. Raises ValueError with the cure."""
    if name in _NOT_READ:
        raise ValueError(f'"{name}" is not read: {_NOT_READ[name]}; remove it')
    if name not in PROTOCOLS:
        raise ValueError(f'"{name}" is no scrape protocol; use {", ".join(PROTOCOLS)}')
    return name


def default_protocols(*, protobuf: bool) -> tuple[Protocol, ...]:
    """What targets are asked for unless a configuration says something else."""
    return PROTOCOLS if protobuf else PROTOCOLS[1:]


def accept_header(protocols: Sequence[Protocol], escaping: str) -> str:
    """The Accept header that asks for these, most wanted first."""
    out = []
    for place, protocol in enumerate(protocols):
        # Only the newer versions can say how names are escaped.
        names = f";escaping={escaping}" if protocol.endswith("1.0.0") else ""
        out.append(f"{_MEDIA[protocol]}{names};q=0.{_FIRST_WEIGHT - place}")
    return ",".join([*out, f"*/*;q=0.{_FIRST_WEIGHT - len(protocols)}"])


def core_format(protocol: Protocol | None) -> str | None:
    """The core's name of a protocol's format."""
    if protocol is None:
        return None
    if protocol == "PrometheusProto":
        return "protobuf"
    return "openmetrics" if protocol.startswith("OpenMetrics") else "text"
