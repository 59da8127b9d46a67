"""A follower against a real TLS server that answers as the operator does."""

import asyncio
import datetime
import json
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bellbuoy.http import follow
from bellbuoy.http.follow import Change, ConfigFollower, RejectedError


@dataclass
class Operator:
    """A stack's parts, a long poll over them, and what was asked for."""

    parts: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    tokens: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, **parts: bytes) -> None:
        self.parts = {name.replace("_", "."): body for name, body in parts.items()}
        self.changed.set()

    def whole(self) -> str:
        return sha256(repr(sorted(self.parts.items())).encode()).hexdigest()

    async def changes(self, request: web.Request) -> web.Response:
        self.seen(request)
        if self.status != 200:
            return web.Response(status=self.status, text="not now")
        after, timeout = request.query.get("after"), float(request.query["timeout"])
        while self.whole() == after:
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), timeout)
            except TimeoutError:
                break
        if self.status != 200:
            return web.Response(status=self.status, text="not now")
        parts = {name: sha256(body).hexdigest() for name, body in self.parts.items()}
        return web.json_response({"hash": self.whole(), "parts": parts})

    async def part(self, request: web.Request) -> web.Response:
        self.seen(request)
        body = self.parts.get(request.match_info["name"])
        return web.Response(status=404) if body is None else web.Response(body=body)

    def seen(self, request: web.Request) -> None:
        self.tokens.append(request.headers.get("Authorization", ""))
        self.asked.append(request.path.removeprefix("/v1/stacks/a/b/"))


def write_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operator")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "tls.crt", folder / "tls.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    operator = Operator()
    app = web.Application()
    app.router.add_get("/v1/stacks/a/b/changes", operator.changes)
    app.router.add_get("/v1/stacks/a/b/{name:.+}", operator.part)
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    operator.url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1/stacks/a/b/"
    yield operator
    operator.changed.set()
    await runner.cleanup()


class Following:
    """A running follower and what it applied."""

    def __init__(self, operator: Operator, folder: Path, *, reject: bytes = b"\0") -> None:
        self.applied: asyncio.Queue[Change] = asyncio.Queue()
        self.reject = reject
        (folder / "token").write_text("first\n")
        self.follower = ConfigFollower(
            url=operator.url,
            apply=self.apply,
            cache_folder=folder / "cache",
            token_file=folder / "token",
            ca_file=folder / "tls.crt",
        )

    async def apply(self, change: Change) -> None:
        if self.reject in change.parts.values():
            raise RejectedError("cannot use it")
        self.applied.put_nowait(change)

    async def next(self) -> Change:
        return await asyncio.wait_for(self.applied.get(), 10)

    async def __aenter__(self) -> "Following":
        self.task = asyncio.create_task(self.follower.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BACKOFF_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(follow, "UNCHANGED_SECONDS", 0.01)


async def until(condition: object, message: str) -> None:
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(message)


async def test_applies_all_parts_and_then_fetches_only_what_changed(operator: Operator, tmp_path: Path) -> None:
    operator.set(a_yml=b"1", b_yml=b"2")
    async with Following(operator, tmp_path) as following:
        assert await following.next() == Change(
            {"a.yml": b"1", "b.yml": b"2"}, frozenset({"a.yml", "b.yml"}), frozenset()
        )
        operator.asked.clear()
        operator.set(a_yml=b"3", c_yml=b"4")
        change = await following.next()
        assert change.parts == {"a.yml": b"3", "c.yml": b"4"}
        assert change.changed == frozenset({"a.yml", "c.yml"})
        assert change.removed == frozenset({"b.yml"})
        assert {"a.yml", "c.yml"} <= set(operator.asked)
        assert "b.yml" not in operator.asked


async def test_reads_the_token_file_for_each_request(operator: Operator, tmp_path: Path) -> None:
    operator.set(a_yml=b"1")
    async with Following(operator, tmp_path) as following:
        await following.next()
        (tmp_path / "token").write_text("second\n")
        operator.set(a_yml=b"2")
        await following.next()
    assert operator.tokens[0] == "Bearer first"
    assert operator.tokens[-1] == "Bearer second"


async def test_keeps_what_it_has_at_anything_but_200(operator: Operator, tmp_path: Path) -> None:
    operator.set(a_yml=b"1")
    async with Following(operator, tmp_path) as following:
        await following.next()
        operator.status = 503
        operator.set()
        await until(lambda: "503" in following.follower.status.last_error, "the failure shows")
        assert following.applied.empty()
        operator.status = 200
        operator.set(a_yml=b"2")
        assert (await following.next()).parts == {"a.yml": b"2"}
        assert following.follower.status.last_error == ""


async def test_starts_from_the_folder_while_the_operator_is_away(operator: Operator, tmp_path: Path) -> None:
    operator.set(a_yml=b"1")
    async with Following(operator, tmp_path) as following:
        await following.next()
        await until(lambda: (tmp_path / "cache/state.json").exists(), "it is stored")
    operator.status = 500
    async with Following(operator, tmp_path) as following:
        change = await following.next()
        assert change.from_cache
        assert change.parts == {"a.yml": b"1"}


async def test_a_rejected_configuration_is_neither_kept_nor_tried_again(operator: Operator, tmp_path: Path) -> None:
    operator.set(a_yml=b"good")
    async with Following(operator, tmp_path, reject=b"bad") as following:
        await following.next()
        operator.set(a_yml=b"bad")
        await until(lambda: following.follower.status.rejected, "it is rejected")
        operator.asked.clear()
        await asyncio.sleep(0.1)
        assert operator.asked.count("a.yml") == 0
    async with Following(operator, tmp_path, reject=b"bad") as following:
        assert (await following.next()).parts == {"a.yml": b"good"}


async def test_a_damaged_folder_is_set_aside_and_said(
    operator: Operator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    body = b"1"
    state = {"version": 1, "hash": "h", "parts": {"a.yml": {"hash": "x", "sha256": sha256(body).hexdigest()}}}
    (cache / "state.json").write_text(json.dumps(state))
    (cache / sha256(body).hexdigest()).write_bytes(b"2")
    operator.set(a_yml=b"3")
    with caplog.at_level(logging.ERROR):
        async with Following(operator, tmp_path) as following:
            change = await following.next()
    assert not change.from_cache
    assert change.parts == {"a.yml": b"3"}
    assert "set aside" in caplog.text
    assert [path.name for path in cache.glob("state.json.corrupt-*")]


async def test_does_not_trust_a_server_of_another_authority(operator: Operator, tmp_path: Path) -> None:
    operator.set(a_yml=b"1")
    other = tmp_path / "other"
    other.mkdir()
    write_certificate(other)
    following = Following(operator, tmp_path)
    following.follower.ca_file = other / "tls.crt"
    async with following:
        await until(lambda: "certificate" in following.follower.status.last_error.lower(), "it refuses")
        # The right authority arrives in the file: a mounted ConfigMap that caught up.
        (other / "tls.crt").write_bytes((tmp_path / "tls.crt").read_bytes())
        assert (await following.next()).parts == {"a.yml": b"1"}
    assert all(token == "Bearer first" for token in operator.tokens)


async def test_says_what_is_wrong_with_files_and_answers(operator: Operator, tmp_path: Path) -> None:
    async def check(want: str, *, status: int = 200, remove: str = "") -> None:
        following = Following(operator, tmp_path)
        operator.status = status
        if remove:
            (tmp_path / remove).unlink()
        async with following:
            await until(lambda: want in following.follower.status.last_error, want)

    await check("may read this stack", status=403)
    await check("see whether the stack exists", status=404)
    await check("cannot read token file", remove="token")
    await check("cannot read CA file", remove="tls.crt")
