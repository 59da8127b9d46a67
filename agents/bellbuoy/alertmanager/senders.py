"""Delivering one notification: the contract of a sender, the retries, and the HTTP that senders share.

A sender tries once and says how it went: well, badly for now (`TemporaryError`, perhaps with a time to wait), or
badly for good (`PermanentError`, with what to do). `deliver()` retries what may get better until the group's next
turn.
"""

import asyncio
import base64
import logging
import random
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from pydantic import SecretStr

from bellbuoy.alertmanager.config import HttpConfig
from bellbuoy.alertmanager.metrics import Metrics
from bellbuoy.alertmanager.notification import Notification

log = logging.getLogger(__name__)

# The wait between tries doubles from the first to the second, each shortened by up to half at random.
BACKOFF_SECONDS = (1.0, 60.0)
# One try, when the receiver sets no timeout: an answer after that would only delay the next try.
TRY_SECONDS = 10.0
# How much of an answer is read: enough for any error's text.
ANSWER_BYTES = 8192


class DeliveryError(Exception):
    """A notification did not arrive; the text says why and what to do. `reason` is the metric's label."""

    reason = "other"


class TemporaryError(DeliveryError):
    """It may arrive later; `wait_seconds` is what the receiver asked for."""

    reason = "serverError"

    def __init__(self, text: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.wait_seconds = wait_seconds


class PermanentError(DeliveryError):
    """It will never arrive like this."""

    reason = "clientError"


class Sender(Protocol):
    """One integration of a receiver: its kind (`slack`), its place among those of its kind, and how it sends."""

    kind: str
    index: int
    send_resolved: bool

    async def send(self, notification: Notification) -> None:
        """Try once. Raises TemporaryError or PermanentError."""


async def deliver(
    sender: Sender, notification: Notification, *, limit_seconds: float, metrics: Metrics, pairs: dict[str, Any]
) -> None:
    """Send it, and again while it may get better and time is left. Raises DeliveryError."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_seconds
    wait, tries = BACKOFF_SECONDS[0], 0
    metrics.notifications.labels(sender.kind).inc()
    while True:
        start = loop.time()
        metrics.requests.labels(sender.kind).inc()
        tries += 1
        try:
            async with asyncio.timeout(max(end - start, 0.1)):
                await sender.send(notification)
        except TimeoutError as e:
            metrics.requests_failed.labels(sender.kind).inc()
            metrics.failed.labels(sender.kind, "contextDeadlineExceeded").inc()
            raise DeliveryError(f"no answer in time after {tries} tries; it is tried again in a group_interval") from e
        except PermanentError as e:
            metrics.requests_failed.labels(sender.kind).inc()
            metrics.failed.labels(sender.kind, e.reason).inc()
            raise
        except TemporaryError as e:
            metrics.requests_failed.labels(sender.kind).inc()
            pause = max(wait * random.uniform(0.5, 1.0), e.wait_seconds)  # noqa: S311
            if loop.time() + pause >= end:
                metrics.failed.labels(sender.kind, e.reason).inc()
                raise DeliveryError(f"gave up after {tries} tries: {e}; it is tried again in a group_interval") from e
            await asyncio.sleep(pause)
            wait = min(wait * 2, BACKOFF_SECONDS[1])
        except Exception as e:
            # A mistake of ours in one sender must not keep other receivers from being told.
            log.exception("BUG: a sender failed", extra=pairs)
            metrics.requests_failed.labels(sender.kind).inc()
            metrics.failed.labels(sender.kind, "other").inc()
            raise DeliveryError(f"BUG: {type(e).__name__}: {e}; report it with the log") from e
        else:
            metrics.latency.labels(sender.kind).observe(loop.time() - start)
            return


class HttpClient:
    """Posts JSON as an `http_config` says. Secrets in files are read for each request: they may be rotated."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config

    async def post(self, url: str, body: bytes, *, timeout_seconds: float = 0.0) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and the beginning of the answer. Raises TemporaryError, without the URL: it is a secret."""
        config = self._config
        headers = {"Content-Type": "application/json", "User-Agent": "bellbuoy-alertmanager"} | self._authorization()
        timeout = aiohttp.ClientTimeout(total=timeout_seconds or TRY_SECONDS)
        try:
            connector = aiohttp.TCPConnector(ssl=self._tls(), force_close=True)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.post(
                    url,
                    data=body,
                    headers=headers,
                    proxy=config.proxy_url or None,
                    allow_redirects=config.follow_redirects,
                    server_hostname=config.tls_config.server_name or None,
                ) as response,
            ):
                text = (await response.content.read(ANSWER_BYTES)).decode(errors="replace").strip()
                return response.status, response.headers, text
        except TimeoutError as e:
            raise TemporaryError(f"no answer within {timeout.total:g} s") from e
        except aiohttp.InvalidURL as e:
            raise PermanentError("the URL cannot be used; write it as https://host/path") from e
        except aiohttp.ClientError as e:
            raise TemporaryError(f"cannot connect: {_without_url(e, url)}") from e

    def _authorization(self) -> dict[str, str]:
        config = self._config
        if config.basic_auth is not None:
            basic = config.basic_auth
            name = basic.username or _from_file(basic.username_file)
            password = _secret(basic.password, basic.password_file)
            pair = base64.b64encode(f"{name}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        if config.authorization is not None:
            kind, secret = config.authorization.type, config.authorization
            return {"Authorization": f"{kind} {_secret(secret.credentials, secret.credentials_file)}"}
        if config.bearer_token is not None or config.bearer_token_file:
            return {"Authorization": f"Bearer {_secret(config.bearer_token, config.bearer_token_file)}"}
        return {}

    def _tls(self) -> ssl.SSLContext | bool:
        tls = self._config.tls_config
        if not (tls.ca_file or tls.cert_file or tls.insecure_skip_verify):
            return True
        try:
            context = ssl.create_default_context(cafile=tls.ca_file or None)
            if tls.insecure_skip_verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if tls.cert_file:
                context.load_cert_chain(tls.cert_file, tls.key_file or None)
        except (OSError, ssl.SSLError) as e:
            raise TemporaryError(f"cannot read the files of tls_config: {e}; give PEM files that exist") from e
        return context


def read_url(url: SecretStr | None, path: str, *, field: str) -> str:
    """A URL given as such, or in a file that is read now. Raises TemporaryError: the file may yet come."""
    if url is not None:
        return url.get_secret_value()
    text = _from_file(path)
    if not text:
        raise TemporaryError(f"{field} {path} is empty; write the URL into it")
    return text


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a `Retry-After` header; its other form, a date, counts as none."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def _secret(value: SecretStr | None, path: str) -> str:
    return value.get_secret_value() if value is not None else _from_file(path)


def _from_file(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise TemporaryError(f"cannot read {path}: {e}; it must be a text file that we may read") from e


def _without_url(error: Exception, url: str) -> str:
    return (str(error) or type(error).__name__).replace(url, "<secret>")
