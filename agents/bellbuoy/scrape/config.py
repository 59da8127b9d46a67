"""`scrape_configs`: what to scrape, how, and how often; and the sections that find targets.

These are Prometheus's fields with Prometheus's defaults. Kubernetes is asked by the operator only, so
`kubernetes_sd_configs` is refused with a pointer to it.
"""

from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from bellbuoy.configuration import Duration, Size, Strict, Url
from bellbuoy.relabel import RelabelConfig
from bellbuoy.scrape.client import HttpClientConfig, core_settings

DEFAULT_INTERVAL_SECONDS = 60.0
DEFAULT_TIMEOUT_SECONDS = 10.0
_OTHER_DISCOVERY = (
    "azure", "consul", "digitalocean", "docker", "dockerswarm", "dns", "ec2", "eureka", "gce", "hetzner", "ionos",
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


def refused_discovery() -> dict[str, str]:
    """Discovery that this program leaves to others, and what to use instead."""
    out = {
        f"{name}_sd_configs": f'field "{name}_sd_configs" is not taken; use file_sd_configs or http_sd_configs'
        for name in _OTHER_DISCOVERY
    }
    out["kubernetes_sd_configs"] = (
        'field "kubernetes_sd_configs" is not taken: the operator discovers in Kubernetes; apply a ScrapeTarget, '
        "or use http_sd_configs with the operator's address"
    )
    return out


class ScrapeConfig(HttpClientConfig):
    """One entry of `scrape_configs`: a scrape pool."""

    job_name: str = Field(min_length=1)
    scrape_interval: Duration = 0.0
    scrape_timeout: Duration = 0.0
    honor_labels: bool = False
    honor_timestamps: bool = True
    scheme: Literal["http", "https"] = "http"
    metrics_path: str = "/metrics"
    params: dict[str, list[str]] = Field(default_factory=dict)
    enable_compression: bool = True
    body_size_limit: Size = 0
    sample_limit: int = Field(default=0, ge=0)
    label_limit: int = Field(default=0, ge=0)
    label_name_length_limit: int = Field(default=0, ge=0)
    label_value_length_limit: int = Field(default=0, ge=0)
    target_limit: int = Field(default=0, ge=0)
    keep_dropped_targets: int = Field(default=0, ge=0)
    static_configs: list[StaticConfig] = Field(default_factory=list)
    file_sd_configs: list[FileDiscovery] = Field(default_factory=list)
    http_sd_configs: list[HttpDiscovery] = Field(default_factory=list)
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
        return self

    def settings(self, base: Path | None) -> dict[str, Any]:
        """The pool's settings as the core's Scraper takes them."""
        return core_settings(self, base) | {
            "interval_seconds": self.scrape_interval,
            "timeout_seconds": self.scrape_timeout,
            "honor_labels": self.honor_labels,
            "honor_timestamps": self.honor_timestamps,
            "metric_relabel_configs": [rule.rule() for rule in self.metric_relabel_configs],
            "enable_compression": self.enable_compression,
            "body_size_limit": self.body_size_limit,
            "sample_limit": self.sample_limit,
            "label_limit": self.label_limit,
            "label_name_length_limit": self.label_name_length_limit,
            "label_value_length_limit": self.label_value_length_limit,
        }
