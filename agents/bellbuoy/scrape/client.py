"""How we authenticate and encrypt towards an HTTP server: the same fields for targets, http_sd and alertmanagers.

Scrapes are fetched by the core, which takes `core_settings()`; discovery and notifications use aiohttp and take a
`session()`. Files with credentials are read again for each request, since Kubernetes rotates them.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Self

import aiohttp
from pydantic import Field, field_validator, model_validator

from bellbuoy.configuration import Secret, Strict, resolve_path


class BasicAuth(Strict):
    """`basic_auth`: a user and a password, or a file that holds the password."""

    username: str = ""
    password: Secret | None = None
    password_file: str = ""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file:
            raise ValueError("password and password_file are both set; keep one of them")
        return self


class Authorization(Strict):
    """`authorization`: the header's type and what follows it, or a file that holds that."""

    type: str = "Bearer"
    credentials: Secret | None = None
    credentials_file: str = ""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.credentials is not None and self.credentials_file:
            raise ValueError("credentials and credentials_file are both set; keep one of them")
        if self.type.lower() == "basic":
            raise ValueError('type "Basic" is not taken here; use basic_auth')
        return self


class TLSConfig(Strict):
    """`tls_config`: whom to trust, and who we are, by files."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of Prometheus that this program does not take."""
        return {
            name: f'field "{name}" is not taken; put it into a file and name that in {name}_file'
            for name in ("ca", "cert", "key")
        }

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together; set both or none")
        return self


class HttpClientConfig(Strict):
    """The fields that every section with a URL has."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    tls_config: TLSConfig = Field(default_factory=TLSConfig)
    http_headers: dict[str, "HeaderValues"] = Field(default_factory=dict)
    follow_redirects: bool = True
    enable_http2: bool = True

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of Prometheus that this program does not take."""
        return {
            "oauth2": 'field "oauth2" is not taken; use authorization with a credentials_file',
            "proxy_url": 'field "proxy_url" is not taken; remove it and reach the address directly',
            "bearer_token": 'field "bearer_token" is not taken; use authorization with credentials',
            "bearer_token_file": 'field "bearer_token_file" is not taken; use authorization with credentials_file',
            "headers": 'field "headers" is not taken; use http_headers with values, secrets or files for each name',
        }

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.basic_auth is not None and self.authorization is not None:
            raise ValueError("basic_auth and authorization are both set; keep one of them")
        return self


class HeaderValues(Strict):
    """One name of `http_headers`."""

    values: list[str] = Field(default_factory=list)
    secrets: list[Secret] = Field(default_factory=list)
    files: list[str] = Field(default_factory=list)

    @field_validator("values", "secrets")
    @classmethod
    def _one_line(cls, values: list[Any]) -> list[Any]:
        for value in values:
            text = value if isinstance(value, str) else value.get_secret_value()
            if "\n" in text or "\r" in text:
                raise ValueError("a header's value has a line break; remove it")
        return values


HttpClientConfig.model_rebuild()


def _read(path: str, base: Path | None) -> str:
    return Path(resolve_path(path, base)).read_text(encoding="utf-8").strip()


def header_pairs(config: HttpClientConfig, base: Path | None) -> list[tuple[str, str]]:
    """The extra headers, with what their files hold now."""
    out: list[tuple[str, str]] = []
    for name, header in config.http_headers.items():
        out += [(name, value) for value in header.values]
        out += [(name, secret.get_secret_value()) for secret in header.secrets]
        out += [(name, _read(path, base)) for path in header.files]
    return out


def core_settings(config: HttpClientConfig, base: Path | None) -> dict[str, Any]:
    """The part of a pool's settings for the core's Scraper that says how to reach its targets."""
    out: dict[str, Any] = {"headers": header_pairs(config, base), "follow_redirects": config.follow_redirects}
    if (auth := config.authorization) is not None:
        out["authorization"] = {"type": auth.type}
        if auth.credentials_file:
            out["authorization"]["credentials_file"] = resolve_path(auth.credentials_file, base)
        else:
            out["authorization"]["credentials"] = auth.credentials.get_secret_value() if auth.credentials else ""
    if (basic := config.basic_auth) is not None:
        out["basic_auth"] = {"username": basic.username}
        if basic.password_file:
            out["basic_auth"]["password_file"] = resolve_path(basic.password_file, base)
        else:
            out["basic_auth"]["password"] = basic.password.get_secret_value() if basic.password else ""
    tls = config.tls_config
    out["tls"] = {
        "ca_file": resolve_path(tls.ca_file, base),
        "cert_file": resolve_path(tls.cert_file, base),
        "key_file": resolve_path(tls.key_file, base),
        "server_name": tls.server_name,
        "insecure_skip_verify": tls.insecure_skip_verify,
    }
    return out


class HttpClient:
    """aiohttp with one section's authentication. Make it inside the loop; close it there."""

    def __init__(self, config: HttpClientConfig, *, base: Path | None, timeout_seconds: float) -> None:
        self._config, self._base, self._timeout_seconds = config, base, timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def _opened(self) -> aiohttp.ClientSession:
        # At the first request, since files with certificates may come later than the configuration.
        async with self._opening:
            if self._session is None:
                connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(self._tls))
                self._session = aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=self._timeout_seconds),
                    connector=connector,
                    headers={"User-Agent": "Bellbuoy"},
                )
            return self._session

    def _tls(self) -> ssl.SSLContext:
        tls = self._config.tls_config
        context = ssl.create_default_context(cafile=resolve_path(tls.ca_file, self._base) or None)
        if tls.cert_file:
            context.load_cert_chain(resolve_path(tls.cert_file, self._base), resolve_path(tls.key_file, self._base))
        if tls.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _headers(self) -> list[tuple[str, str]]:
        out = header_pairs(self._config, self._base)
        if (auth := self._config.authorization) is not None:
            credentials = auth.credentials.get_secret_value() if auth.credentials else ""
            out.append(
                (
                    "Authorization",
                    f"{auth.type} {_read(auth.credentials_file, self._base) if auth.credentials_file else credentials}",
                )
            )
        if (basic := self._config.basic_auth) is not None:
            password = basic.password.get_secret_value() if basic.password else ""
            if basic.password_file:
                password = _read(basic.password_file, self._base)
            out.append(("Authorization", aiohttp.encode_basic_auth(basic.username, password)))
        return out

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body. Raises aiohttp.ClientError, OSError or TimeoutError."""
        pairs = [*(headers or {}).items(), *await asyncio.to_thread(self._headers)]
        session = await self._opened()
        async with session.request(
            method,
            url,
            data=body,
            headers=pairs,
            allow_redirects=self._config.follow_redirects,
            server_hostname=self._config.tls_config.server_name or None,
        ) as response:
            return response.status, await response.read()

    async def close(self) -> None:
        """Release the connections."""
        if self._session is not None:
            await self._session.close()
