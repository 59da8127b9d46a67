"""Requests of our own, by aiohttp, with one section's authentication: for discovery and notifications.

Scrapes are the core's. An OAuth2 token is fetched when it is first needed, and again before it expires.
"""

import asyncio
import ssl
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import aiohttp
import orjson

from bellbuoy.configuration import hide_password, resolve_path
from bellbuoy.scrape.http_config import HttpClientConfig, OAuth2, header_pairs, read_secret
from bellbuoy.scrape.proxies import Proxies, ProxyConfig

# A token is renewed this long before it expires, so that it is good when it arrives.
RENEW_BEFORE_SECONDS = 10.0


class HttpClient:
    """aiohttp with one section's authentication. Make it inside the loop; close it there."""

    def __init__(self, config: HttpClientConfig, *, base: Path | None, timeout_seconds: float) -> None:
        self._config, self._base, self._timeout_seconds = config, base, timeout_seconds
        self._proxies = Proxies.of(config)
        self._tokens: TokenSource | None = None
        if config.oauth2 is not None:
            self._tokens = TokenSource(config.oauth2, base=base, timeout_seconds=timeout_seconds)
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
        versions = {
            version: getattr(ssl.TLSVersion, version.replace("TLS1", "TLSv1_")) for version in ("TLS12", "TLS13")
        }
        if tls.min_version in versions:
            context.minimum_version = versions[tls.min_version]
        if tls.max_version in versions:
            context.maximum_version = versions[tls.max_version]
        if tls.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _headers(self) -> list[tuple[str, str]]:
        out = header_pairs(self._config, self._base)
        if (auth := self._config.authorization) is not None:
            credentials = auth.credentials.get_secret_value() if auth.credentials else ""
            if auth.credentials_file:
                credentials = read_secret(auth.credentials_file, self._base)
            out.append(("Authorization", f"{auth.type} {credentials}"))
        if (basic := self._config.basic_auth) is not None:
            username, password = basic.username, basic.password.get_secret_value() if basic.password else ""
            if basic.username_file:
                username = read_secret(basic.username_file, self._base)
            if basic.password_file:
                password = read_secret(basic.password_file, self._base)
            out.append(("Authorization", aiohttp.encode_basic_auth(username, password)))
        return out

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body. Raises aiohttp.ClientError, OSError or TimeoutError."""
        pairs = [*(headers or {}).items(), *await asyncio.to_thread(self._headers)]
        if self._tokens is not None:
            pairs.append(("Authorization", await self._tokens.header()))
        session = await self._opened()
        proxy = self._proxies.proxy_for(url)
        async with session.request(
            method,
            url,
            data=body,
            headers=pairs,
            allow_redirects=self._config.follow_redirects,
            server_hostname=self._config.tls_config.server_name or None,
            proxy=proxy or None,
            proxy_headers=self._config.connect_headers() if proxy and url.startswith("https:") else None,
        ) as response:
            if response.status == 401 and self._tokens is not None:
                self._tokens.refused()
            return response.status, await response.read()

    async def close(self) -> None:
        """Release the connections."""
        if self._session is not None:
            await self._session.close()
        if self._tokens is not None:
            await self._tokens.close()


class TokenSource:
    """The token of one `oauth2` section, kept until it is about to expire."""

    def __init__(self, config: OAuth2, *, base: Path | None, timeout_seconds: float) -> None:
        self._config, self._base = config, base
        reached = ("tls_config", *ProxyConfig.model_fields)
        reach = HttpClientConfig().model_copy(update={name: getattr(config, name) for name in reached})
        self._client = HttpClient(reach, base=base, timeout_seconds=timeout_seconds)
        self._fetching = asyncio.Lock()
        self._header, self._renew_at = "", 0.0
        # Servers differ in where they look for the secret, and do not say so.
        self._secret_in_form = False

    async def header(self) -> str:
        """The `Authorization` to send now. Raises OSError when no token can be had."""
        async with self._fetching:
            if not self._header or asyncio.get_running_loop().time() >= self._renew_at:
                self._header = await self._fetch()
            return self._header

    def refused(self) -> None:
        """The token was not taken: get another one for the next request."""
        self._header = ""

    async def _fetch(self) -> str:
        shown = hide_password(self._config.token_url).partition("?")[0]
        secret = await asyncio.to_thread(self._config.secret, self._base)
        asked = asyncio.get_running_loop().time()
        status, body = await self._ask(secret)
        if 400 <= status < 500:
            self._secret_in_form = not self._secret_in_form
            status, body = await self._ask(secret)
        if status != 200:
            raise OSError(f"cannot get an OAuth2 token from {shown}: it answers {status}; check oauth2")
        try:
            answer = orjson.loads(body)
            token, kind = answer["access_token"], str(answer.get("token_type") or "Bearer")
            lasts = float(answer.get("expires_in") or 0)
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise OSError(f"cannot get an OAuth2 token from {shown}: its answer holds none; check token_url") from e
        self._renew_at = asked + lasts - RENEW_BEFORE_SECONDS if lasts > 0 else float("inf")
        return f"{'Bearer' if kind.lower() == 'bearer' else kind} {token}"

    async def _ask(self, secret: str) -> tuple[int, bytes]:
        config = self._config
        form = {"grant_type": "client_credentials"}
        if config.scopes:
            form["scope"] = " ".join(config.scopes)
        form |= {name: value.get_secret_value() for name, value in config.endpoint_params.items()}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._secret_in_form:
            form |= {"client_id": config.client_id, "client_secret": secret}
        else:
            user = quote_plus(config.client_id), quote_plus(secret)
            headers["Authorization"] = aiohttp.encode_basic_auth(*user)
        return await self._client.request("POST", config.token_url, body=urlencode(form).encode(), headers=headers)

    async def close(self) -> None:
        """Release the connections."""
        await self._client.close()
