"""A small application with metrics, for tests and the demo: it does nothing but count, and dies as it is told.

    GET  /            a request that is counted and timed
    GET  /metrics     sample_requests_total, sample_temperature (a gauge), sample_request_duration_seconds, sample_info
    POST /set?value=  sets the gauge
    GET  /ready       200, and 503 until --ready-after seconds have passed and once it is being terminated
    POST /ready?value=0|1   makes it unready, or ready

On SIGTERM it goes on serving for --linger seconds, as applications do that drain their connections; then it ends.
"""

import argparse
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest


class App:
    """What the application knows: its metrics, and whether it wants traffic."""

    def __init__(self, *, ready_after_seconds: float) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("sample_requests", "Requests answered.", ["path", "code"], registry=self.registry)
        self.temperature = Gauge("sample_temperature", "Set by POST /set?value=.", registry=self.registry)
        self.duration = Histogram(
            "sample_request_duration_seconds", "How long a request took.", ["path"], registry=self.registry
        )
        about = Info("sample", "The application.", registry=self.registry)
        about.info({"version": os.environ.get("SAMPLE_VERSION", "dev"), "host": os.uname().nodename})
        self.ready_at = time.monotonic() + ready_after_seconds
        self.wants_traffic = True
        self.terminating = False

    @property
    def ready(self) -> bool:
        return self.wants_traffic and not self.terminating and time.monotonic() >= self.ready_at


def handler(app: App) -> type[BaseHTTPRequestHandler]:
    """The application's requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/metrics":
                self._answer(200, generate_latest(app.registry), kind=CONTENT_TYPE_LATEST)
            elif path == "/ready":
                self._answer(200 if app.ready else 503, b"ready\n" if app.ready else b"not ready\n")
            elif path == "/":
                with app.duration.labels(path).time():
                    app.requests.labels(path, "200").inc()
                    self._answer(200, f"{os.uname().nodename}\n".encode())
            else:
                app.requests.labels("other", "404").inc()
                self._answer(404, b"there is only /, /metrics, /ready and POST /set?value=\n")

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            try:
                value = float(parse_qs(parts.query)["value"][0])
            except (KeyError, ValueError):
                self._answer(400, b"say ?value=NUMBER\n")
                return
            if parts.path == "/set":
                app.temperature.set(value)
            elif parts.path == "/ready":
                app.wants_traffic = bool(value)
            else:
                self._answer(404, b"there is only POST /set?value= and POST /ready?value=\n")
                return
            self._answer(200, b"ok\n")

        def _answer(self, code: int, body: bytes, *, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: it is scraped each second."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description="A small application with metrics.")
    parser.add_argument("--address", default="0.0.0.0", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="on which port; 0 is any (default: %(default)s)")
    parser.add_argument(
        "--linger", type=float, default=0, help="seconds to serve on after SIGTERM (default: %(default)s)"
    )
    parser.add_argument("--ready-after", type=float, default=0, help="seconds until ready (default: %(default)s)")
    options = parser.parse_args()

    app = App(ready_after_seconds=options.ready_after)
    server = ThreadingHTTPServer((options.address, options.port), handler(app))
    server.daemon_threads = True

    def terminate(*_: object) -> None:
        if not app.terminating:
            app.terminating = True
            threading.Timer(options.linger, server.shutdown).start()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    print(f"listening on {server.server_address[0]!s}:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
