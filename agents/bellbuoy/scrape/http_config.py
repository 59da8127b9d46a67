"""How we authenticate and encrypt towards an HTTP server: the same fields for targets, http_sd and alertmanagers.

Scrapes are fetched by the core, which takes `core_settings()`; discovery and notifications use aiohttp and take a
`client.HttpClient`. Files with credentials are read again for each request, since Kubernetes rotates them.
"""

from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from bellbuoy.configuration import Secret, Strict, Url, resolve_path
from bellbuoy.scrape.proxies import ProxyConfig, core_proxy

TLSVersion = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


class BasicAuth(Strict):
    """`basic_auth`: a user and a password, or files that hold them."""

    username: str = ""
    username_file: str = ""
    password: Secret | None = None
    password_file: str = ""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file:
            raise ValueError("password and password_file are both set; keep one of them")
        if self.username and self.username_file:
            raise ValueError("username and username_file are both set; keep one of them")
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
    min_version: TLSVersion | None = None
    max_version: TLSVersion | None = None

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
        if self.max_version in ("TLS10", "TLS11"):
            raise ValueError(f'max_version "{self.max_version}" is not taken: TLS below 1.2 is broken; use TLS12')
        if self.min_version and self.max_version and self.min_version > self.max_version:
            raise ValueError("max_version is older than min_version; no version is left")
        return self


class OAuth2(ProxyConfig):
    """`oauth2`: client credentials, for which a server gives out tokens."""

    client_id: str = Field(min_length=1)
    client_secret: Secret | None = None
    client_secret_file: str = ""
    token_url: Url
    scopes: list[str] = Field(default_factory=list)
    # They may hold an assertion or a password.
    endpoint_params: dict[str, Secret] = Field(default_factory=dict)
    grant_type: Literal["client_credentials"] = "client_credentials"
    tls_config: TLSConfig = Field(default_factory=TLSConfig)

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of Prometheus that this program does not take."""
        names = (
            "client_certificate_key_id", "client_certificate_key", "client_certificate_key_file",
            "signature_algorithm", "iss", "audience", "claims",
        )  # fmt: skip
        cure = "use client_secret_file: signed tokens (JWT) are not made here"
        return {name: f'field "{name}" is not taken; {cure}' for name in names}

    @field_validator("token_url")
    @classmethod
    def _http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL needs http:// or https:// and a host; write it in full")
        if parts.username is not None:
            raise ValueError("the URL holds a user; give it as client_id and client_secret")
        return url

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.client_secret is not None and self.client_secret_file:
            raise ValueError("client_secret and client_secret_file are both set; keep one of them")
        return self

    def secret(self, base: Path | None) -> str:
        """The client's secret, as given or as its file holds it now."""
        if self.client_secret_file:
            return read_secret(self.client_secret_file, base)
        return self.client_secret.get_secret_value() if self.client_secret else ""


class HttpClientConfig(ProxyConfig):
    """The fields that every section with a URL has."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    tls_config: TLSConfig = Field(default_factory=TLSConfig)
    http_headers: dict[str, "HeaderValues"] = Field(default_factory=dict)
    follow_redirects: bool = True
    enable_http2: bool = True

    @classmethod
    def refused(cls) -> dict[str, str]:
        """Fields of Prometheus that this program does not take."""
        return {
            "bearer_token": 'field "bearer_token" is not taken; use authorization with credentials',
            "bearer_token_file": 'field "bearer_token_file" is not taken; use authorization with credentials_file',
            "headers": 'field "headers" is not taken; use http_headers with values, secrets or files for each name',
        }

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("basic_auth", "authorization", "oauth2") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are both set; keep one of them")
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


def read_secret(path: str, base: Path | None) -> str:
    """What a file with a credential holds now."""
    return Path(resolve_path(path, base)).read_text(encoding="utf-8").strip()


def header_pairs(config: HttpClientConfig, base: Path | None) -> list[tuple[str, str]]:
    """The extra headers, with what their files hold now."""
    out: list[tuple[str, str]] = []
    for name, header in config.http_headers.items():
        out += [(name, value) for value in header.values]
        out += [(name, secret.get_secret_value()) for secret in header.secrets]
        out += [(name, read_secret(path, base)) for path in header.files]
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
        if basic.username_file:
            out["basic_auth"] = {"username_file": resolve_path(basic.username_file, base)}
        if basic.password_file:
            out["basic_auth"]["password_file"] = resolve_path(basic.password_file, base)
        else:
            out["basic_auth"]["password"] = basic.password.get_secret_value() if basic.password else ""
    if (oauth2 := config.oauth2) is not None:
        out["oauth2"] = {
            "client_id": oauth2.client_id,
            "token_url": oauth2.token_url,
            "scopes": oauth2.scopes,
            "endpoint_params": [(name, value.get_secret_value()) for name, value in oauth2.endpoint_params.items()],
            "tls": _core_tls(oauth2.tls_config, base),
            "proxy": core_proxy(oauth2),
        }
        if oauth2.client_secret_file:
            out["oauth2"]["client_secret_file"] = resolve_path(oauth2.client_secret_file, base)
        else:
            out["oauth2"]["client_secret"] = oauth2.secret(base)
    out["proxy"] = core_proxy(config)
    out["tls"] = _core_tls(config.tls_config, base) | {"http2": config.enable_http2}
    return out


def _core_tls(tls: TLSConfig, base: Path | None) -> dict[str, Any]:
    return {
        "ca_file": resolve_path(tls.ca_file, base),
        "cert_file": resolve_path(tls.cert_file, base),
        "key_file": resolve_path(tls.key_file, base),
        "server_name": tls.server_name,
        "insecure_skip_verify": tls.insecure_skip_verify,
        # The core speaks 1.2 and 1.3.
        "min_version": tls.min_version if tls.min_version == "TLS13" else None,
        "max_version": tls.max_version,
    }
