"""The operator's certificate is good for its names, and for whoever trusts its authority only."""

import asyncio
import ssl

import aiohttp
import pytest
from aiohttp import web

from bellbuoy.http import serve
from bellbuoy_operator.certificates import Authority, ServingCertificate, make_authority


async def ask(authority: Authority, trusted: Authority, host: str) -> int:
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    certificate = ServingCertificate(authority, ["localhost", "127.0.0.1", "bellbuoy-operator.bellbuoy-system.svc"])
    server = asyncio.create_task(
        serve(
            web.Application(), listen="127.0.0.1:0", stop=stop, tls=certificate.context, listening=listening.set_result
        )
    )
    port = (await listening).rpartition(":")[2]
    try:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=trusted.certificate_pem))
        url = f"https://127.0.0.1:{port}/"
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, server_hostname=host) as response,
        ):
            return response.status
    finally:
        stop.set()
        await server


async def test_its_names_are_accepted() -> None:
    authority = make_authority()
    for host in ("localhost", "127.0.0.1", "bellbuoy-operator.bellbuoy-system.svc"):
        assert await ask(authority, authority, host) == 404


async def test_other_names_and_other_authorities_are_not() -> None:
    authority = make_authority()
    with pytest.raises(aiohttp.ClientConnectorCertificateError, match="Hostname mismatch"):
        await ask(authority, authority, "example.org")
    with pytest.raises(aiohttp.ClientConnectorCertificateError, match="certificate verify failed"):
        await ask(authority, make_authority(), "localhost")


def test_keys_are_not_printed() -> None:
    authority = make_authority()
    assert "PRIVATE KEY" in authority.key_pem
    assert "PRIVATE KEY" not in repr(authority)
