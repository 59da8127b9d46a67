"""How the scraper asks: what it sends to whom, what it takes, and whom it believes."""

import gzip
import socket
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from bellbuoy._core import Scraper, Storage
from tests.core.scraping import Exporter, eventually, last_error, only, settings, target, values


def test_a_refused_connection_is_told_plainly(scraper: Scraper) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scraper.set_pool("p", settings(), [{"url": f"http://127.0.0.1:{port}/metrics", "labels": {"job": "j"}}])
    assert last_error(scraper) == f"cannot connect to 127.0.0.1:{port}: connection refused"


def test_the_request_says_who_asks_and_what_is_read(exporter: Exporter, tmp_path: Path, scraper: Scraper) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    pool = settings(authorization={"credentials_file": str(token)}, headers=[("X-Scope", "s")])
    scraper.set_pool("p", pool, [target(exporter, url=exporter.url + "?module=m")])
    eventually(lambda: exporter.requests)
    path, headers = exporter.requests[0]
    assert path == "/metrics?module=m"
    assert headers["host"] == exporter.address
    assert headers["authorization"] == "Bearer first"
    assert headers["x-scope"] == "s"
    assert headers["user-agent"] == "Bellbuoy/0.1.0"
    assert headers["accept-encoding"] == "zstd,gzip"
    assert headers["x-prometheus-scrape-timeout-seconds"] == "0.1"
    assert "application/openmetrics-text" in headers["accept"]
    assert "text/plain;version=0.0.4" in headers["accept"]
    token.write_text("second")
    eventually(lambda: exporter.requests[-1][1]["authorization"] == "Bearer second")
    token.unlink()
    assert f"cannot read the credentials in {token}" in last_error(scraper)


def test_basic_auth_is_sent(exporter: Exporter, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(basic_auth={"username": "u", "password": "p"}), [target(exporter)])
    eventually(lambda: exporter.requests)
    assert exporter.requests[0][1]["authorization"] == "Basic " + b64encode(b"u:p").decode()


def test_redirects_are_followed_without_credentials_to_other_servers(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.status = 302
    exporter.headers = {"Location": other.url}
    other.body = b"b 1\n"
    pool = settings(authorization={"credentials": "secret"}, headers=[("X-Key", "k")])
    scraper.set_pool("p", pool, [target(exporter)])
    eventually(lambda: values(storage, "b"))
    assert exporter.requests[0][1]["authorization"] == "Bearer secret"
    assert "authorization" not in other.requests[0][1]
    assert "x-key" not in other.requests[0][1]
    scraper.set_pool("p", pool | {"follow_redirects": False}, [target(exporter)])
    assert last_error(scraper) == "server returned HTTP status 302 Found"


def test_a_redirect_in_a_circle_ends(exporter: Exporter, scraper: Scraper) -> None:
    exporter.status = 307
    exporter.headers = {"Location": "metrics"}
    scraper.set_pool("p", settings(interval_seconds=2.0, timeout_seconds=2.0), [target(exporter)])
    assert last_error(scraper) == "stopped after 10 redirects"


def test_a_connection_that_the_server_closed_is_opened_again(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.close_after_answer = True
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "up")) >= 5)
    assert set(values(storage, "up")) == {1.0}
    assert exporter.connections >= 5


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_past_its_limit_is_cut_off(
    compressed: bool, exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    body = b"a 1\n" + b"# comment\n" * 1000
    exporter.body = gzip.compress(body) if compressed else body
    exporter.headers = {"Content-Encoding": "gzip"} if compressed else {}
    scraper.set_pool("p", settings(body_size_limit=len(body) - 1), [target(exporter)])
    assert last_error(scraper) == "body size limit exceeded"
    scraper.set_pool("p", settings(body_size_limit=len(body)), [target(exporter)])
    eventually(lambda: values(storage, "a"))


def test_a_broken_gzip_body_fails_the_scrape(exporter: Exporter, scraper: Scraper) -> None:
    exporter.body = gzip.compress(b"a 1\n" * 100)[:-10]
    exporter.headers = {"Content-Encoding": "gzip"}
    scraper.set_pool("p", settings(), [target(exporter)])
    assert last_error(scraper).startswith("cannot inflate the body: ")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name that vouches for itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    names = [
        "-subj",
        f"/CN={name}",
        "-addext",
        f"subjectAltName=DNS:{name}",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]
    subprocess.run([*command, *names, "-out", cert, "-keyout", key], check=True, capture_output=True)
    return cert, key


def test_tls_verifies_the_name_and_takes_rotated_files(storage: Storage, scraper: Scraper, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "exporter.test")
    client_cert, client_key = certificate(tmp_path, "client.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(client_cert)
    context.verify_mode = ssl.CERT_REQUIRED
    exporter = Exporter(context)
    try:
        mine = {"cert_file": str(client_cert), "key_file": str(client_key)}
        slow = {"interval_seconds": 1.0, "timeout_seconds": 1.0}

        def error(**tls: Any) -> str:
            scraper.remove_pool("p")
            scraper.set_pool("p", settings(tls=mine | tls, **slow), [target(exporter)])
            return last_error(scraper)

        assert "UnknownIssuer" in error(server_name="exporter.test")
        assert "not valid for name" in error(ca_file=str(cert), server_name="other.test")
        missing = tmp_path / "ca.pem"
        assert f"cannot read ca_file {missing}" in error(ca_file=str(missing), server_name="exporter.test")
        missing.write_bytes(cert.read_bytes())
        eventually(lambda: 1.0 in values(storage, "up"))
        scraper.remove_pool("p")
        scraper.set_pool("p", settings(tls=mine | {"insecure_skip_verify": True}, **slow), [target(exporter)])
        eventually(lambda: only(scraper)["health"] == "up")
    finally:
        exporter.stop()
