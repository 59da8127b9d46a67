"""The parts in one process: started together, told of changed manifests, ended together.

A change is found by looking at the files once a second, and told to server and alertmanager over HTTP, as to any that
runs alone. When one part cannot go on, all end, and the error says which it was.
"""

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp

from bellbuoy import alertmanager, node_exporter, pushgateway, server
from bellbuoy.configuration import ConfigError
from bellbuoy.errors import CannotError, explain
from bellbuoy.logs import fields
from bellbuoy.resources import Manifests, MonitoringStack, enabled, load_manifests
from bellbuoy.resources.manifests import manifest_files
from bellbuoy.up.files import ALERTMANAGER, PROMETHEUS, make_files, usable
from bellbuoy.up.options import Options

log = logging.getLogger(__name__)

# How often the manifests' times and sizes are looked at: an edit is seen at once, and a look costs microseconds.
WATCH_SECONDS = 1.0
# How long a part may take to read its files again.
RELOAD_SECONDS = 30.0

Listening = Callable[[str], None]
Part = Callable[[asyncio.Event, Listening], Awaitable[None]]


class PartError(CannotError):
    """A part that cannot start or go on, and why."""


async def run(options: Options, stop: asyncio.Event, *, listening: Listening | None = None) -> None:
    """Run all parts until `stop` is set; if one ends, all end. `listening` is told the server's address, once all do.

    Raises ConfigError for manifests of which nothing can be used, StateError for a data folder that cannot, PartError,
    or a group of these.
    """
    seen = await asyncio.to_thread(_fingerprint, options.manifests)
    lock = alertmanager.lock_folder(options.data, flag="--data")
    try:
        manifests = await asyncio.to_thread(_take, options, None)
        if manifests.mistakes and not manifests.resources:
            raise ConfigError("cannot use any manifest: " + "; ".join(manifests.mistakes))
        _say(manifests)
        parts = _parts(options, manifests.stack())
        waiting = set(parts)

        def listens(part: str) -> None:
            waiting.discard(part)
            if not waiting:
                print(_greeting(options, manifests), flush=True)
                if listening is not None:
                    listening(options.address("server"))

        failures: list[PartError] = []
        async with asyncio.TaskGroup() as tasks:
            for name, part in parts.items():
                tasks.create_task(_one(name, part, stop, listens, failures))
            tasks.create_task(_watch(options, manifests, seen, stop))
    finally:
        os.close(lock)
    if len(failures) > 1:
        raise ExceptionGroup("parts cannot go on", failures)
    if failures:
        raise failures[0]


def _parts(options: Options, stack: MonitoringStack) -> Mapping[str, Part]:
    """What the stack wants to run, each to be called with the event that ends it."""

    def run_server(stop: asyncio.Event, listening: Listening) -> Awaitable[None]:
        settings = server.Options(
            listen=options.listen("server"),
            storage_path=options.data / "server",
            config_file=options.data / PROMETHEUS,
            external_url=f"http://{_public(options, 'server')}",
            lifecycle=True,
        )
        return server.run(settings, stop, listening=listening)

    def run_alertmanager(stop: asyncio.Event, listening: Listening) -> Awaitable[None]:
        settings = alertmanager.Options(
            config_file=options.data / ALERTMANAGER,
            storage_path=options.data / "alertmanager",
            listen=options.listen("alertmanager"),
            external_url=f"http://{_public(options, 'alertmanager')}",
        )
        return alertmanager.run(settings, stop, listening=listening)

    def run_pushgateway(stop: asyncio.Event, listening: Listening) -> Awaitable[None]:
        file = str(options.data / "pushgateway")
        settings = pushgateway.Options(listen=options.listen("pushgateway"), persistence_file=file)
        return pushgateway.run(settings, stop, listening=listening)

    def run_node_exporter(stop: asyncio.Event, listening: Listening) -> Awaitable[None]:
        settings = node_exporter.Options(listen=options.listen("node-exporter"))
        return node_exporter.run(settings, stop, listening=listening)

    parts: dict[str, Part] = {
        "server": run_server,
        "alertmanager": run_alertmanager,
        "pushgateway": run_pushgateway,
        "node-exporter": run_node_exporter,
    }
    return {name: part for name, part in parts.items() if enabled(stack, name)}


async def _one(
    name: str, part: Part, stop: asyncio.Event, listens: Callable[[str], None], failures: list[PartError]
) -> None:
    """A part; when it ends, for whatever reason, the others are told to."""
    try:
        await part(stop, lambda _: listens(name))
    except Exception as e:
        text = explain(e)
        if text is None:
            e.add_note(f"in the part {name} of bellbuoy up")
            raise
        failures.append(PartError(f"cannot run the {name}: {text}"))
        log.debug("part failed", exc_info=True)
    else:
        if not stop.is_set():
            failures.append(PartError(f"cannot go on without the {name}: it ended by itself; see its log"))
    finally:
        stop.set()


def _take(options: Options, last: Manifests | None) -> Manifests:
    """Read, check and write. Raises ConfigError when the manifests cannot be used as a whole."""
    read = load_manifests(options.manifests, last=last)
    manifests = usable(read, options, last=last)
    make_files(manifests, options).write(options.data)
    return manifests


async def _watch(options: Options, manifests: Manifests, seen: object, stop: asyncio.Event) -> None:
    """Take manifests that change, until told to stop."""
    told = ""
    while not await _wait(stop, WATCH_SECONDS):
        try:
            now = await asyncio.to_thread(_fingerprint, options.manifests)
            if now == seen:
                continue
            seen = now
            changed = await asyncio.to_thread(_take, options, manifests)
        except ConfigError as e:
            if str(e) != told:
                log.error("cannot use the manifests, the last ones stay", extra=fields(error=explain(e)))  # noqa: TRY400
            told = str(e)
            continue
        told = ""
        _say(changed)
        if _parts(options, changed.stack()).keys() != _parts(options, manifests.stack()).keys():
            log.warning("which parts run is decided at the start: start again for the change to take effect")
        manifests = changed
        await _reload(options, manifests.stack())


async def _wait(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def _reload(options: Options, stack: MonitoringStack) -> None:
    """Have the parts read their files again. What one refuses is in its own log, too; it keeps what it has."""
    timeout = aiohttp.ClientTimeout(total=RELOAD_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for part in ("server", "alertmanager"):
            if not enabled(stack, part):
                continue
            try:
                async with session.post(f"http://{options.address(part)}/-/reload") as answer:
                    error = "" if answer.status == 200 else (await answer.text()).strip()
            except (aiohttp.ClientError, TimeoutError) as e:
                error = str(e) or type(e).__name__
            if error:
                log.error("a part did not take the changed manifests", extra=fields(part=part, error=error))
            else:
                log.info("changed manifests are taken", extra=fields(part=part))


def _fingerprint(paths: tuple[Path, ...]) -> object:
    """Equal as long as no manifest changed. Raises ConfigError when a path does not exist."""
    out = []
    for file in manifest_files(paths):
        try:
            found = file.stat()
        except FileNotFoundError:
            # Removed since it was listed: the next look does not list it.
            continue
        out.append((file, found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(out)


def _say(manifests: Manifests) -> None:
    """Tell what is left out, and why."""
    for mistake in manifests.mistakes:
        log.error("a manifest is left out", extra=fields(error=" ".join(mistake.split())))
    for kind in manifests.passed_over:
        log.info("kind is passed over: it needs a cluster", extra=fields(kind=kind))
    for one in manifests.resources:
        if one.kind == "ScrapeTarget" and one.spec.pods is not None:
            log.info("pods are not looked for: that needs a cluster", extra=fields(resource=str(one)))


def _public(options: Options, part: str) -> str:
    """Where people reach a part."""
    everywhere = replace(options, host=platform.node())
    return (everywhere if options.address(part) != options.listen(part) else options).address(part)


def _greeting(options: Options, manifests: Manifests) -> str:
    """What is printed when all parts listen."""
    stack, selection = manifests.stack(), manifests.selection()
    rules = len(selection.alert_rules) + len(selection.recording_rules)
    lines = [
        f"Bellbuoy watches this machine, {platform.node()}: {_count(len(selection.scrape_targets), 'scrape target')}, "
        f"{_count(rules, 'rule')}, {_count(len(selection.receivers), 'receiver')} in the manifests"
        + (f", {_count(len(manifests.mistakes), 'mistake')}: see the log" if manifests.mistakes else ""),
        f"  the web UI  http://{_public(options, 'server')}",
    ]
    if enabled(stack, "alertmanager"):
        lines.append(f"  silences    http://{_public(options, 'alertmanager')}")
        printed = "printed here, as Slack would show them; SLACK_WEBHOOK_URL in the environment sends them"
        lines.append(f"  alerts      {'sent to Slack' if options.slack_webhook_url else printed}")
    return "\n".join([*lines, "Ctrl-C ends it."])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
