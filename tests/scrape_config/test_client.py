"""What discovery and notifications send: through a proxy, with a token."""

from collections.abc import Iterator
from typing import Any

import pytest

from bellbuoy.scrape import HttpClient, HttpClientConfig
from tests.core.middlemen import Proxy, TokenServer
from tests.core.scraping import Exporter


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.stop()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    one = Proxy()
    yield one
    one.stop()


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    one = TokenServer()
    yield one
    one.stop()


def client(**fields: Any) -> HttpClient:
    return HttpClient(HttpClientConfig.model_validate(fields), base=None, timeout_seconds=10.0)


async def test_requests_go_through_the_proxy(exporter: Exporter, proxy: Proxy) -> None:
    ours = client(proxy_url=proxy.url.replace("http://", "http://u:p@"))
    try:
        assert await ours.request("GET", exporter.url) == (200, b"a 1\n")
    finally:
        await ours.close()
    method, asked, headers = proxy.asked[0]
    assert (method, asked, headers["proxy-authorization"]) == ("GET", exporter.url, "Basic dTpw")


async def test_what_no_proxy_names_is_reached_directly(exporter: Exporter, proxy: Proxy) -> None:
    ours = client(proxy_url=proxy.url, no_proxy="elsewhere.test")
    try:
        # This machine is spared as soon as anything is.
        assert await ours.request("GET", exporter.url) == (200, b"a 1\n")
    finally:
        await ours.close()
    assert proxy.asked == []


async def test_a_token_is_fetched_sent_and_renewed(exporter: Exporter, tokens: TokenServer) -> None:
    way = {"client_id": "us", "client_secret": "hush", "token_url": tokens.url, "endpoint_params": {"audience": "a"}}
    ours = client(oauth2=way)
    try:
        await ours.request("GET", exporter.url)
        await ours.request("GET", exporter.url)
        exporter.status = 401
        await ours.request("GET", exporter.url)
        await ours.request("GET", exporter.url)
    finally:
        await ours.close()
    sent = [headers["authorization"] for _, headers in exporter.requests]
    assert sent == ["Bearer token1"] * 3 + ["Bearer token2"]
    form, authorization = tokens.forms[0]
    assert (form, authorization) == ({"grant_type": ["client_credentials"], "audience": ["a"]}, "Basic dXM6aHVzaA==")


async def test_a_secret_may_have_to_stand_in_the_form(exporter: Exporter, tokens: TokenServer) -> None:
    tokens.secret_in_form = True
    ours = client(oauth2={"client_id": "us", "client_secret": "hush", "token_url": tokens.url})
    try:
        await ours.request("GET", exporter.url)
    finally:
        await ours.close()
    assert tokens.forms[-1][0]["client_secret"] == ["hush"]


async def test_without_a_token_nothing_is_sent(exporter: Exporter, tokens: TokenServer) -> None:
    tokens.status = 403
    ours = client(oauth2={"client_id": "us", "client_secret": "hush", "token_url": tokens.url})
    try:
        with pytest.raises(OSError, match=r"cannot get an OAuth2 token from .*: it answers 403; check oauth2"):
            await ours.request("GET", exporter.url)
    finally:
        await ours.close()
    assert exporter.requests == []
