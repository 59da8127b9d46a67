"""`scrape_configs`: what to scrape, how, and how often; and the sections that find targets.

These are Prometheus's fields with Prometheus's defaults. Kubernetes is asked by the operator only, so
`kubernetes_sd_configs` is refused with a pointer to it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bellbuoy.configuration import Duration, Size, Strict, Url, resolve_path
from bellbuoy.relabel import RelabelConfig, relabeler
from bellbuoy.scrape.http_config import HttpClientConfig, core_settings
from bellbuoy.scrape.protocols import (
    EscapingScheme,
    Protocol,
    ValidationScheme,
    accept_header,
    check_protocol,
    core_format,
    default_protocols,
)

DEFAULT_INTERVAL_SECONDS = 60.0
DEFAULT_TIMEOUT_SECONDS = 10.0
_OTHER_DISCOVERY = (
    "azure", "consul", "digitalocean", "docker", "dockerswarm", "ec2", "eureka", "gce", "hetzner", "ionos",
    "kuma", "lightsail", "linode", "marathon", "nerve", "nomad", "openstack", "ovhcloud", "puppetdb", "scaleway",
    "serverset", "stackit", "triton", "uyuni", "vultr",
)  # fmt: skip


class StaticConfig(Strict):
    """`static_configs`: addresses, and labels for all of them."""

    targets: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("targets")
    @classmethod
    def _addresses(cls, targets: list[str]) -> list[str]:
        for target in targets:
            if "/" in target:
                raise ValueError(
                    f'"{target}" is no address; write host:port, and use scheme and metrics_path for the rest'
                )
        return targets


class FileDiscovery(Strict):
    """`file_sd_configs`: files that list targets, as JSON or YAML; the last part of a path may have `*`."""

    files: list[str]
    refresh_interval: Duration = 300.0

    @field_validator("files")
    @classmethod
    def _kinds(cls, files: list[str]) -> list[str]:
        for path in files:
            if Path(path).suffix not in (".json", ".yml", ".yaml"):
                raise ValueError(f'cannot tell the kind of "{path}"; end it in .json, .yml or .yaml')
        return files


class HttpDiscovery(HttpClientConfig):
    """`http_sd_configs`: a URL that answers with a list of targets."""

    url: Url
    refresh_interval: Duration = 60.0

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL needs http:// or https:// and a host; write it in full")
        return url


class DnsDiscovery(Strict):
    """`dns_sd_configs`: names whose records list targets; only SRV records have ports of their own."""

    names: list[str] = Field(min_length=1)
    type: Literal["SRV", "A", "AAAA", "MX", "NS"] = "SRV"
    port: int = Field(default=0, ge=0, le=65535)
    refresh_interval: Duration = 30.0

    @field_validator("type", mode="before")
    @classmethod
    def _upper(cls, kind: Any) -> Any:
        return kind.upper() if isinstance(kind, str) else kind

    @model_validator(mode="after")
    def _port(self) -> Self:
        if self.type != "SRV" and not self.port:
            raise ValueError(f"records of type {self.type} have no port; set port")
        if self.refresh_interval <= 0:
            raise ValueError("refresh_interval must be more than 0")
        return self


def refused_discovery() -> dict[str, str]:
    """Discovery that this program leaves to others, and what to use instead."""
    cure = "use file_sd_configs, http_sd_configs or dns_sd_configs"
    out = {f"{name}_sd_configs": f'field "{name}_sd_configs" is not taken; {cure}' for name in _OTHER_DISCOVERY}
    out["kubernetes_sd_configs"] = (
        'field "kubernetes_sd_configs" is not taken: the operator discovers in Kubernetes; apply a ScrapeTarget, '
        "or use http_sd_configs with the operator's address"
    )
    return out


class Inherited(Strict):
    """What `global` may say for all scrape configurations, and each of them for itself."""

    # None: what default_protocols says.
    scrape_protocols: list[Annotated[Protocol, BeforeValidator(check_protocol)]] | None = None
    body_size_limit: Size = 0
    sample_limit: int = Field(default=0, ge=0)
    series_budget: int = Field(default=0, ge=0)
    label_limit: int = Field(default=0, ge=0)
    label_name_length_limit: int = Field(default=0, ge=0)
    label_value_length_limit: int = Field(default=0, ge=0)
    target_limit: int = Field(default=0, ge=0)
    keep_dropped_targets: int = Field(default=0, ge=0)
    scrape_failure_log_file: str = ""
    extra_scrape_metrics: bool = False
    metric_name_validation_scheme: ValidationScheme = ""
    metric_name_escaping_scheme: EscapingScheme = ""
    scrape_native_histograms: bool = False
    always_scrape_classic_histograms: bool = False
    convert_classic_histograms_to_nhcb: bool = False

    @field_validator("scrape_protocols")
    @classmethod
    def _each_once(cls, protocols: list[Protocol] | None) -> list[Protocol] | None:
        if protocols is None:
            return None
        if not protocols:
            raise ValueError("it is empty; name one protocol, or remove it")
        if len(set(protocols)) < len(protocols):
            raise ValueError("a protocol stands twice; keep one of them")
        return protocols


class ScrapeConfig(Inherited, HttpClientConfig):
    """One entry of `scrape_configs`: a scrape pool."""

    job_name: str = Field(min_length=1)
    scrape_interval: Duration = 0.0
    scrape_timeout: Duration = 0.0
    honor_labels: bool = False
    honor_timestamps: bool = True
    track_timestamps_staleness: bool = False
    scheme: Literal["http", "https"] = "http"
    metrics_path: str = "/metrics"
    params: dict[str, list[str]] = Field(default_factory=dict)
    enable_compression: bool = True
    fallback_scrape_protocol: Annotated[Protocol, BeforeValidator(check_protocol)] | None = None
    native_histogram_bucket_limit: int = Field(default=0, ge=0)
    native_histogram_min_bucket_factor: float = Field(default=0, ge=0)
    static_configs: list[StaticConfig] = Field(default_factory=list)
    file_sd_configs: list[FileDiscovery] = Field(default_factory=list)
    http_sd_configs: list[HttpDiscovery] = Field(default_factory=list)
    dns_sd_configs: list[DnsDiscovery] = Field(default_factory=list)
    relabel_configs: list[RelabelConfig] = Field(default_factory=list)
    metric_relabel_configs: list[RelabelConfig] = Field(default_factory=list)

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of Prometheus that this program does not take."""
        return super().refused() | refused_discovery()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scrape_interval and self.scrape_timeout > self.scrape_interval:
            raise ValueError("scrape_timeout is longer than scrape_interval; make it at most as long")
        if self.metric_name_validation_scheme == "legacy" and self.metric_name_escaping_scheme == "allow-utf-8":
            raise ValueError(
                'metric_name_escaping_scheme "allow-utf-8" asks for names that metric_name_validation_scheme "legacy" '
                "refuses; change one of them"
            )
        return self

    def relabel_steps(self, labels: Mapping[str, str]) -> list[dict[str, str] | None]:
        """The labels after each of `relabel_configs`; None from the rule on that drops them."""
        steps = relabeler(self.relabel_configs).steps(labels)
        return steps + [None] * (len(self.relabel_configs) - len(steps))

    @property
    def escaping(self) -> str:
        """How targets are asked to write names that are no identifiers."""
        legacy = self.metric_name_validation_scheme == "legacy"
        return self.metric_name_escaping_scheme or ("underscores" if legacy else "allow-utf-8")

    def settings(self, base: Path | None, *, start_timestamps: bool = False) -> dict[str, Any]:
        """The pool's settings as the core's Scraper takes them."""
        # What targets are asked for, most wanted first.
        protocols = self.scrape_protocols or default_protocols(
            protobuf=self.scrape_native_histograms or start_timestamps
        )
        return core_settings(self, base) | {
            "interval_seconds": self.scrape_interval,
            "timeout_seconds": self.scrape_timeout,
            "honor_labels": self.honor_labels,
            "honor_timestamps": self.honor_timestamps,
            "track_timestamps_staleness": self.track_timestamps_staleness,
            "accept": accept_header(protocols, self.escaping),
            "fallback_format": core_format(self.fallback_scrape_protocol),
            "legacy_names": self.metric_name_validation_scheme == "legacy",
            "extra_scrape_metrics": self.extra_scrape_metrics,
            "scrape_failure_log_file": resolve_path(self.scrape_failure_log_file, base),
            "metric_relabel_configs": [rule.rule() for rule in self.metric_relabel_configs],
            "enable_compression": self.enable_compression,
            "body_size_limit": self.body_size_limit,
            "sample_limit": self.sample_limit,
            "series_budget": self.series_budget,
            "label_limit": self.label_limit,
            "label_name_length_limit": self.label_name_length_limit,
            "label_value_length_limit": self.label_value_length_limit,
            "scrape_native_histograms": self.scrape_native_histograms,
            "always_scrape_classic_histograms": self.always_scrape_classic_histograms,
            "convert_classic_histograms_to_nhcb": self.convert_classic_histograms_to_nhcb,
            "native_histogram_bucket_limit": self.native_histogram_bucket_limit,
            "native_histogram_min_bucket_factor": self.native_histogram_min_bucket_factor,
            "start_timestamps": start_timestamps,
        }
