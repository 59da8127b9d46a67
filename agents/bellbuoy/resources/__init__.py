"""From custom resources to configuration: pure functions, shared by the operator and by `bellbuoy up`.

`read_resource` or `load_manifests` make `Resource`s; `select` says what a stack takes of them; `prometheus_config`,
`rule_file`, `alertmanager_config` and the target functions turn that into what server and alertmanager read. Nothing
here talks to an API server, reads the clock or writes a file.
"""

from bellbuoy.resources.manifests import Manifests, load_manifests
from bellbuoy.resources.model import (
    ALLOW_LABEL,
    API_VERSION,
    GROUP,
    PLURALS,
    SPECS,
    VERSION,
    AlertReceiver,
    AlertRule,
    MonitoringStack,
    MonitoringStackSpec,
    RecordingRule,
    Resource,
    ScrapeTarget,
    read_resource,
)
from bellbuoy.resources.notifying import alertmanager_config
from bellbuoy.resources.pods import Node, Pod, read_node, read_pod
from bellbuoy.resources.ruling import RuleFile, alert_name, rule_file
from bellbuoy.resources.scraping import Layout, prometheus_config, to_yaml
from bellbuoy.resources.secrets import SecretUse, secret_use, secret_uses, selected_secret_uses
from bellbuoy.resources.selection import Refusal, Selection, select, stack_namespaces
from bellbuoy.resources.targets import PART_POOLS, PART_PORTS, PoolTargets, enabled, own_pools, scrape_target_pool

__all__ = [
    "ALLOW_LABEL",
    "API_VERSION",
    "GROUP",
    "PART_POOLS",
    "PART_PORTS",
    "PLURALS",
    "SPECS",
    "VERSION",
    "AlertReceiver",
    "AlertRule",
    "Layout",
    "Manifests",
    "MonitoringStack",
    "MonitoringStackSpec",
    "Node",
    "Pod",
    "PoolTargets",
    "RecordingRule",
    "Refusal",
    "Resource",
    "RuleFile",
    "ScrapeTarget",
    "SecretUse",
    "Selection",
    "alert_name",
    "alertmanager_config",
    "enabled",
    "load_manifests",
    "own_pools",
    "prometheus_config",
    "read_node",
    "read_pod",
    "read_resource",
    "rule_file",
    "scrape_target_pool",
    "secret_use",
    "secret_uses",
    "select",
    "selected_secret_uses",
    "stack_namespaces",
    "to_yaml",
]
