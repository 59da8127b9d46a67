"""From manifests to the files that the parts read when they run alone, each resource checked by itself.

What would make a part refuse its file is found here, at the one resource that is at fault, so that it can be left out
with its name and cure while all others go on. Secrets lie in a folder of their own that holds only what is in use.
"""

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bellbuoy.alertmanager import load_config
from bellbuoy.configuration import ConfigError
from bellbuoy.http.files import write_atomically
from bellbuoy.resources import (
    PART_POOLS,
    AlertReceiver,
    Layout,
    Manifests,
    Resource,
    ScrapeTarget,
    Selection,
    alertmanager_config,
    enabled,
    prometheus_config,
    rule_file,
    scrape_target_pool,
    secret_uses,
    to_yaml,
)
from bellbuoy.resources.binding import bound_expression
from bellbuoy.resources.manifests import Key, key_of
from bellbuoy.resources.secrets import secret_use
from bellbuoy.rules import BrokenRule, load_groups
from bellbuoy.server import read_config, rule_groups
from bellbuoy.up.options import Options

# Who gets alerts when the manifests have no receiver, and how fast: someone is looking.
NEAREST: Mapping[str, str] = {"receiver": "terminal", "group_wait": "5s", "group_interval": "30s"}
# The environment's webhook, among the files of secrets.
SLACK_FILE = "slack-webhook-url"

PROMETHEUS, RULES, ALERTMANAGER = "prometheus.yml", "rules.yml", "alertmanager.yml"


@dataclass(frozen=True)
class Files:
    """What is written: configuration by name, and the values of secrets by file."""

    texts: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)

    def write(self, data: Path) -> None:
        """Write them into the data folder; secrets that are not in use any more are removed."""
        folder = data / "secrets"
        for one in (data, folder):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, value in self.secrets.items():
            write_atomically(folder / name, value.encode())
        for name, text in self.texts.items():
            write_atomically(data / name, text.encode())
        for path in folder.iterdir():
            if path.name not in self.secrets:
                path.unlink()


def usable(manifests: Manifests, options: Options, *, last: Manifests | None = None) -> Manifests:
    """The manifests without the resources that no part could use, or with what those were in `last`.

    Raises ConfigError when the stack itself cannot be used.
    """
    refused = dict(_refused(manifests, options))
    if not refused:
        return manifests
    before = {key_of(one): one for one in (last.resources if last else ()) if key_of(one) in refused}
    kept = manifests.without(refused)
    again = replace(kept, resources=[*kept.resources, *before.values()])
    # What was there before may need a Secret that is gone since.
    worn = dict(_refused(again, options))
    return replace(again, resources=[one for one in again.resources if key_of(one) not in worn])


def make_files(manifests: Manifests, options: Options) -> Files:
    """The files of manifests that are usable. Raises ConfigError where they are not, as a whole."""
    selection = manifests.selection()
    layout = _layout(selection, options)
    secrets = dict(_secrets(selection, manifests))
    notifying = alertmanager_config(selection, layout)
    for receiver in selection.receivers:
        if receiver.spec.slack is not None and _slack_file(receiver) not in secrets:
            _settle(notifying, receiver.id, options, send_resolved=receiver.spec.send_resolved)
    if not selection.receivers:
        notifying["receivers"].append({"name": NEAREST["receiver"]})
        notifying["route"].update(NEAREST)
        _settle(notifying, NEAREST["receiver"], options, send_resolved=True)
    if options.slack_webhook_url:
        secrets[SLACK_FILE] = options.slack_webhook_url
    texts = {
        PROMETHEUS: to_yaml(prometheus_config(selection, layout)),
        RULES: to_yaml(rule_file(selection, check=bound_expression).content),
        ALERTMANAGER: to_yaml(notifying),
    }
    rule_groups(read_config(texts[PROMETHEUS], name=PROMETHEUS), {RULES: texts[RULES]})
    load_config(texts[ALERTMANAGER], name=ALERTMANAGER)
    return Files(texts, secrets)


def _refused(manifests: Manifests, options: Options) -> Iterator[tuple[Key, str]]:
    """Resources that cannot be used, with why, and what to do."""
    selection = manifests.selection()
    alone = Selection(selection.stack, selection.namespaces)
    layout = _layout(alone, options)
    read_config(to_yaml(prometheus_config(alone, layout)), name=PROMETHEUS)
    for target in selection.scrape_targets:
        yield from _told(target, lambda one: _check_target(one, alone, options), manifests)
    for receiver in selection.receivers:
        yield from _told(receiver, lambda one: _check_receiver(one, alone, layout), manifests)
    refusals = rule_file(selection, check=bound_expression).refusals
    for rule in (*selection.recording_rules, *selection.alert_rules):
        if refusal := refusals.get((rule.kind, rule.id)):
            yield key_of(rule), f"cannot use {rule}: {refusal.message}"
        else:
            yield from _told(rule, lambda one: _check_rule(one, alone), manifests)


# Places in the files of the parts, and what they are in a manifest.
_PLACES = (
    (re.compile(r"cannot use (prometheus|alertmanager)\.yml: "), ""),
    (re.compile(r"\bscrape_configs\[\d+\]\.metric_relabel_configs\b"), "spec.metricRelabelings"),
    (re.compile(r"\bscrape_configs\[\d+\]"), "spec"),
    (re.compile(r"\broute\.routes\[\d+\]"), "spec"),
    (re.compile(r"\breceivers\[\d+\]\.(slack|webhook)_configs\[\d+\]"), r"spec.\1"),
)


def _in_manifest(text: str) -> str:
    for place, in_manifest in _PLACES:
        text = place.sub(in_manifest, text)
    return text


def _told(one: Resource[Any], check: Any, manifests: Manifests) -> Iterator[tuple[Key, str]]:
    try:
        _check_secrets(one, manifests)
        check(one)
    except ConfigError as e:
        yield key_of(one), f"cannot use {one}: {_in_manifest(str(e))}"


def _check_secrets(one: Resource[Any], manifests: Manifests) -> None:
    for use in sorted(secret_uses(one)):
        settled = one.kind == "AlertReceiver" and one.spec.slack is not None
        if (use.namespace, use.name) in manifests.secrets or not settled:
            manifests.secret(use)


def _check_target(target: ScrapeTarget, alone: Selection, options: Options) -> None:
    selection = replace(alone, scrape_targets=[target])
    try:
        scrape_target_pool(selection, target, lambda _: ())
    except ValueError as e:
        raise ConfigError(f"spec.relabelings: {e}") from e
    read_config(to_yaml(prometheus_config(selection, _layout(selection, options))), name=PROMETHEUS)


def _check_receiver(receiver: AlertReceiver, alone: Selection, layout: Layout) -> None:
    config = alertmanager_config(replace(alone, receivers=[receiver]), layout)
    load_config(to_yaml(config), name=ALERTMANAGER)


def _check_rule(rule: Resource[Any], alone: Selection) -> None:
    alerts = rule.kind == "AlertRule"
    selection = replace(alone, alert_rules=[rule]) if alerts else replace(alone, recording_rules=[rule])
    text = to_yaml(rule_file(selection, check=bound_expression).content)
    [group] = load_groups({RULES: text}, interval_seconds=60.0)
    for one in group.rules:
        if isinstance(one, BrokenRule):
            raise ConfigError(one.reason)


def _secrets(selection: Selection, manifests: Manifests) -> Iterator[tuple[str, str]]:
    for one in (*selection.scrape_targets, *selection.receivers):
        for use in secret_uses(one):
            if (use.namespace, use.name) in manifests.secrets:
                yield use.file, manifests.secret(use)


def _slack_file(receiver: AlertReceiver) -> str:
    return secret_use(receiver, receiver.spec.slack.webhook).file if receiver.spec.slack is not None else ""


def _settle(notifying: dict[str, Any], name: str, options: Options, *, send_resolved: bool) -> None:
    """Let a receiver tell the webhook of the environment; without one, print its messages."""
    receiver = next(one for one in notifying["receivers"] if one["name"] == name)
    if not options.slack_webhook_url:
        receiver.pop("slack_configs", None)
        receiver["print_configs"] = [{"send_resolved": send_resolved}]
        return
    path = str((options.data / "secrets" / SLACK_FILE).resolve())
    [config] = receiver.setdefault("slack_configs", [{"send_resolved": send_resolved}])
    config["api_url_file"] = path


def _layout(selection: Selection, options: Options) -> Layout:
    return Layout(
        secrets_folder=str((options.data / "secrets").resolve()),
        alertmanagers=[options.address("alertmanager")] if enabled(selection.stack, "alertmanager") else [],
        targets=_targets(selection, options),
        rule_files=[str((options.data / RULES).resolve())],
    )


def _targets(selection: Selection, options: Options) -> dict[str, list[dict[str, Any]]]:
    """Targets by pool: the parts themselves, this machine as the node, and whatever has fixed addresses."""
    node = platform.node()
    out: dict[str, list[dict[str, Any]]] = {}
    for part, pool in PART_POOLS.items():
        labels = {"job": pool, "instance": node if pool == "node" else options.address(part), "node": node}
        out[pool] = [{"targets": [options.address(part)], "labels": labels}]
    for target in selection.scrape_targets:
        out[target.id] = list(scrape_target_pool(selection, target, lambda _: ()).groups)
    return out
