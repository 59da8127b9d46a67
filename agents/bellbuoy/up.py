"""`bellbuoy up`: all agents in one process on one machine, from the same manifests that `kubectl apply` takes.

The manifests become the files that the parts read when they run alone: `prometheus.yml`, `rules.yml`,
`alertmanager.yml` and the secrets they name, in a folder of its own. This machine is the node. Pods are not discovered,
as there are none: a ScrapeTarget with `static` addresses is scraped. A Slack webhook in the environment gets what the
manifests' Slack receivers would; without one, the message is printed as Slack would show it.
"""

import argparse
import asyncio
import logging
import platform
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bellbuoy import alertmanager, node_exporter, pushgateway, server
from bellbuoy.configuration import ConfigError
from bellbuoy.logs import fields
from bellbuoy.resources import (
    PART_POOLS,
    PART_PORTS,
    Layout,
    Manifests,
    Selection,
    alertmanager_config,
    enabled,
    load_manifests,
    prometheus_config,
    rule_file,
    scrape_target_pool,
    selected_secret_uses,
    to_yaml,
)
from bellbuoy.resources.binding import bound_expression

log = logging.getLogger(__name__)

# What alerts go to when the manifests have no receiver.
PRINTER = "terminal"


@dataclass(frozen=True)
class Options:
    """Where the manifests lie, where data goes, and which address and first port the parts listen at."""

    manifests: tuple[Path, ...]
    data: Path = Path("data")
    host: str = "127.0.0.1"
    ports: Mapping[str, int] = field(default_factory=lambda: dict(PART_PORTS))
    slack_webhook_url: str = field(default="", repr=False)

    def address(self, part: str) -> str:
        """Where a part listens."""
        return f"{self.host}:{self.ports[part]}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bellbuoy up`."""
    parser.epilog = (
        "SLACK_WEBHOOK_URL in the environment: an incoming webhook that gets the alerts (default: they are printed)."
    )
    parser.add_argument(
        "--manifests",
        metavar="PATH",
        type=Path,
        nargs="+",
        required=True,
        help="files or folders with resources (required)",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        default=Path("data"),
        help="where metrics and state are kept (default: data)",
    )
    parser.add_argument(
        "--web.host",
        dest="host",
        default="127.0.0.1",
        metavar="HOST",
        help="address that the parts listen at (default: 127.0.0.1)",
    )
    for part, port in PART_PORTS.items():
        parser.add_argument(
            f"--{part}.port",
            dest=f"port_{part}",
            type=_port,
            default=port,
            metavar="PORT",
            help=f"port of the {part} (default: {port})",
        )


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f'"{text}" is no port: choose 1 to 65535')
    return int(text)


def options(args: argparse.Namespace) -> Options:
    """The settings that these arguments say."""
    ports = {part: getattr(args, f"port_{part}") for part in PART_PORTS}
    return Options(tuple(args.manifests), args.data, args.host, ports, args.slack_webhook_url)


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Run all parts until `stop` is set; if one ends, all end. Raises ConfigError for manifests that cannot be used."""
    manifests = await asyncio.to_thread(load_manifests, options.manifests)
    await asyncio.to_thread(write_configuration, manifests, options)
    for kind in manifests.passed_over:
        log.info("kind is passed over: it needs a cluster", extra=fields(kind=kind or "?"))
    stack = manifests.stack()
    parts: dict[str, Coroutine[Any, Any, None]] = {
        "server": server.run(
            server.Options(
                listen=options.address("server"),
                storage_path=options.data / "server",
                config_file=options.data / "prometheus.yml",
                external_url=f"http://{options.address('server')}",
            ),
            stop,
            listening=listening,
        ),
        "alertmanager": alertmanager.run(
            alertmanager.Options(
                config_file=options.data / "alertmanager.yml",
                storage_path=options.data / "alertmanager",
                listen=options.address("alertmanager"),
                external_url=f"http://{options.address('alertmanager')}",
            ),
            stop,
        ),
        "pushgateway": pushgateway.run(
            pushgateway.Options(
                listen=options.address("pushgateway"), persistence_file=str(options.data / "pushgateway")
            ),
            stop,
        ),
        "node-exporter": node_exporter.run(node_exporter.Options(listen=options.address("node-exporter")), stop),
    }
    for part in [name for name in parts if name != "server" and not enabled(stack, name)]:
        parts.pop(part).close()
    async with asyncio.TaskGroup() as tasks:
        for part, coroutine in parts.items():
            tasks.create_task(_one(part, coroutine, stop))


async def _one(part: str, coroutine: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """A part; when it ends, for whatever reason, the others are told to."""
    try:
        await coroutine
    finally:
        if not stop.is_set():
            log.error("part ended, stopping all", extra=fields(part=part))
            stop.set()


def write_configuration(manifests: Manifests, options: Options) -> None:
    """Write the files that the parts read. Raises ConfigError when a manifest cannot be used."""
    selection = manifests.selection()
    secrets = options.data / "secrets"
    for folder in (options.data, secrets):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout = Layout(
        secrets_folder=str(secrets.resolve()),
        alertmanagers=[options.address("alertmanager")] if enabled(selection.stack, "alertmanager") else [],
        targets=_targets(selection, options),
        rule_files=[str((options.data / "rules.yml").resolve())],
    )
    rules = rule_file(selection, check=bound_expression)
    if rules.refusals:
        texts = [f"{kind} {name}: {refusal.message}" for (kind, name), refusal in rules.refusals.items()]
        raise ConfigError("cannot use the manifests:\n" + "\n".join(f"  {text}" for text in texts))
    notifying = alertmanager_config(selection, layout)
    if not selection.receivers:
        notifying["receivers"].append({"name": PRINTER, "print_configs": [{}]})
        notifying["route"]["receiver"] = PRINTER
    for use in selected_secret_uses(selection):
        if (use.namespace, use.name) in manifests.secrets:
            _write(secrets / use.file, manifests.secret(use))
    for receiver in notifying["receivers"]:
        _settle_slack(receiver, options)
    _write(options.data / "prometheus.yml", to_yaml(prometheus_config(selection, layout)))
    _write(options.data / "rules.yml", to_yaml(rules.content))
    _write(options.data / "alertmanager.yml", to_yaml(notifying))


def _settle_slack(receiver: dict[str, Any], options: Options) -> None:
    """Point a Slack receiver without its Secret at the webhook of the environment; without one, print its messages."""
    configs = receiver.get("slack_configs", [])
    if all(Path(config["api_url_file"]).exists() for config in configs):
        return
    if not options.slack_webhook_url:
        del receiver["slack_configs"]
        receiver["print_configs"] = [{}]
        return
    path = options.data / "secrets" / "slack-webhook-url"
    _write(path, options.slack_webhook_url)
    for config in configs:
        config["api_url_file"] = str(path.resolve())


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


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


__all__ = ["Options", "add_arguments", "options", "run"]
