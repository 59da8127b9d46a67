"""`prometheus.yml` as the server takes it: Prometheus's fields, checked whole before anything is changed.

`read_config()` gives the configuration with the global defaults filled into each scrape configuration. Fields that
Prometheus has and this server has not are refused with what to do instead, so that nothing is silently left undone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from bellbuoy.configuration import ConfigError, Duration, Strict, load_yaml, resolve_path, to_yaml, validate
from bellbuoy.labels import NAME, is_legacy_label_name
from bellbuoy.rules import AlertingConfig, LoadedGroup, load_groups
from bellbuoy.scrape import DEFAULT_INTERVAL_SECONDS, DEFAULT_TIMEOUT_SECONDS, Inherited, ScrapeConfig, TargetGroup


class GlobalConfig(Inherited):
    """`global`: what holds for every scrape configuration and rule group that does not say otherwise."""

    scrape_interval: Duration = DEFAULT_INTERVAL_SECONDS
    scrape_timeout: Duration = DEFAULT_TIMEOUT_SECONDS
    evaluation_interval: Duration = 60.0
    rule_query_offset: Duration = 0.0
    query_log_file: str = ""
    external_labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("external_labels")
    @classmethod
    def _names(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            if not is_legacy_label_name(name) or name == NAME:
                raise ValueError(f'"{name}" is no label name; use letters, digits and _')
        return labels

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name in ("scrape_interval", "scrape_timeout", "evaluation_interval"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if "scrape_timeout" in self.model_fields_set and self.scrape_timeout > self.scrape_interval:
            raise ValueError("scrape_timeout is longer than scrape_interval; make it at most as long")
        return self


class ServerConfig(Strict):
    """The whole file."""

    global_: GlobalConfig = Field(default_factory=GlobalConfig, alias="global")
    scrape_configs: list[ScrapeConfig] = Field(default_factory=list)
    rule_files: list[str] = Field(default_factory=list)
    alerting: AlertingConfig = Field(default_factory=AlertingConfig)

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Sections of Prometheus that this server does not have."""
        return {
            "remote_write": 'section "remote_write" is not taken; remove it',
            "remote_read": 'section "remote_read" is not taken; remove it',
            "storage": 'section "storage" is not taken; use the --storage.* flags',
            "scrape_config_files": 'section "scrape_config_files" is not taken; put them under scrape_configs',
            "tracing": 'section "tracing" is not taken; remove it',
            "otlp": 'section "otlp" is not taken; remove it',
            "runtime": 'section "runtime" is not taken; remove it',
        }

    @model_validator(mode="after")
    def _jobs_once(self) -> Self:
        seen: set[str] = set()
        for one in self.scrape_configs:
            if one.job_name in seen:
                raise ValueError(f'job_name "{one.job_name}" stands twice in scrape_configs; rename one')
            seen.add(one.job_name)
        return self

    @field_validator("rule_files")
    @classmethod
    def _stars_last(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            if "*" in str(Path(pattern).parent):
                raise ValueError(f'"{pattern}": only the last part of a path may have *')
        return patterns


def read_config(text: str, *, name: str) -> ServerConfig:
    """The configuration of this text. Raises ConfigError with all mistakes."""
    config = validate(ServerConfig, load_yaml(text, name=name) or {}, name=name)
    filled = [_fill(one, config.global_) for one in config.scrape_configs]
    return config.model_copy(update={"scrape_configs": filled})


def _fill(config: ScrapeConfig, common: GlobalConfig) -> ScrapeConfig:
    update: dict[str, Any] = {}
    if not config.scrape_interval:
        update["scrape_interval"] = common.scrape_interval
    interval = update.get("scrape_interval", config.scrape_interval)
    if not config.scrape_timeout:
        update["scrape_timeout"] = min(common.scrape_timeout, interval)
    elif config.scrape_timeout > interval:
        raise ConfigError(
            f'cannot use scrape_configs with job_name "{config.job_name}": scrape_timeout is longer than '
            "scrape_interval; make it at most as long"
        )
    said = config.model_fields_set
    for field in Inherited.model_fields:
        if field not in said and field in common.model_fields_set:
            update[field] = getattr(common, field)
    # Who says how names are checked also says how they are escaped.
    if "metric_name_validation_scheme" in said and "metric_name_escaping_scheme" not in said:
        update.pop("metric_name_escaping_scheme", None)
    filled = config.model_copy(update=update) if update else config
    if filled.metric_name_validation_scheme == "legacy" and filled.escaping == "allow-utf-8":
        raise ConfigError(
            f'cannot use scrape_configs with job_name "{config.job_name}": metric_name_escaping_scheme "allow-utf-8" '
            'asks for names that metric_name_validation_scheme "legacy" refuses; change one of them'
        )
    return filled


@dataclass(frozen=True)
class Loaded:
    """All that the server runs by, read and checked. `handed` has the operator's targets by pool, if it is followed."""

    config: ServerConfig
    groups: tuple[LoadedGroup, ...]
    base: Path | None = None
    handed: Mapping[str, tuple[TargetGroup, ...]] | None = None

    def yaml(self) -> str:
        """The configuration as it may be shown: no secrets."""
        return to_yaml(self.config)


def rule_groups(config: ServerConfig, files: Mapping[str, str]) -> tuple[LoadedGroup, ...]:
    """The groups of these rule files, with the global defaults. Raises ConfigError."""
    common = config.global_
    return load_groups(
        files, interval_seconds=common.evaluation_interval, query_offset_seconds=common.rule_query_offset
    )


def read_files(path: Path) -> Loaded:
    """The configuration file and the rule files it names. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read {path}: {e}; name a readable file in --config.file") from e
    config = read_config(text, name=str(path))
    base = path.resolve().parent
    files: dict[str, str] = {}
    for pattern in config.rule_files:
        full = Path(resolve_path(pattern, base))
        found = sorted(full.parent.glob(full.name)) if "*" in full.name else [full]
        for file in found:
            try:
                files[str(file)] = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                raise ConfigError(f"cannot read rule file {file}: {e}; mend rule_files") from e
    return Loaded(config, rule_groups(config, files), base)
