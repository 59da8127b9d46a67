"""Does what the flags say, on a thread of its own, so that a signal is heard meanwhile."""

import asyncio
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from bellbuoy.archive.source import open_storage
from bellbuoy.configuration import ConfigError
from bellbuoy.printing import show, show_json
from bellbuoy.promql import Engine, QueryError
from bellbuoy.rules import BacktestError, BrokenRule, LoadedGroup, RuleConfig, Window, as_json, backtest, load_groups
from bellbuoy.rules_tools.checking import Checked, check
from bellbuoy.rules_tools.errors import BacktestDataError, RulesFailedError
from bellbuoy.rules_tools.options import Options
from bellbuoy.rules_tools.report import report
from bellbuoy.rules_tools.unit_tests import run_file
from bellbuoy.threads import until_stopped
from bellbuoy.tsdb import StorageError

LINT_EXIT_STATUS = 3
INTERVAL_SECONDS = 60.0
_ANSWER_SECONDS = 300.0


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Do what the options say. Raises CannotError when something is wrong with rules; nothing listens anywhere."""
    if (status := await until_stopped(partial(perform, options), stop)) != 0:
        raise SystemExit(status)


def perform(options: Options, stopped: Callable[[], bool] = lambda: False) -> int:
    """The work itself; returns the exit status. Raises CannotError."""
    if options.command == "check":
        return check_files(options)
    if options.command == "test":
        return test_files(options, stopped)
    return try_rules(options, stopped)


def check_files(options: Options) -> int:
    """Print what is wrong in each file. Raises RulesFailedError when something is."""
    checked: list[Checked] = []
    for path in options.files:
        found = _checked(path, options.lint)
        checked.append(found)
        print(f"Checking {found.file}")
        for error in found.errors:
            print(f"  FAILED: {error}")
        for oddity in found.oddities:
            print(f"  ODD: {oddity}")
        if not found.errors and not found.oddities:
            print(f"  SUCCESS: {found.rules} rules found")
    if wrong := sum(bool(found.errors) for found in checked):
        raise RulesFailedError(f"{wrong} of {len(checked)} files have mistakes; what to do is said above")
    return LINT_EXIT_STATUS if options.lint_fatal and any(found.oddities for found in checked) else 0


def _checked(path: Path, lint: str) -> Checked:
    if str(path) == "-":
        return check(sys.stdin.read(), name="standard input", lint=lint)
    return check(_text(path), name=str(path), lint=lint)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read {path}: {e}; name a readable file") from e


def test_files(options: Options, stopped: Callable[[], bool]) -> int:
    """Run the tests of each file. Raises RulesFailedError when one fails."""
    outcomes = []
    failed = 0
    for path in options.files:
        if stopped():
            break
        try:
            outcome = run_file(path, only=options.only)
            errors = outcome.errors
            outcomes.append(asdict(outcome))
        except ConfigError as e:
            errors = [str(e)]
            outcomes.append({"file": str(path), "tests": 0, "errors": errors})
        failed += bool(errors)
        if options.output == "text":
            print(f"Testing {path}")
            for error in errors:
                print(f"  FAILED: {error}")
            if not errors:
                print(f"  SUCCESS: {outcomes[-1]['tests']} tests")
    if options.output == "json":
        show_json(outcomes)
    if failed:
        raise RulesFailedError(
            f"the tests of {failed} of {len(options.files)} files failed; what differs is said above"
        )
    return 0


def try_rules(options: Options, stopped: Callable[[], bool]) -> int:
    """Print when each rule would have fired. Raises BacktestDataError and ConfigError."""
    rules = list(_rules(options))
    asked = _ask_server if options.url else _look_into_folder
    found = []
    for one in asked(options, rules, stopped):
        found.append(one)
        if options.output == "text":
            show(report(one, width=min(120, shutil.get_terminal_size().columns)) + "\n")
    if options.output == "json":
        show_json(found)
    return 0


def _rules(options: Options) -> Iterator[tuple[RuleConfig, LoadedGroup | None]]:
    """The rules to try, each with its group."""
    if options.expr:
        text = orjson.dumps(
            {"groups": [{"name": "backtest", "rules": [{"alert": options.name or "Backtest", "expr": options.expr}]}]}
        ).decode()
        files = {"--expr": text}
    else:
        files = {str(path): _text(path) for path in options.files}
    there = []
    for group in load_groups(files, interval_seconds=INTERVAL_SECONDS):
        for rule in group.rules:
            name = rule.name if isinstance(rule, BrokenRule) else rule.alert or rule.record
            there.append(name)
            if options.name not in ("", name):
                continue
            if isinstance(rule, BrokenRule):
                raise ConfigError(f"cannot use {group.file}: {rule.error}; mend it there")
            if options.expr:
                more = {"for_": options.for_seconds, "keep_firing_for": options.keep_firing_seconds}
                yield rule.model_copy(update=more), None
            else:
                yield rule, group
    if options.name and options.name not in there:
        raise ConfigError(
            f'cannot try rule "{options.name}": there is none; use one of {", ".join(sorted(set(there)))}'
        )


def _window(options: Options, group: LoadedGroup | None) -> Window:
    interval = options.interval_seconds or (group.interval_seconds if group else INTERVAL_SECONDS)
    try:
        return Window(round(options.start * 1000), round(options.end * 1000), round(interval * 1000))
    except BacktestError as e:
        raise BacktestDataError(str(e)) from e


def _look_into_folder(
    options: Options, rules: list[tuple[RuleConfig, LoadedGroup | None]], stopped: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    folder = options.storage_path
    if folder is None or not folder.is_dir():
        raise BacktestDataError(f"cannot use {folder}: it is no folder; name a data folder, or a server with --url")
    with ExitStack() as stack:
        try:
            storage = stack.enter_context(open_storage(folder))
        except StorageError as e:
            cure = "while a server holds the folder, ask that: --url=http://localhost:9090"
            raise BacktestDataError(f"{e}; {cure}") from e
        engine = Engine(storage)
        for rule, group in rules:
            try:
                found = backtest(
                    engine,
                    rule,
                    _window(options, group),
                    limit=group.limit if group else 0,
                    query_offset_ms=round(group.query_offset_seconds * 1000) if group else 0,
                    cancelled=stopped,
                )
            except QueryError as e:
                raise BacktestDataError(f'cannot try rule "{rule.alert or rule.record}": {e}') from e
            yield as_json(found, rule)


def _ask_server(
    options: Options, rules: list[tuple[RuleConfig, LoadedGroup | None]], stopped: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    for rule, group in rules:
        if stopped():
            return
        window = _window(options, group)
        form = {
            "rule": orjson.dumps(rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)).decode(),
            "start": window.start_ms / 1000,
            "end": window.end_ms / 1000,
            "interval": window.interval_ms / 1000,
            "limit": group.limit if group else 0,
            "query_offset": group.query_offset_seconds if group else 0.0,
        }
        yield _post(f"{options.url}/api/v1/bellbuoy/backtest", form)


def _post(url: str, form: dict[str, Any]) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise BacktestDataError(f"cannot ask {url}: it is no address; write one such as http://localhost:9090")
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - checked above
            data: dict[str, Any] = orjson.loads(answer.read())["data"]
            return data
    except urllib.error.HTTPError as e:
        said = e.read()[:2000].decode(errors="replace")
        raise BacktestDataError(f"cannot ask {url}: it answers {e.code}: {said}; see that a Bellbuoy is there") from e
    except (OSError, ValueError, KeyError) as e:
        raise BacktestDataError(f"cannot ask {url}: {e}; see that a Bellbuoy is there") from e
