"""What tests of the scraper share: an exporter whose answer they change, and short ways to ask what was stored."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import numpy as np

from bellbuoy._core import STALE_BITS, Scraper, Storage

WITHIN_SECONDS = 20.0
T = TypeVar("T")
Series = list[tuple[dict[str, str], list[tuple[int, float | str]]]]


class Exporter:
    """An HTTP server whose answer tests change while it runs."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.scheme = "https" if tls else "http"
        self.body: bytes = b"a 1\n"
        self.status = 200
        self.content_type: str | None = "text/plain; version=0.0.4; charset=utf-8"
        self.headers: dict[str, str] = {}
        self.delay_seconds = 0.0
        self.close_after_answer = False
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.versions: list[str | None] = []
        self.sockets: list[socket.socket] = []
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                exporter.connections += 1
                super().setup()
                exporter.sockets.append(self.connection)
                if isinstance(self.connection, ssl.SSLSocket):
                    exporter.versions.append(self.connection.version())

            def do_GET(self) -> None:
                exporter.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                exporter.released.wait(exporter.delay_seconds)
                self.send_response(exporter.status)
                if exporter.content_type is not None:
                    self.send_header("Content-Type", exporter.content_type)
                for name, value in exporter.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(exporter.body)))
                self.end_headers()
                try:
                    self.wfile.write(exporter.body)
                except OSError:
                    self.close_connection = True
                # Closing without saying so: the client finds out at its next request.
                self.close_connection = self.close_connection or exporter.close_after_answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.released = threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}/metrics"

    def stop(self) -> None:
        if self.thread.is_alive():
            self.released.set()
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()
            for one in self.sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def eventually(look: Callable[[], T]) -> T:
    """The first true answer."""
    end = time.monotonic() + WITHIN_SECONDS
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {WITHIN_SECONDS} s"
        time.sleep(0.01)
    return seen


def settings(**changed: Any) -> dict[str, Any]:
    return {"interval_seconds": 0.1, "timeout_seconds": 0.1} | changed


def target(exporter: Exporter, **changed: Any) -> dict[str, Any]:
    return {"url": exporter.url, "labels": {"job": "j", "instance": "i"}} | changed


def series(storage: Storage, name: str) -> Series:
    """All series of a name, without `__name__`, with their samples; a stale marker is "stale"."""
    selected = storage.select([("__name__", "=", name)], 0, 2**50)
    stale = selected.values.view(np.uint64) == STALE_BITS
    found: Series = []
    for i, labels in enumerate(selected.labels.to_dicts()):
        span = range(selected.offsets[i], selected.offsets[i + 1])
        samples = [(int(selected.timestamps[at]), "stale" if stale[at] else float(selected.values[at])) for at in span]
        found.append(({key: value for key, value in labels.items() if key != "__name__"}, samples))
    return found


def values(storage: Storage, name: str) -> list[float | str]:
    """The values of the one series of a name; none as long as there is none."""
    found = series(storage, name)
    assert len(found) <= 1
    return [value for _, value in found[0][1]] if found else []


def only(scraper: Scraper) -> dict[str, Any]:
    (one,) = scraper.targets()
    return one


def last_error(scraper: Scraper) -> str:
    return eventually(lambda: str(only(scraper)["last_error"]))
