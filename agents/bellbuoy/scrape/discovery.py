"""Finding targets: static lists, files that change, URLs that answer with lists, and what the operator hands over.

`Discovery` runs one task for each file or http section of one pool and calls back with all target groups whenever one
changed. A source that fails keeps what it said last: an outage of the discoverer must not end scraping.
"""

import asyncio
import glob
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bellbuoy.configuration import ConfigError, hide_password, load_yaml, resolve_path
from bellbuoy.logs import fields
from bellbuoy.scrape.client import HttpClient
from bellbuoy.scrape.config import FileDiscovery, HttpDiscovery, StaticConfig
from bellbuoy.scrape.targets import TargetGroup, read_groups, static_group
from bellbuoy.scrape.tasks import Failed, endless, log_failure

log = logging.getLogger(__name__)
# Files are looked at this often: a change is seen at once without inotify, which does not cross some mounts.
FILE_POLL_SECONDS = 2.0
HTTP_TIMEOUT_SECONDS = 30.0
# An http_sd answer with more than this is refused.
HTTP_BODY_LIMIT_BYTES = 256 << 20


class Discovery:
    """The sources of one pool (or of one alertmanager section)."""

    def __init__(
        self,
        name: str,
        *,
        static: Sequence[StaticConfig],
        files: Sequence[FileDiscovery],
        http: Sequence[HttpDiscovery],
        base: Path | None,
        changed: Callable[[], None],
        failures: Callable[[], None],
        failed: Failed = log_failure,
    ) -> None:
        self._task_failed = failed
        self.name, self._base, self._changed, self._failures = name, base, changed, failures
        self._found: dict[str, tuple[TargetGroup, ...]] = {
            "static": tuple(static_group(f"static/{i}", one.targets, one.labels) for i, one in enumerate(static))
        }
        self._files, self._http = files, http
        self._tasks: list[asyncio.Task[None]] = []
        self.last_error = ""

    def groups(self) -> tuple[TargetGroup, ...]:
        """All groups of all sources, as last heard."""
        return tuple(group for source in sorted(self._found) for group in self._found[source])

    def set_groups(self, source: str, groups: tuple[TargetGroup, ...]) -> None:
        """What a source says now; calls back when it is news."""
        if self._found.get(source) != groups:
            self._found[source] = groups
            self._changed()

    def adopt(self, other: "Discovery") -> None:
        """Hold on to what another's files and URLs said, until ours have answered."""
        own = {f"file/{i}" for i in range(len(self._files))} | {f"http/{i}" for i in range(len(self._http))}
        self._found |= {source: groups for source, groups in other._found.items() if source in own}

    def start(self) -> None:
        """Begin to watch."""
        for index, file in enumerate(self._files):
            self._start(self._watch_files(f"file/{index}", file))
        for index, http in enumerate(self._http):
            self._start(self._watch_http(f"http/{index}", http))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(endless(work, name=f"discovery {self.name}", failed=self._task_failed))

    async def stop(self) -> None:
        """End all tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _failed(self, source: str, error: object) -> None:
        text = str(error)
        self._failures()
        if text != self.last_error:
            self.last_error = text
            log.warning(
                "cannot discover targets; the last ones stay", extra=fields(pool=self.name, source=source, error=text)
            )

    async def _watch_files(self, source: str, config: FileDiscovery) -> None:
        known: dict[str, tuple[int, int]] = {}
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            stamps = await asyncio.to_thread(self._stamps, config)
            if stamps != known or loop.time() >= due:
                try:
                    groups = await asyncio.to_thread(_read_files, sorted(stamps))
                except (OSError, ValueError, ConfigError) as e:
                    self._failed(source, e)
                else:
                    self.last_error = ""
                    self.set_groups(source, groups)
                known, due = stamps, loop.time() + config.refresh_interval
            await asyncio.sleep(min(FILE_POLL_SECONDS, config.refresh_interval))

    def _stamps(self, config: FileDiscovery) -> dict[str, tuple[int, int]]:
        out = {}
        for pattern in config.files:
            for path in glob.glob(resolve_path(pattern, self._base)):
                try:
                    stat = Path(path).stat()
                except FileNotFoundError:
                    continue  # removed between the two calls: it is not there
                out[path] = (stat.st_mtime_ns, stat.st_size)
        return out

    async def _watch_http(self, source: str, config: HttpDiscovery) -> None:
        client = HttpClient(config, base=self._base, timeout_seconds=HTTP_TIMEOUT_SECONDS)
        shown = hide_password(config.url)
        try:
            while True:
                try:
                    status, body = await client.request("GET", config.url, headers={"Accept": "application/json"})
                    groups = await asyncio.to_thread(_read_answer, shown, status, body)
                except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as e:
                    self._failed(source, f"{shown}: {e!r}" if not str(e) else e)
                else:
                    self.last_error = ""
                    self.set_groups(source, groups)
                await asyncio.sleep(config.refresh_interval)
        finally:
            await client.close()


def _read_answer(url: str, status: int, body: bytes) -> tuple[TargetGroup, ...]:
    if status != 200:
        raise ValueError(f"{url} answers {status}; it must answer 200")
    if len(body) > HTTP_BODY_LIMIT_BYTES:
        raise ValueError(f"{url} answers {len(body)} bytes; split it into several")
    return read_groups(orjson.loads(body), source=url)


def _read_files(paths: list[str]) -> tuple[TargetGroup, ...]:
    out: list[TargetGroup] = []
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        data = orjson.loads(text) if path.endswith(".json") else load_yaml(text, name=path)
        out += read_groups(data or [], source=path)
    return tuple(out)
