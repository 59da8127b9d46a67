"""Finding targets: static lists, files that change, URLs that answer with lists, DNS records, and what the operator
hands over.

`Discovery` runs one task for each file, http or dns section of one pool and calls back with all target groups
whenever one changed. A source that fails keeps what it said last: an outage of the discoverer must not end scraping.
"""

import asyncio
import glob
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncresolver
import dns.exception
import dns.resolver
import orjson

from bellbuoy.configuration import ConfigError, hide_password, load_yaml, resolve_path
from bellbuoy.logs import fields
from bellbuoy.scrape.client import HttpClient
from bellbuoy.scrape.config import DnsDiscovery, FileDiscovery, HttpDiscovery, StaticConfig
from bellbuoy.scrape.targets import ADDRESS, TargetGroup, read_groups, static_group
from bellbuoy.scrape.tasks import Failed, endless, log_failure

log = logging.getLogger(__name__)
# Files are looked at this often: a change is seen at once without inotify, which does not cross some mounts.
FILE_POLL_SECONDS = 2.0
HTTP_TIMEOUT_SECONDS = 30.0
DNS_TIMEOUT_SECONDS = 10.0
# An http_sd answer with more than this is refused.
HTTP_BODY_LIMIT_BYTES = 256 << 20


Resolver = dns.asyncresolver.Resolver


class Discovery:
    """The sources of one pool (or of one alertmanager section)."""

    def __init__(
        self,
        name: str,
        *,
        static: Sequence[StaticConfig],
        files: Sequence[FileDiscovery],
        http: Sequence[HttpDiscovery],
        dns: Sequence[DnsDiscovery] = (),
        base: Path | None,
        changed: Callable[[], None],
        failures: Callable[[], None],
        failed: Failed = log_failure,
        resolver: Callable[[], Resolver] = Resolver,
    ) -> None:
        self._task_failed = failed
        self.name, self._base, self._changed, self._failures = name, base, changed, failures
        self._found: dict[str, tuple[TargetGroup, ...]] = {
            "static": tuple(static_group(f"static/{i}", one.targets, one.labels) for i, one in enumerate(static))
        }
        self._files, self._http, self._dns, self._resolver = files, http, dns, resolver
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
        kinds = {"file": self._files, "http": self._http, "dns": self._dns}
        own = {f"{kind}/{index}" for kind, sections in kinds.items() for index in range(len(sections))}
        self._found |= {source: groups for source, groups in other._found.items() if source in own}

    def start(self) -> None:
        """Begin to watch."""
        for index, file in enumerate(self._files):
            self._start(self._watch_files(f"file/{index}", file))
        for index, http in enumerate(self._http):
            self._start(self._watch_http(f"http/{index}", http))

        for index, names in enumerate(self._dns):
            self._start(self._watch_dns(f"dns/{index}", names))

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

    async def _watch_dns(self, source: str, config: DnsDiscovery) -> None:
        known: dict[str, TargetGroup] = {}
        while True:
            error = ""
            for name in config.names:
                try:
                    # Looked up anew each time: resolv.conf may have changed.
                    known[name] = await lookup(name, config, await asyncio.to_thread(self._resolver))
                except (dns.exception.DNSException, OSError) as e:
                    error = f"cannot look up {config.type} records of {name}: {e}"
                    self._failed(source, error)
            if not error:
                self.last_error = ""
            self.set_groups(source, tuple(known[name] for name in config.names if name in known))
            await asyncio.sleep(config.refresh_interval)


def _read_answer(url: str, status: int, body: bytes) -> tuple[TargetGroup, ...]:
    if status != 200:
        raise ValueError(f"{url} answers {status}; it must answer 200")
    if len(body) > HTTP_BODY_LIMIT_BYTES:
        raise ValueError(f"{url} answers {len(body)} bytes; split it into several")
    return read_groups(orjson.loads(body), source=url)


async def lookup(name: str, config: DnsDiscovery, resolver: Resolver) -> TargetGroup:
    """The targets that a name's records list; none where the name does not exist. Raises DNSException."""
    try:
        answer = await resolver.resolve(name, config.type, search=True, lifetime=DNS_TIMEOUT_SECONDS)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return TargetGroup(name, ())
    targets = []
    for record in answer:
        labels = {"__meta_dns_name": name}
        host, port = record.to_text(), config.port
        if config.type == "SRV":
            host, port = str(record.target), record.port
            labels |= {"__meta_dns_srv_record_target": host, "__meta_dns_srv_record_port": str(port)}
        elif config.type == "MX":
            host = str(record.exchange)
            labels["__meta_dns_mx_record_target"] = host
        elif config.type == "NS":
            labels["__meta_dns_ns_record_target"] = host
        host = host.rstrip(".")
        targets.append(labels | {ADDRESS: f"[{host}]:{port}" if ":" in host else f"{host}:{port}"})
    # A server may turn the records round at each answer; their order means nothing.
    return TargetGroup(name, tuple(sorted(targets, key=lambda labels: labels[ADDRESS])))


def _read_files(paths: list[str]) -> tuple[TargetGroup, ...]:
    out: list[TargetGroup] = []
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        data = orjson.loads(text) if path.endswith(".json") else load_yaml(text, name=path)
        out += read_groups(data or [], source=path)
    return tuple(out)
