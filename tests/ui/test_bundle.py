"""The checked-in bundle is the present sources' and keeps to itself."""

import hashlib
import re

from bellbuoy.server.ui import HEADERS, STATIC

UI = STATIC.parents[3] / "ui"
ROOTS = ("index.html", "package-lock.json", "package.json", "public", "src", "tsconfig.json", "vite.config.ts")
LIMIT_BYTES = 200_000


def sources_hash() -> str:
    """As ui/vite.config.ts makes it: one hash over the sorted lines `path <space> sha256 of its content`."""
    files = [
        file for name in ROOTS for file in ([UI / name] if "." in name else (UI / name).rglob("*")) if file.is_file()
    ]
    lines = sorted((file.relative_to(UI).as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files)
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in lines).encode()).hexdigest()


def test_the_bundle_was_built_from_the_present_sources() -> None:
    built_from = (STATIC / "sources.sha256").read_text().strip()
    assert built_from == sources_hash(), (
        "ui/ has changed since the bundle was built: run `npm ci && npm run build` in ui/"
    )


def test_the_bundle_is_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.rglob("*") if file.is_file()) < LIMIT_BYTES


def test_the_page_has_nothing_inline_that_a_strict_content_policy_refuses() -> None:
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page) == []


def test_the_servers_content_policy_has_no_exceptions() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert re.findall(r"unsafe|data:|\*|https?:", policy) == []


def test_the_page_names_only_files_that_are_there() -> None:
    page = (STATIC / "index.html").read_text()
    names = re.findall(r'(?:src|href)="(\./[^"]+)"', page)
    assert len(names) == 3
    assert [name for name in names if not (STATIC / name).is_file()] == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    styles = "".join(file.read_text() for file in STATIC.rglob("*.css"))
    assert re.findall(r"url\(|@import", styles) == []
    scripts = "".join(file.read_text() for file in STATIC.rglob("*.js"))
    # Names of XML namespaces are addresses that nobody opens.
    hosts = set(re.findall(r"https?://([\w.-]+)", scripts)) - {"www.w3.org"}
    assert hosts == set()


def test_the_lock_file_names_packages_by_their_content_and_no_host() -> None:
    lock = (UI / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity": "sha512-') >= 10
