"""What an `http_config` says is what requests do: authorization, TLS, redirects; secrets stay out of errors."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from bellbuoy.alertmanager.config import HttpConfig
from bellbuoy.alertmanager.senders import HttpClient, TemporaryError
from tests.http.test_follow import write_certificate


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A TLS server that says how it was asked."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("Authorization", "nobody"))

    async def away(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/")

    app = web.Application()
    app.router.add_post("/", echo)
    app.router.add_post("/away", away)
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


def client(tmp_path: Path, **config: object) -> HttpClient:
    return HttpClient(HttpConfig.model_validate({"tls_config": {"ca_file": str(tmp_path / "tls.crt")}, **config}))


async def test_each_way_to_say_who_we_are(url: str, tmp_path: Path) -> None:
    async def check(want: str, **config: object) -> None:
        status, _, text = await client(tmp_path, **config).post(url, b"{}")
        assert (status, text) == (200, want)

    secret = tmp_path / "secret"
    secret.write_text("from-file\n")
    await check("nobody")
    await check("Basic dTpw", basic_auth={"username": "u", "password": "p"})
    await check("Basic dTpmcm9tLWZpbGU=", basic_auth={"username": "u", "password_file": str(secret)})
    await check("Bearer x", authorization={"credentials": "x"})
    await check("Token from-file", authorization={"type": "Token", "credentials_file": str(secret)})
    await check("Bearer y", bearer_token="y")
    await check("Bearer from-file", bearer_token_file=str(secret))
    rotating = client(tmp_path, bearer_token_file=str(secret))
    secret.write_text("rotated")
    assert (await rotating.post(url, b"{}"))[2] == "Bearer rotated"


async def test_a_server_that_is_not_trusted_gets_nothing(url: str, tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="cannot connect"):
        await HttpClient(HttpConfig()).post(url, b"{}")
    with pytest.raises(TemporaryError, match="cannot read the files of tls_config"):
        await client(tmp_path, tls_config={"ca_file": str(tmp_path / "none")}).post(url, b"{}")
    careless = client(tmp_path, tls_config={"insecure_skip_verify": "true"})
    assert (await careless.post(url, b"{}"))[0] == 200


async def test_redirects_are_followed_unless_told_otherwise(url: str, tmp_path: Path) -> None:
    assert (await client(tmp_path).post(url + "away", b"{}"))[0] == 200
    assert (await client(tmp_path, follow_redirects=False).post(url + "away", b"{}"))[0] == 307


async def test_an_error_does_not_tell_the_url(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError) as caught:
        await client(tmp_path).post("https://127.0.0.1:1/services/secret", b"{}")
    assert "secret/" not in str(caught.value)
    assert "services" not in str(caught.value)
