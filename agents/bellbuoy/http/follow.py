"""Following the operator: a part's configuration as it changes, over one long poll, kept on disk.

The operator answers `GET URL/changes?after=HASH&timeout=30` with `{"hash": …, "parts": {"name": hash, …}}` as soon as
the hash differs from HASH, and `GET URL/name` with the part. A `ConfigFollower` polls, fetches what changed, hands
it to `apply`, and remembers it in a folder: a part that restarts while the operator is away has its last good
configuration. Anything but 200 changes nothing. What the bytes mean is `apply`'s business: it raises `RejectedError` to
keep what was.

On disk: each part's bytes in a file named after their SHA-256, and `state.json`, replaced last, that names them; so a
crash leaves either the old state or the new one.
"""

import asyncio
import json
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import BaseModel, ConfigDict, ValidationError

from bellbuoy.http.files import quarantine, write_atomically
from bellbuoy.logs import fields

log = logging.getLogger(__name__)

# How long the operator may hold a poll without a change; proxies tend to cut idle requests after 60 s.
POLL_SECONDS = 30.0
# What a request may take beyond that: connecting, sending.
GRACE_SECONDS = 10.0
# The wait after a failure doubles from the first to the second, each time shortened by up to half at random.
BACKOFF_SECONDS = (1.0, 30.0)
# Between two polls that the operator answers at once and unchanged: it should have held them.
UNCHANGED_SECONDS = 1.0
# A part's size: targets of ten thousand pods are a tenth of it.
PART_LIMIT_BYTES = 64 << 20
# Parts fetched at the same time.
FETCHES = 8
STATE_FILE = "state.json"


class FollowError(Exception):
    """The operator's answer cannot be used; the text says which, why, and what to look at."""


class RejectedError(ValueError):
    """Raised by `apply` for a configuration that cannot be used: the follower keeps the last good one."""


@dataclass(frozen=True)
class Change:
    """What `apply` is given: all parts as they are now, and which of them differ from the last applied ones."""

    parts: Mapping[str, bytes]
    changed: frozenset[str]
    removed: frozenset[str]
    from_cache: bool = False


Apply = Callable[[Change], Awaitable[None]]


class _Changes(BaseModel):
    """The answer to a poll."""

    hash: str
    parts: dict[str, str]


class _CachedPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    hash: str
    sha256: str


class _CachedState(BaseModel):
    """`state.json`; version 1."""

    model_config = ConfigDict(extra="forbid")
    version: int
    hash: str
    parts: dict[str, _CachedPart]


@dataclass(frozen=True)
class _Part:
    """A part's bytes with the operator's hash of them."""

    hash: str
    body: bytes


@dataclass
class FollowStatus:
    """How following goes, for a part's status page."""

    hash: str = ""
    applied: bool = False
    last_success_seconds: float = 0.0
    last_error: str = ""
    rejected: str = ""


@dataclass
class ConfigFollower:
    """Keeps a part's configuration equal to what the operator has for it.

    `url` is the part's base, such as `https://operator:8443/v1/stacks/NS/NAME`. `wanted` picks parts by name (all,
    unless told). The token file is read for each request, the CA file after each failure. `run()` goes on until it is
    cancelled.
    """

    url: str
    apply: Apply
    cache_folder: Path
    token_file: Path | None = None
    ca_file: Path | None = None
    wanted: Callable[[str], bool] = lambda _: True
    poll_seconds: float = POLL_SECONDS
    registry: CollectorRegistry | None = None
    status: FollowStatus = field(default_factory=FollowStatus)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self._parts: dict[str, _Part] = {}
        self._after = ""
        self._polls = Counter(
            "bellbuoy_config_polls",
            "Polls for a changed configuration, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self._rejections = Counter(
            "bellbuoy_config_rejections",
            "Configurations from the operator that could not be used.",
            registry=self.registry,
        )
        self._success = Gauge(
            "bellbuoy_config_last_poll_success_timestamp_seconds",
            "When the operator last answered a poll.",
            registry=self.registry,
        )
        for outcome in ("changed", "unchanged", "failed"):
            self._polls.labels(outcome)

    async def run(self) -> None:
        """Apply what the cache has, then follow. Ends only by cancellation, or an error of `apply` or the disk."""
        await self._apply_cached()
        backoff = BACKOFF_SECONDS[0]
        while True:
            try:
                async with self._session() as session:
                    while True:
                        await self._poll(session)
                        backoff = BACKOFF_SECONDS[0]
            except (FollowError, aiohttp.ClientError, TimeoutError, OSError) as e:
                self._failed(e)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311
            backoff = min(backoff * 2, BACKOFF_SECONDS[1])

    def _session(self) -> aiohttp.ClientSession:
        context: ssl.SSLContext | bool = True
        if self.url.startswith("https:") and self.ca_file is not None:
            try:
                context = ssl.create_default_context(cafile=str(self.ca_file))
            except (OSError, ssl.SSLError) as e:
                raise FollowError(f"cannot read CA file {self.ca_file}: {e}; give a PEM file of certificates") from e
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        params = {"timeout": f"{self.poll_seconds:g}"} | ({"after": self._after} if self._after else {})
        body = await self._get(session, "changes", params=params)
        if body is not None:
            try:
                changes = _Changes.model_validate_json(body)
            except ValidationError as e:
                raise FollowError(
                    f"cannot read {self.url}/changes: {_first(e)}; the URL must lead to an operator's stack"
                ) from e
        if body is None or changes.hash == self._after:
            self._succeeded("unchanged")
            if loop.time() - asked < UNCHANGED_SECONDS:
                await asyncio.sleep(UNCHANGED_SECONDS)
            return
        parts = await self._fetch(session, {name: value for name, value in changes.parts.items() if self.wanted(name)})
        self._succeeded("changed")
        await self._take(parts, changes.hash)

    async def _fetch(self, session: aiohttp.ClientSession, hashes: Mapping[str, str]) -> dict[str, _Part]:
        """All parts: those whose hash we hold as they are, the others from the operator. One failure fails them all."""
        limit = asyncio.Semaphore(FETCHES)

        async def part(name: str, value: str) -> tuple[str, _Part]:
            have = self._parts.get(name)
            if have is not None and have.hash == value:
                return name, have
            async with limit:
                body = await self._get(session, quote(name))
            if body is None:
                raise FollowError(f"cannot read {self.url}/{name}: 304 to a request without a condition")
            return name, _Part(value, body)

        return dict(await asyncio.gather(*(part(name, value) for name, value in sorted(hashes.items()))))

    async def _get(
        self, session: aiohttp.ClientSession, path: str, *, params: Mapping[str, str] | None = None
    ) -> bytes | None:
        """The body of a 200; None for a 304."""
        url = f"{self.url}/{path}"
        headers = {} if self.token_file is None else {"Authorization": f"Bearer {_token(self.token_file)}"}
        timeout = aiohttp.ClientTimeout(total=self.poll_seconds + GRACE_SECONDS)
        async with session.get(url, params=params, headers=headers, timeout=timeout) as response:
            if response.status == 304:
                return None
            if response.status != 200:
                text = (await response.content.read(512)).decode(errors="replace").strip()
                said = f"HTTP {response.status}: {text or response.reason}"
                raise FollowError(f"cannot read {url}: {said}{_cure(response.status)}")
            chunks, size = [], 0
            async for chunk in response.content.iter_chunked(1 << 16):
                size += len(chunk)
                if size > PART_LIMIT_BYTES:
                    raise FollowError(f"cannot read {url}: it is larger than {PART_LIMIT_BYTES} bytes; split the stack")
                chunks.append(chunk)
            return b"".join(chunks)

    async def _take(self, parts: dict[str, _Part], whole: str) -> None:
        """Hand the parts to `apply`; what it accepts becomes ours, in memory and on disk."""
        change = self._change(parts, from_cache=False)
        # Taken or not, this hash is answered: a rejected configuration is not tried again until it changes.
        self._after = whole
        try:
            await self.apply(change)
        except RejectedError as e:
            self._reject(e)
            return
        self._parts, self.status.rejected = parts, ""
        self.status.hash, self.status.applied = whole, True
        log.info("configuration applied", extra=fields(hash=whole, changed=sorted(change.changed)[:10]))
        await asyncio.to_thread(self._store, whole)

    async def _apply_cached(self) -> None:
        cached = await asyncio.to_thread(self._load)
        if cached is None:
            return
        whole, parts = cached
        try:
            await self.apply(self._change(parts, from_cache=True))
        except RejectedError as e:
            self._reject(e)
            return
        self._parts, self._after = parts, whole
        self.status.hash, self.status.applied = whole, True
        log.info("configuration applied from cache", extra=fields(hash=whole, folder=self.cache_folder))

    def _change(self, parts: Mapping[str, _Part], *, from_cache: bool) -> Change:
        had = {name: part.body for name, part in self._parts.items()}
        changed = (name for name, part in parts.items() if had.get(name) != part.body)
        return Change(
            parts={name: part.body for name, part in parts.items()},
            changed=frozenset(changed),
            removed=frozenset(self._parts.keys() - parts.keys()),
            from_cache=from_cache,
        )

    def _reject(self, error: RejectedError) -> None:
        self._rejections.inc()
        self.status.rejected = str(error)
        log.error("configuration rejected, the last good one stays", extra=fields(error=error))

    def _succeeded(self, outcome: str) -> None:
        self._polls.labels(outcome).inc()
        self._success.set_to_current_time()
        self.status.last_success_seconds = time.time()
        if self.status.last_error:
            log.info("operator answers again", extra=fields(url=self.url))
        self.status.last_error = ""

    def _failed(self, error: Exception) -> None:
        self._polls.labels("failed").inc()
        text = str(error) or type(error).__name__
        if text != self.status.last_error:
            pairs = fields(url=self.url, error=text)
            log.warning("operator does not answer, the last configuration stays", extra=pairs)
        self.status.last_error = text

    def _store(self, whole: str) -> None:
        state = _CachedState(version=1, hash=whole, parts={})
        self.cache_folder.mkdir(parents=True, exist_ok=True)
        for name, part in self._parts.items():
            digest = sha256(part.body).hexdigest()
            state.parts[name] = _CachedPart(hash=part.hash, sha256=digest)
            if not (self.cache_folder / digest).exists():
                write_atomically(self.cache_folder / digest, part.body)
        write_atomically(self.cache_folder / STATE_FILE, json.dumps(state.model_dump()).encode())
        _remove_others(self.cache_folder, (part.sha256 for part in state.parts.values()))

    def _load(self) -> tuple[str, dict[str, _Part]] | None:
        path = self.cache_folder / STATE_FILE
        if not path.exists():
            return None
        try:
            state = _CachedState.model_validate_json(path.read_bytes())
            parts = {}
            for name, cached in state.parts.items():
                parts[name] = _Part(cached.hash, _read_checked(self.cache_folder / cached.sha256))
        except (ValidationError, FollowError, OSError) as e:
            quarantine(path, reason=str(e))
            return None
        return state.hash, parts


def _read_checked(path: Path) -> bytes:
    body = path.read_bytes()
    if sha256(body).hexdigest() != path.name:
        raise FollowError(f"{path.name} does not have its checksum")
    return body


def _remove_others(folder: Path, keep: Iterable[str]) -> None:
    kept = {STATE_FILE, *keep}
    for path in folder.iterdir():
        if len(path.name) == 64 and path.name not in kept:
            path.unlink()


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as e:
        raise FollowError(f"cannot read token file {path}: {e.strerror}; it must be a service account's token") from e


def _cure(status: int) -> str:
    if status in (401, 403):
        return "; see whether the token file's service account may read this stack"
    if status == 404:
        return "; see whether the stack exists"
    return ""


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'body'}: {detail['msg']}"
