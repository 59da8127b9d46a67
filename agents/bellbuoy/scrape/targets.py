"""From what discovery found to what is scraped: the labels a target starts with, relabeling, and the URL that results.

Pure: target groups and a scrape configuration go in, targets for the core's Scraper and the dropped ones with the
reason come out. Relabeling may set `__address__`, `__scheme__`, `__metrics_path__`, `__param_*`,
`__scrape_interval__`, `__scrape_timeout__` and the labels of `HISTOGRAMS`; what still starts with `__` afterwards is
removed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from bellbuoy.durations import DurationError, format_duration, parse_duration
from bellbuoy.relabel import Relabeler, relabeler
from bellbuoy.scrape.config import ScrapeConfig

ADDRESS = "__address__"
# Said by the operator about a pod; the core's Scraper takes them as flags of the target.
FLAGS = {
    "__bellbuoy_every_second__": "every_second",
    "__bellbuoy_terminating__": "terminating",
    "__bellbuoy_not_ready__": "not_ready",
}
# What a target may say of histograms for itself, and the field of the configuration.
HISTOGRAMS = {
    f"__{name}__": name
    for name in (
        "scrape_native_histograms", "always_scrape_classic_histograms", "convert_classic_histograms_to_nhcb",
    )
}  # fmt: skip
# As Go reads them.
_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
# Dropped targets are kept to explain them; past this many a pool only counts them, unless keep_dropped_targets says
# more.
DROPPED_LIMIT = 500
_ADDRESS_SHAPE = re.compile(r"[^\s/?#@]+\Z")


@dataclass(frozen=True)
class TargetGroup:
    """Targets that share labels, from one source: one entry of a file, of an http_sd answer, or of static_configs."""

    source: str
    targets: tuple[Mapping[str, str], ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ActiveTarget:
    """A target that is scraped."""

    url: str
    labels: Mapping[str, str]
    discovered: Mapping[str, str]
    interval_seconds: float
    timeout_seconds: float
    flags: Mapping[str, bool]
    """What the core is told of it besides, by name: of a pod's life, and of histograms."""

    def for_core(self) -> dict[str, Any]:
        """As the core's Scraper takes it."""
        return {
            "url": self.url,
            "labels": dict(self.labels),
            "interval_seconds": self.interval_seconds,
            "timeout_seconds": self.timeout_seconds,
            **self.flags,
        }


@dataclass(frozen=True)
class DroppedTarget:
    """A target that is not scraped, and why."""

    discovered: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class PoolTargets:
    """All of a pool. `dropped_count` counts those too that `dropped` has no room for."""

    active: tuple[ActiveTarget, ...]
    dropped: tuple[DroppedTarget, ...]
    dropped_count: int


def build_targets(config: ScrapeConfig, groups: Iterable[TargetGroup]) -> PoolTargets:
    """Relabel every target of the groups; of targets with the same URL and labels the first is kept."""
    rules = relabeler(config.relabel_configs)
    active: dict[tuple[str, tuple[tuple[str, str], ...]], ActiveTarget] = {}
    dropped: list[DroppedTarget] = []
    count = 0
    limit = config.keep_dropped_targets or DROPPED_LIMIT
    for group in groups:
        for own in group.targets:
            discovered = _discovered(config, {**group.labels, **own})
            made = _relabel(config, rules, discovered)
            if isinstance(made, ActiveTarget):
                key = (made.url, tuple(sorted(made.labels.items())))
                if key in active:
                    continue
                if not config.target_limit or len(active) < config.target_limit:
                    active[key] = made
                    continue
                made = DroppedTarget(discovered, f"target_limit of {config.target_limit} is reached")
            count += 1
            if len(dropped) < limit:
                dropped.append(made)
    return PoolTargets(tuple(active.values()), tuple(dropped), count)


def _discovered(config: ScrapeConfig, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels before relabeling: what discovery says wins over the configuration."""
    out = {
        "job": config.job_name,
        "__scheme__": config.scheme,
        "__metrics_path__": config.metrics_path,
        "__scrape_interval__": format_duration(config.scrape_interval),
        "__scrape_timeout__": format_duration(config.scrape_timeout),
    }
    out.update({label: str(getattr(config, name)).lower() for label, name in HISTOGRAMS.items()})
    out.update({f"__param_{name}": values[0] for name, values in config.params.items() if values})
    out.update(labels)
    return {name: value for name, value in out.items() if value}


def _relabel(config: ScrapeConfig, rules: Relabeler, discovered: dict[str, str]) -> ActiveTarget | DroppedTarget:
    flags = {flag: discovered.get(label) == "true" for label, flag in FLAGS.items()}
    start = {name: value for name, value in discovered.items() if name not in FLAGS}
    labels = rules.apply(start)
    if labels is None:
        at = len(rules.steps(start)) - 1
        return DroppedTarget(discovered, f"relabel_configs[{at}] (action {config.relabel_configs[at].action}) drops it")
    address = labels.get(ADDRESS, "")
    if not address:
        return DroppedTarget(discovered, "it has no __address__ after relabeling")
    if not _ADDRESS_SHAPE.match(address):
        return DroppedTarget(discovered, f'"{address}" is no address; it must be host:port')
    scheme = labels.get("__scheme__", "")
    if scheme not in ("http", "https"):
        return DroppedTarget(discovered, f'__scheme__ "{scheme}" is neither http nor https')
    try:
        interval = parse_duration(labels.get("__scrape_interval__", ""))
        timeout = parse_duration(labels.get("__scrape_timeout__", ""))
    except DurationError as e:
        return DroppedTarget(discovered, f"__scrape_interval__ or __scrape_timeout__: {e}")
    if not 0 < timeout <= interval:
        return DroppedTarget(discovered, "__scrape_timeout__ must be above 0 and not longer than __scrape_interval__")
    for label, name in HISTOGRAMS.items():
        if text := labels.get(label, ""):
            if text not in _BOOLEANS:
                return DroppedTarget(discovered, f'{label} "{text}" is neither true nor false')
            flags[name] = _BOOLEANS[text]
    path = labels.get("__metrics_path__", "")
    query = _query(config, labels)
    url = f"{scheme}://{address}{path if path.startswith('/') else '/' + path}"
    final = {name: value for name, value in labels.items() if value and not name.startswith("__")}
    final.setdefault("instance", address)
    return ActiveTarget(url + (f"?{query}" if query else ""), final, discovered, interval, timeout, flags)


def _query(config: ScrapeConfig, labels: Mapping[str, str]) -> str:
    params = {name: list(values) for name, values in config.params.items()}
    for name, value in labels.items():
        if name.startswith("__param_"):
            key = name.removeprefix("__param_")
            params[key] = [value, *params.get(key, [])[1:]]
    return urlencode([(key, value) for key, values in sorted(params.items()) for value in values])


def read_groups(data: Any, *, source: str) -> tuple[TargetGroup, ...]:
    """Target groups of a file or an http_sd answer. Raises ValueError that names the entry and the cure."""
    if not isinstance(data, list):
        raise ValueError(f"{source}: it must be a list of objects with targets and labels")  # noqa: TRY004
    out = []
    for index, entry in enumerate(data):
        place = f"{source}[{index}]"
        if not isinstance(entry, dict) or not set(entry) <= {"targets", "labels", "source"}:
            raise ValueError(f"{place}: it must be an object with targets and labels only")
        targets, labels = entry.get("targets") or [], entry.get("labels") or {}
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise ValueError(f"{place}.targets: it must be a list of addresses")
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise ValueError(f"{place}.labels: it must be an object of strings")
        out.append(static_group(place, targets, labels))
    return tuple(out)


def static_group(source: str, targets: Sequence[str], labels: Mapping[str, str]) -> TargetGroup:
    """A group of plain addresses."""
    return TargetGroup(source, tuple({ADDRESS: address} for address in targets), dict(labels))
