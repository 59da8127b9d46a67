"""The flags of `bellbuoy rules`: a command and its files, or a rule and the history that it is tried on."""

import argparse
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bellbuoy.durations import parse_duration
from bellbuoy.errors import OptionsError
from bellbuoy.rules_tools.checking import LINTS

OUTPUTS = ("text", "json")


@dataclass(frozen=True)
class Options:
    """What to do with which rules."""

    command: str
    """check, test or backtest."""
    files: tuple[Path, ...] = ()
    lint: str = "duplicate-rules"
    lint_fatal: bool = False
    only: str = ""
    """Names of the tests that run: a regular expression."""
    output: str = "text"
    name: str = ""
    """The one rule of the file that is tried."""
    expr: str = ""
    for_seconds: float = 0.0
    keep_firing_seconds: float = 0.0
    storage_path: Path | None = None
    url: str = ""
    start: float = 0.0
    end: float = 0.0
    interval_seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bellbuoy rules`."""
    parser.description = "Checks rule files, runs unit tests of rules, and tries rules on stored history."
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")

    def command(name: str, meaning: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=meaning, description=description, formatter_class=parser.formatter_class)

    add = command(
        "check",
        "says what is wrong in rule files, with place and cure",
        "Reads rule files as a server does and says all that it would refuse. Exit status 1: something\n"
        "is wrong; 3: something is odd, with --lint-fatal.",
    ).add_argument
    add("files", metavar="FILE", nargs="+", type=Path, help="a rule file; - is standard input")
    add(
        "--lint",
        choices=LINTS,
        default="duplicate-rules",
        help="what is odd: rules that write the same series, or nothing (default: %(default)s)",
    )
    add("--lint-fatal", action="store_true", help="end with exit status 3 when something is odd (default: off)")

    add = command(
        "test",
        "runs unit tests of rules: promtool's files, unchanged",
        "Runs unit tests of rules, written as for promtool. Exit status 1: a test failed.",
    ).add_argument
    add("files", metavar="FILE", nargs="+", type=Path, help="a file of tests, which names its rule files")
    add("--run", metavar="REGEX", default="", help="run only tests whose names match (default: all)")
    add("--output", choices=OUTPUTS, default="text", help="form of what is printed (default: %(default)s)")

    add = command(
        "backtest",
        "shows when a rule would have fired on the stored history",
        "Evaluates a rule over stored history and shows when it would have fired. The history is a data\n"
        "folder that no server holds, or a server's.",
    ).add_argument
    add("files", metavar="FILE", nargs="?", type=Path, help="a rule file (default: the rule of --expr)")
    add("--name", metavar="NAME", default="", help="the one rule of the file to try (default: all)")
    add("--expr", metavar="PROMQL", default="", help="an expression to try instead of a file (default: none)")
    add("--for", dest="for_", metavar="DURATION", default="0", help="`for` of the expression (default: 0)")
    add("--keep-firing-for", metavar="DURATION", default="0", help="`keep_firing_for` of the expression (default: 0)")
    add(
        "--storage.path",
        dest="storage_path",
        type=Path,
        metavar="FOLDER",
        help="folder of the time series, of a stopped server (default: data, without --url)",
    )
    add("--url", metavar="URL", default="", help="the server to ask, such as http://localhost:9090 (default: none)")
    add("--start", metavar="TIME", help="first evaluation, RFC 3339 or seconds since 1970 (default: a day before end)")
    add("--end", metavar="TIME", help="last evaluation, RFC 3339 or seconds since 1970 (default: now)")
    add("--interval", metavar="DURATION", default="0", help="time between evaluations (default: the group's, or 1m)")
    add("--output", choices=OUTPUTS, default="text", help="form of what is printed (default: %(default)s)")


def options(args: argparse.Namespace) -> Options:
    """The options that the flags say. Raises OptionsError."""
    if args.command == "check":
        return Options("check", tuple(args.files), lint=args.lint, lint_fatal=args.lint_fatal)
    if args.command == "test":
        try:
            re.compile(args.run)
        except re.error as e:
            raise OptionsError(f"cannot use --run {args.run!r}: {e}; write a regular expression") from e
        return Options("test", tuple(args.files), only=args.run, output=args.output)
    if bool(args.files) == bool(args.expr):
        raise OptionsError("cannot try a rule: name either a rule file or --expr")
    if args.url and args.storage_path:
        raise OptionsError("cannot use --url with --storage.path: keep one of them")
    end = _time("--end", args.end) if args.end else time.time()
    start = _time("--start", args.start) if args.start else end - 86400
    if end < start:
        raise OptionsError("cannot use --end: it is before --start; exchange them")
    return Options(
        "backtest",
        (args.files,) if args.files else (),
        output=args.output,
        name=args.name,
        expr=args.expr,
        for_seconds=_duration("--for", args.for_),
        keep_firing_seconds=_duration("--keep-firing-for", args.keep_firing_for),
        storage_path=None if args.url else args.storage_path or Path("data"),
        url=args.url.rstrip("/"),
        start=start,
        end=end,
        interval_seconds=_duration("--interval", args.interval),
    )


def _duration(flag: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as e:
        raise OptionsError(f"cannot use {flag}: {e}") from e


def _time(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass  # then it is a date
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError) as e:
        raise OptionsError(
            f"cannot use {flag} {text!r}: write seconds since 1970, or a time such as 2026-01-31T12:00:00Z"
        ) from e
