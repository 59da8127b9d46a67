"""The way to a target: through proxies, with tokens from a token server, and over HTTP/2."""

import json
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bellbuoy._core import Scraper, Storage, spared_by_no_proxy
from bellbuoy.scrape import ScrapeConfig
from tests.core.middlemen import Proxy, TokenServer
from tests.core.scraping import Exporter, eventually, last_error, only, settings, target, values
from tests.core.test_scraper_http import certificate
from tests.peers.programs import free_port, program, running

SLOW = {"interval_seconds": 1.0, "timeout_seconds": 1.0}


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


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[Exporter]:
    cert, key = certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    one = Exporter(context)
    yield one
    one.stop()


def pool(**fields: object) -> dict[str, object]:
    """Settings as a configuration gives them."""
    config = ScrapeConfig.model_validate({"job_name": "p", **fields})
    return config.settings(None) | settings()


def test_a_proxy_is_asked_for_the_whole_url(
    exporter: Exporter, proxy: Proxy, storage: Storage, scraper: Scraper
) -> None:
    url = proxy.url.replace("http://", "http://us%40er:pass@")
    scraper.set_pool("p", pool(proxy_url=url), [target(exporter, url=exporter.url + "?a=b")])
    eventually(lambda: len(values(storage, "a")) >= 2)
    method, asked, headers = proxy.asked[0]
    assert (method, asked, headers["host"]) == ("GET", exporter.url + "?a=b", exporter.address)
    assert headers["proxy-authorization"] == "Basic " + b64encode(b"us@er:pass").decode()
    assert "proxy-authorization" not in exporter.requests[0][1]


def test_what_no_proxy_names_is_reached_directly(
    exporter: Exporter, proxy: Proxy, storage: Storage, scraper: Scraper
) -> None:
    scraper.set_pool("p", pool(proxy_url=proxy.url, no_proxy="127.0.0.0/8"), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    assert proxy.asked == []
    assert spared_by_no_proxy("example", "a.example", 80)
    assert not spared_by_no_proxy("example:81", "a.example", 80)


def test_the_environment_says_which_proxy(
    exporter: Exporter, proxy: Proxy, scraper: Scraper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.address)
    monkeypatch.setenv("no_proxy", "elsewhere.test")
    exporter_here = target(exporter, url="http://metrics.test/metrics")
    scraper.set_pool("p", pool(proxy_from_environment=True), [exporter_here])
    eventually(lambda: proxy.asked)
    assert proxy.asked[0][:2] == ("GET", "http://metrics.test/metrics")
    scraper.set_pool("p", pool(proxy_from_environment=True), [{"url": "http://elsewhere.test/metrics"}])
    assert "cannot connect to elsewhere.test:80" in last_error(scraper)


def test_tls_goes_through_a_tunnel(certified: Exporter, proxy: Proxy, storage: Storage, scraper: Scraper) -> None:
    way = pool(
        proxy_url=proxy.url.replace("http://", "http://u:p@"),
        proxy_connect_header={"X-Zone": ["z1"]},
        tls_config={"insecure_skip_verify": True},
        authorization={"credentials": "mine"},
    )
    scraper.set_pool("p", way | SLOW, [target(certified)])
    eventually(lambda: values(storage, "a"))
    method, asked, headers = proxy.asked[0]
    assert (method, asked, headers["x-zone"]) == ("CONNECT", certified.address, "z1")
    assert headers["proxy-authorization"] == "Basic " + b64encode(b"u:p").decode()
    assert "authorization" not in headers
    assert certified.requests[0][1]["authorization"] == "Bearer mine"
    assert "x-zone" not in certified.requests[0][1]
    proxy.refuses = True
    scraper.remove_pool("p")
    scraper.set_pool("p", way | SLOW, [target(certified)])
    error = last_error(scraper)
    assert error.startswith(f"cannot reach {certified.address} through the proxy {proxy.address}: it answered 407")
    assert "u:p" not in error


def test_a_proxy_that_is_away_is_told_apart(exporter: Exporter, scraper: Scraper) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    scraper.set_pool("p", pool(proxy_url=away), [target(exporter)])
    assert last_error(scraper).startswith(f"cannot connect to the proxy {away.removeprefix('http://')}: ")


def oauth2(tokens: TokenServer, **more: object) -> dict[str, object]:
    return {"client_id": "us", "client_secret": "hush", "token_url": tokens.url + "/token?x=y", **more}


def sent(exporter: Exporter) -> list[str]:
    return [headers.get("authorization", "") for _, headers in exporter.requests]


def test_a_token_is_fetched_once_and_sent(
    exporter: Exporter, other: Exporter, tokens: TokenServer, scraper: Scraper
) -> None:
    way = oauth2(tokens, scopes=["read", "more"], endpoint_params={"audience": "a&b"})
    scraper.set_pool("p", pool(oauth2=way), [target(exporter), target(other, labels={"job": "o"})])
    eventually(lambda: len(exporter.requests) >= 3 and len(other.requests) >= 3)
    assert {*sent(exporter), *sent(other)} == {"Bearer token1"}
    ((form, authorization),) = tokens.forms
    assert form == {"grant_type": ["client_credentials"], "scope": ["read more"], "audience": ["a&b"]}
    assert authorization == "Basic " + b64encode(b"us:hush").decode()


def test_a_token_is_renewed_before_it_expires(exporter: Exporter, tokens: TokenServer, scraper: Scraper) -> None:
    tokens.expires_in = "10.4"
    scraper.set_pool("p", pool(oauth2=oauth2(tokens)), [target(exporter)])
    eventually(lambda: "Bearer token2" in sent(exporter))
    assert sent(exporter)[0] == "Bearer token1"


def test_a_token_that_a_target_refuses_is_not_sent_again(
    exporter: Exporter, tokens: TokenServer, scraper: Scraper
) -> None:
    exporter.status = 401
    scraper.set_pool("p", pool(oauth2=oauth2(tokens)), [target(exporter)])
    eventually(lambda: "Bearer token2" in sent(exporter))
    assert only(scraper)["last_error"] == "server returned HTTP status 401 Unauthorized"


def test_a_server_that_wants_the_secret_in_the_form_gets_it_there(
    exporter: Exporter, tokens: TokenServer, tmp_path: Path, scraper: Scraper
) -> None:
    tokens.secret_in_form = True
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    way = {"client_id": "us", "client_secret_file": str(file), "token_url": tokens.url}
    scraper.set_pool("p", pool(oauth2=way), [target(exporter)])
    eventually(lambda: exporter.requests)
    assert tokens.forms[-1][0]["client_secret"] == ["from a file"]
    assert sent(exporter)[0] == "Bearer token2"


def test_without_a_token_the_scrape_fails_and_says_why(
    exporter: Exporter, tokens: TokenServer, scraper: Scraper
) -> None:
    tokens.status = 400
    scraper.set_pool("p", pool(oauth2=oauth2(tokens)), [target(exporter)])
    error = last_error(scraper)
    assert error == f"cannot get an OAuth2 token from {tokens.url}: it answered 400 Bad Request invalid_client"
    assert exporter.requests == []


def first_bytes(context: ssl.SSLContext) -> tuple[int, list[tuple[str | None, bytes]], socket.socket]:
    """A server that takes down what TLS agreed on and how the first request begins."""
    seen: list[tuple[str | None, bytes]] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # the test has ended
            with closing(context.wrap_socket(connection, server_side=True)) as secured:
                seen.append((secured.selected_alpn_protocol(), secured.recv(3)))

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1], seen, server


def test_http2_is_spoken_where_tls_agrees_on_it(scraper: Scraper, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "localhost"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    port, seen, server = first_bytes(context)
    try:
        for number, (fields, want) in enumerate(
            [({}, ("h2", b"PRI")), ({"enable_http2": False}, (None, b"GET"))]  # what HTTP/2 begins with, and HTTP/1.1
        ):
            scraper.remove_pool("p")
            way = pool(tls_config={"insecure_skip_verify": True}, **fields)
            scraper.set_pool("p", way | SLOW, [{"url": f"https://127.0.0.1:{port}/metrics"}])
            eventually(lambda number=number: len(seen) > number)  # type: ignore[misc]
            assert seen[-1] == want
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_prometheus_is_scraped_over_http2(storage: Storage, scraper: Scraper, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "localhost")
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"tls_server_config": {"cert_file": str(cert), "key_file": str(key)}}))
    (tmp_path / "prometheus.yml").write_text("{}")
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'theirs'}",
        f"--web.config.file={web}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, name="prometheus", url="", output=tmp_path / "log"):
        way = pool(tls_config={"ca_file": str(cert), "server_name": "localhost"})
        scraper.set_pool("p", way | SLOW, [{"url": f"https://127.0.0.1:{port}/metrics", "labels": {"job": "j"}}])
        eventually(lambda: len(values(storage, "prometheus_ready")) >= 3)
        assert values(storage, "up")[-1] == 1.0
    eventually(lambda: only(scraper)["health"] == "down")


def test_old_and_new_tls_can_be_asked_for(certified: Exporter, scraper: Scraper) -> None:
    def check(want: str, **tls: str) -> None:
        scraper.remove_pool("p")
        before = len(certified.versions)
        way = pool(tls_config={"insecure_skip_verify": True, **tls}, enable_http2=False)
        scraper.set_pool("p", way | SLOW, [target(certified)])
        eventually(lambda: len(certified.versions) > before)
        assert certified.versions[-1] == want

    check("TLSv1.3")
    check("TLSv1.2", max_version="TLS12")
    check("TLSv1.3", min_version="TLS13")
    check("TLSv1.3", min_version="TLS10")
