"""What may stand between the scraper and a target: a proxy and a token server, whose answers tests change."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from urllib.request import ProxyHandler, Request, build_opener


class _Served:
    """A server on a thread of its own."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.address}"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Proxy(_Served):
    """An HTTP proxy that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.refuses = False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _remember(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                proxy.asked.append((self.command, self.path, headers))

            def do_GET(self) -> None:
                self._remember()
                headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
                with build_opener(ProxyHandler({})).open(Request(self.path, headers=headers)) as answer:
                    body = answer.read()
                    self.send_response(answer.status)
                    self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_CONNECT(self) -> None:
                self._remember()
                if proxy.refuses:
                    self.send_error(407)
                    return
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as there:
                    self.send_response(200, "Connection established")
                    self.end_headers()
                    back = threading.Thread(target=_pour, args=(there, self.connection))
                    back.start()
                    _pour(self.connection, there)
                    back.join()
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(Handler)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one end is gone, and so is the tunnel


class TokenServer(_Served):
    """Gives out a numbered token for each request."""

    def __init__(self) -> None:
        self.forms: list[tuple[dict[str, list[str]], str]] = []
        self.expires_in: object = 3600
        self.secret_in_form = False
        self.status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                server.forms.append((form, self.headers.get("Authorization", "")))
                status, answer = server.status, {"error": "invalid_client"}
                if status == 200 and server.secret_in_form and "client_secret" not in form:
                    status = 401
                if status == 200:
                    answer = {"access_token": f"token{len(server.forms)}", "token_type": "bearer"}
                    answer |= {} if server.expires_in is None else {"expires_in": server.expires_in}  # type: ignore[dict-item]
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(Handler)
