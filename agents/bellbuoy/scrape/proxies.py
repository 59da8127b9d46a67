"""Proxies between us and a server: Prometheus's fields, and which one an address is reached through.

`proxy_from_environment` is read when a client is made, as the variables of a process do not change.
"""

import base64
import urllib.request
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import Field, field_validator, model_validator

from bellbuoy._core import spared_by_no_proxy
from bellbuoy.configuration import Secret, Strict, Url


class ProxyConfig(Strict):
    """The proxy fields that every section with a URL has."""

    proxy_url: Url = ""
    no_proxy: str = ""
    proxy_from_environment: bool = False
    proxy_connect_header: dict[str, list[Secret]] = Field(default_factory=dict)

    @field_validator("proxy_url")
    @classmethod
    def _http_proxy(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme != "http" or not parts.hostname):
            raise ValueError("a proxy is reached by http://host:port; write its URL so")
        return url

    @field_validator("proxy_connect_header")
    @classmethod
    def _one_line(cls, headers: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if any(char in value.get_secret_value() for values in headers.values() for value in values for char in "\r\n"):
            raise ValueError("a header's value has a line break; remove it")
        return headers

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.proxy_from_environment and (self.proxy_url or self.no_proxy):
            raise ValueError("proxy_from_environment excludes proxy_url and no_proxy; keep one of them")
        if self.no_proxy and not self.proxy_url:
            raise ValueError("no_proxy needs proxy_url; set it, or remove no_proxy")
        if self.proxy_connect_header and not (self.proxy_url or self.proxy_from_environment):
            raise ValueError("proxy_connect_header needs a proxy; set proxy_url or proxy_from_environment")
        return self

    def connect_headers(self) -> list[tuple[str, str]]:
        """What the proxy is sent with CONNECT."""
        return [
            (name, value.get_secret_value()) for name, values in self.proxy_connect_header.items() for value in values
        ]


@dataclass(frozen=True)
class Proxies:
    """The proxies for each scheme; `no_proxy` is None where nothing is spared, not even this machine."""

    http: str = ""
    https: str = ""
    no_proxy: str | None = None

    @classmethod
    def of(cls, config: ProxyConfig) -> Self:
        """What the fields, or the environment, say."""
        if config.proxy_from_environment:
            found = urllib.request.getproxies_environment()
            urls = [found.get(scheme, "") for scheme in ("http", "https")]
            # A proxy without a scheme is meant as http.
            http, https = (url if not url or "://" in url else f"http://{url}" for url in urls)
            return cls(http, https, found.get("no", ""))
        return cls(config.proxy_url, config.proxy_url, config.no_proxy or None)

    def proxy_for(self, url: str) -> str:
        """The proxy's URL, with its user; empty to go there directly."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        proxy = self.https if tls else self.http
        if not proxy or self.no_proxy is None:
            return proxy
        port = parts.port or (443 if tls else 80)
        return "" if spared_by_no_proxy(self.no_proxy, parts.hostname or "", port) else proxy


def core_proxy(config: ProxyConfig) -> dict[str, Any]:
    """The `proxy` of a pool's settings, as the core's Scraper takes it."""
    proxies = Proxies.of(config)
    return {
        "http": _with_user_apart(proxies.http),
        "https": _with_user_apart(proxies.https),
        "no_proxy": proxies.no_proxy,
        "connect_headers": config.connect_headers(),
    }


def _with_user_apart(url: str) -> dict[str, str] | None:
    if not url:
        return None
    parts = urlsplit(url)
    out = {"url": urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path="", query="", fragment=""))}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        out["authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return out
