"""The command line: one program, a subcommand for each part.

Only the part that is asked for is imported, since each part's image holds that part's packages only. The environment is
read here and nowhere else; signals are turned into the event that every part stops at. An error that explains itself is
printed as one line; any other keeps its trace, since it is a mistake of ours.
"""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any

from bellbuoy import __version__, optional
from bellbuoy.errors import CannotError, OptionsError, causes, explain
from bellbuoy.logs import FORMATS, LEVELS, set_up

log = logging.getLogger("bellbuoy")

# Each part: its module, the extra of the distribution that it needs, and what it is.
PARTS: dict[str, tuple[str, str, str]] = {
    "up": ("bellbuoy.up", "up", "runs all agents in one process on this machine, without Kubernetes"),
    "server": ("bellbuoy.server", "server", "pulls metrics, stores them, answers PromQL, evaluates rules"),
    "alertmanager": ("bellbuoy.alertmanager", "alertmanager", "groups alerts and tells Slack and others"),
    "pushgateway": ("bellbuoy.pushgateway", "pushgateway", "takes metrics from jobs too short to be scraped"),
    "node-exporter": ("bellbuoy.node_exporter", "node-exporter", "exports this machine's figures"),
    "tsdb": ("bellbuoy.tsdb_tools", "server", "looks into a data folder, exports, imports and archives its samples"),
    "rules": ("bellbuoy.rules_tools", "server", "checks rule files, runs their tests, tries rules on stored history"),
    "operator": ("bellbuoy_operator", "operator", "watches custom resources and pods, runs stacks on Kubernetes"),
}

# Settings that may come from the environment, since they are secret: a flag would show them to everyone.
SLACK_WEBHOOK = "SLACK_WEBHOOK_URL"


# What `bellbuoy --help` ends with.
EPILOG = """\
bellbuoy PART --help shows a part's flags.

To begin, on this machine, from a checkout:  bellbuoy up --manifests examples/
On Kubernetes:                               kubectl apply --server-side -k deploy/base
"""


class _Help(argparse.HelpFormatter):
    """Names of 24 letters still have their meaning beside them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns, 120) - 2)

    def add_argument(self, action: argparse.Action) -> None:
        """Subcommands count for the width of the left column, too."""
        super().add_argument(action)
        for sub in self._iter_indented_subactions(action):
            width = len(self._format_action_invocation(sub)) + self._current_indent
            self._action_max_length = max(self._action_max_length, width)


class _HelpAsWritten(_Help, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of description and epilog."""


def parser(part: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; only the flags of the named part are filled in."""
    out = argparse.ArgumentParser(
        prog="bellbuoy",
        description="Monitoring after Prometheus, for Kubernetes and for single machines. Each part is a subcommand.",
        epilog=EPILOG,
        formatter_class=_HelpAsWritten,
    )
    out.add_argument("--version", action="version", version=f"bellbuoy {__version__}")
    parts = out.add_subparsers(dest="part", metavar="PART", required=True, title="parts")
    for name, (_, _, meaning) in PARTS.items():
        description = meaning[0].upper() + meaning[1:] + "."
        sub = parts.add_parser(name, help=meaning, description=description, formatter_class=_HelpAsWritten)
        if name == part:
            load(name).add_arguments(sub)
        for one in leaves(sub):
            _add_log_flags(one)
    return out


def leaves(sub: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a part's commands, or its own if it has none: flags of every part stand at the end of a line."""
    for action in sub._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return [sub]


def _add_log_flags(sub: argparse.ArgumentParser) -> None:
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


def load(part: str) -> ModuleType:
    """A part's package. Ends the program when its extra is not installed."""
    module, extra, _ = PARTS[part]
    try:
        return optional.load(module, extra=extra, cannot="run")
    except CannotError as e:
        raise SystemExit(f"bellbuoy {part}: {e}") from e


def main(argv: Sequence[str] | None = None) -> None:
    """Run a part until it is told to stop. Exit status 1: it could not start or go on; 2: the flags were wrong."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    part = arguments[0] if arguments and arguments[0] in PARTS else None
    whole = parser(part)
    if part is None and arguments and arguments[0].startswith("--log."):
        whole.error(
            f"cannot use {arguments[0]} there: flags stand behind the part, as in bellbuoy up --log.level debug"
        )
    args = whole.parse_args(arguments)
    set_up(level=args.log_level, form=args.log_format)
    args.slack_webhook_url = os.environ.get(SLACK_WEBHOOK, "")
    module = load(args.part)
    try:
        asyncio.run(_until_signal(module.run, module.options(args)))
    except Exception as e:
        texts = [explain(one) for one in causes(e)]
        if None in texts:
            raise
        log.debug("trace", exc_info=True)
        for text in dict.fromkeys(texts):
            print(f"bellbuoy {args.part}: {text}", file=sys.stderr)
        raise SystemExit(2 if isinstance(e, OptionsError) else 1) from None


async def _until_signal(run: Callable[[Any, asyncio.Event], Awaitable[None]], options: Any) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(options, stop)
