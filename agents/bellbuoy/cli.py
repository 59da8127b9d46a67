"""The command line: one program, a subcommand for each part.

Only the part that is asked for is imported, since each part's image holds that part's packages only. The environment is
read here and nowhere else; signals are turned into the event that every part stops at.
"""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any

from bellbuoy import __version__
from bellbuoy.logs import FORMATS, LEVELS, fields, set_up

log = logging.getLogger("bellbuoy")

# Each part: its module, the extra of the distribution that it needs, and what it is.
PARTS: dict[str, tuple[str, str, str]] = {
    "server": ("bellbuoy.server", "server", "pulls metrics, stores them, answers PromQL, evaluates rules"),
    "alertmanager": ("bellbuoy.alertmanager", "alertmanager", "groups alerts and tells Slack and others"),
    "pushgateway": ("bellbuoy.pushgateway", "pushgateway", "takes metrics from jobs too short to be scraped"),
    "node-exporter": ("bellbuoy.node_exporter", "node-exporter", "exports this machine's figures"),
    "operator": ("bellbuoy_operator", "operator", "watches custom resources and pods, runs stacks on Kubernetes"),
    "up": ("bellbuoy.up", "up", "runs all agents in one process on this machine, without Kubernetes"),
}

# Settings that may come from the environment, since they are secret: a flag would show them to everyone.
SLACK_WEBHOOK = "SLACK_WEBHOOK_URL"


def parser(part: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; only the flags of the named part are filled in."""
    out = argparse.ArgumentParser(
        prog="bellbuoy",
        description="Monitoring on Kubernetes after Prometheus. Each part is a subcommand.",
        epilog="bellbuoy PART --help shows a part's flags.",
    )
    out.add_argument("--version", action="version", version=f"bellbuoy {__version__}")
    parts = out.add_subparsers(dest="part", metavar="PART", required=True, title="parts")
    for name, (_, _, meaning) in PARTS.items():
        sub = parts.add_parser(name, help=meaning, description=meaning[0].upper() + meaning[1:] + ".")
        if name == part:
            load(name).add_arguments(sub)
        sub.add_argument(
            "--log.level",
            dest="log_level",
            choices=LEVELS,
            default="info",
            help="least level that is logged (default: info)",
        )
        sub.add_argument(
            "--log.format",
            dest="log_format",
            choices=FORMATS,
            default="logfmt",
            help="form of a log line (default: logfmt)",
        )
    return out


def load(part: str) -> ModuleType:
    """A part's package. Ends the program when its extra is not installed."""
    module, extra, _ = PARTS[part]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("bellbuoy"):
            raise
        raise SystemExit(
            f"cannot run {part}: the package {e.name} is not installed; pip install 'bellbuoy[{extra}]'"
        ) from e


def main(argv: Sequence[str] | None = None) -> None:
    """Run a part until it is told to stop. Exit status 1: it could not start or go on; 2: the flags were wrong."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    part = next((word for word in arguments if not word.startswith("-")), None)
    args = parser(part if part in PARTS else None).parse_args(arguments)
    set_up(level=args.log_level, form=args.log_format)
    args.slack_webhook_url = os.environ.get(SLACK_WEBHOOK, "")
    module = load(args.part)
    try:
        options = module.options(args)
        asyncio.run(_until_signal(module.run, options))
    except (OSError, ValueError, RuntimeError) as e:
        log.error("cannot go on", extra=fields(part=args.part, error=str(e)))  # noqa: TRY400 - the text says it all
        log.debug("trace", exc_info=True)
        raise SystemExit(1) from None


async def _until_signal(run: Callable[[Any, asyncio.Event], Awaitable[None]], options: Any) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(options, stop)
