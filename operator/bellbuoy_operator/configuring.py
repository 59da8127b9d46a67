"""From the world to a stack's publication: what it selects, its targets, its three files.

`StackConfiguration` keeps the targets of each pool and makes anew only those that a change concerns: with thousands of
pods, one that starts must not cost a look at all of them. A resource that cannot be used is left out, and says why in
its status; the others go on.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import orjson

from bellbuoy.resources import (
    Layout,
    MonitoringStack,
    PoolTargets,
    Refusal,
    Selection,
    alertmanager_config,
    enabled,
    own_pools,
    prometheus_config,
    rule_file,
    scrape_target_pool,
    select,
    to_yaml,
)
from bellbuoy.resources.ruling import Check
from bellbuoy_operator.builders import OPERATOR_FOLDER, SECRETS_FOLDER, Settings, object_name
from bellbuoy_operator.publishing import ALERTMANAGER, PROMETHEUS, RULES, TARGETS
from bellbuoy_operator.world import World


@dataclass
class StackConfiguration:
    """What one stack serves, and what was found while making it."""

    settings: Settings
    check: Check
    selection: Selection | None = None
    pools: dict[str, PoolTargets] = field(default_factory=dict)
    refusals: dict[tuple[str, str], Refusal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pool_refusals: dict[tuple[str, str], Refusal] = {}
        self._files: dict[str, bytes] = {}
        self._own: frozenset[str] = frozenset()

    def make(self, stack: MonitoringStack, world: World) -> dict[str, bytes]:
        """All parts, from the world as it is."""
        selection = select(stack, world.own.resources(), namespaces=world.namespace_labels())
        rules = rule_file(selection, check=self.check)
        self.selection, self.pools, self._pool_refusals = selection, {}, {}
        self._make_own_pools(stack, world)
        for target in selection.scrape_targets:
            self._make_pool(target.id, target, selection, world)
        # A target list that could not be made has no job either: else a server would wait for it.
        usable = [one for one in selection.scrape_targets if one.id in self.pools]
        taken = Selection(
            stack=stack,
            namespaces=selection.namespaces,
            scrape_targets=usable,
            alert_rules=selection.alert_rules,
            recording_rules=selection.recording_rules,
            receivers=selection.receivers,
        )
        layout = self._layout(stack)
        self._files = {
            PROMETHEUS: to_yaml(prometheus_config(taken, layout)).encode(),
            RULES: to_yaml(rules.content).encode(),
            ALERTMANAGER: to_yaml(alertmanager_config(taken, layout)).encode(),
        }
        self.refusals = {**selection.refusals, **rules.refusals, **self._pool_refusals}
        return self._parts()

    def remake_targets(self, stack: MonitoringStack, world: World, namespaces: Collection[str]) -> dict[str, bytes]:
        """All parts, after only pods of these namespaces (or, with "", nodes) have changed."""
        if self.selection is None:
            return self.make(stack, world)
        if "" in namespaces or stack.namespace in namespaces:
            self._make_own_pools(stack, world)
        for target in self.selection.scrape_targets:
            if target.id in self.pools and not self.selection.pod_namespaces(target).isdisjoint(namespaces):
                self._make_pool(target.id, target, self.selection, world)
        return self._parts()

    def _make_own_pools(self, stack: MonitoringStack, world: World) -> None:
        pools = own_pools(
            stack, world.pods_of(stack.namespace), world.nodes.objects.values(), been_ready=world.been_ready
        )
        self.pools.update(pools)

    def _make_pool(self, pool: str, target: Any, selection: Selection, world: World) -> None:
        try:
            self.pools[pool] = scrape_target_pool(selection, target, world.pods_of, been_ready=world.been_ready)
        except ValueError as e:
            self._pool_refusals[target.kind, target.id] = Refusal("InvalidRelabeling", f"relabelings: {e}")

    def _parts(self) -> dict[str, bytes]:
        targets = {f"{TARGETS}{pool}": orjson.dumps(made.groups) for pool, made in self.pools.items()}
        return {**self._files, **targets}

    def _layout(self, stack: MonitoringStack) -> Layout:
        alertmanager = f"{object_name(stack, 'alertmanager')}.{stack.namespace}.svc:9093"
        return Layout(
            secrets_folder=SECRETS_FOLDER,
            alertmanagers=[alertmanager] if enabled(stack, "alertmanager") else [],
            sd_url=self.settings.stack_url(stack),
            token_file=f"{OPERATOR_FOLDER}/token",
            ca_file=f"{OPERATOR_FOLDER}/ca.crt",
        )
