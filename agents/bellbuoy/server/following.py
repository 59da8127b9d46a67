"""The operator's parts as a configuration: `prometheus.yml`, rule files, and `targets/POOL` as http_sd lists.

The same `prometheus.yml` works in a real Prometheus, where its `http_sd_configs` fetch the targets; here the targets
come with the long poll, so those sections are not asked. A part that cannot be read rejects the change as a whole,
and the last good configuration stays.
"""

from collections.abc import Mapping

import orjson

from bellbuoy.configuration import ConfigError
from bellbuoy.scrape import TargetGroup, read_groups
from bellbuoy.server.config import Loaded, read_config, rule_groups

MAIN_PART = "prometheus.yml"
TARGETS_PREFIX = "targets/"


def wanted(part: str) -> bool:
    """Whether the server needs this part; the same address has the alertmanager's parts as well."""
    return part in (MAIN_PART, "rules.yml") or part.startswith(("rules/", TARGETS_PREFIX))


def read_targets(part: str, body: bytes) -> tuple[TargetGroup, ...]:
    """The targets of one pool. Raises ConfigError."""
    try:
        return read_groups(orjson.loads(body), source=part)
    except ValueError as e:
        raise ConfigError(f"cannot read part {part}: {e}; it must be an http_sd list") from e


def read_parts(parts: Mapping[str, bytes]) -> Loaded:
    """The whole configuration. Raises ConfigError."""
    if MAIN_PART not in parts:
        raise ConfigError(f"the operator hands over no {MAIN_PART}; see whether the address is that of a stack")
    texts = {name: _text(name, body) for name, body in parts.items() if not name.startswith(TARGETS_PREFIX)}
    config = read_config(texts.pop(MAIN_PART), name=MAIN_PART)
    handed = {
        name.removeprefix(TARGETS_PREFIX): read_targets(name, body)
        for name, body in parts.items()
        if name.startswith(TARGETS_PREFIX)
    }
    return Loaded(config, rule_groups(config, texts), None, handed)


def _text(name: str, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as e:
        raise ConfigError(f"cannot read part {name}: {e}; it must be UTF-8") from e
