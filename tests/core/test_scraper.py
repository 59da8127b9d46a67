"""The scraper against real HTTP servers: what it asks for, what it stores, and what it says of targets."""

import gzip
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import prometheus_client
import pytest
from bellbuoy._core import STALE_BITS, Scraper, Storage
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

WITHIN_SECONDS = 20.0
T = TypeVar("T")


class Exporter:
    """An HTTP server whose answer tests change while it runs."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.scheme = "https" if tls else "http"
        self.body: bytes = b"a 1\n"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.delay_seconds = 0.0
        self.close_after_answer = False
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.sockets: list[socket.socket] = []
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                exporter.connections += 1
                super().setup()
                exporter.sockets.append(self.connection)

            def do_GET(self) -> None:
                exporter.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                exporter.released.wait(exporter.delay_seconds)
                self.send_response(exporter.status)
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


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.stop()


@pytest.fixture
def other() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.stop()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    one = Storage(str(tmp_path / "data"))
    yield one
    one.close()


@pytest.fixture
def scraper(storage: Storage) -> Iterator[Scraper]:
    one = Scraper(storage)
    yield one
    one.close()


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


Series = list[tuple[dict[str, str], list[tuple[int, float | str]]]]


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


def test_a_scrape_stores_its_samples_and_a_report(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b'# TYPE a gauge\na 1\nb{x="y"} 2.5\nb{x="y"} 7\n'
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "up")) >= 3)
    assert series(storage, "b")[0][0] == {"job": "j", "instance": "i", "x": "y"}
    assert set(values(storage, "b")) == {2.5}
    assert set(values(storage, "up")) == {1.0}
    assert set(values(storage, "scrape_samples_scraped")) == {3.0}
    assert set(values(storage, "scrape_samples_post_metric_relabeling")) == {2.0}
    assert values(storage, "scrape_series_added")[:2] == [2.0, 0.0]
    assert all(isinstance(v, float) and 0 < v < 1 for v in values(storage, "scrape_duration_seconds"))
    shown = only(scraper)
    assert (shown["pool"], shown["url"], shown["health"], shown["last_error"]) == ("p", exporter.url, "up", "")
    assert (shown["samples"], shown["series"], shown["interval_seconds"]) == (3, 2, 0.1)
    stats = scraper.stats()
    assert stats["targets"] == 1
    assert stats["samples_duplicate"] >= 3
    assert stats["plan_hits"] >= 2
    assert stats["plan_misses"] == 1


def test_scrapes_fall_on_a_grid_that_stays(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(interval_seconds=0.3), [target(exporter)])
    eventually(lambda: len(values(storage, "up")) >= 10)
    # The first one does not wait for the grid, and one that the machine delays says when it was.
    places = [time % 300 for time, _ in series(storage, "up")[0][1]][1:]
    start = min(places, key=lambda place: sum((other - place) % 300 for other in places))
    assert sum((place - start) % 300 <= 60 for place in places) >= len(places) * 3 // 4
    assert exporter.connections == 1


def test_a_new_target_does_not_wait_for_its_interval(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    started = time.time()
    scraper.set_pool("p", settings(interval_seconds=3600.0, timeout_seconds=5.0), [target(exporter)])
    eventually(lambda: values(storage, "up"))
    assert time.time() - started < 2.5


def test_a_failed_scrape_is_up_0_and_ends_the_series(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "up"))
    exporter.status = 503
    assert last_error(scraper) == "server returned HTTP status 503 Service Unavailable"
    assert only(scraper)["health"] == "down"
    eventually(lambda: values(storage, "up")[-1] == 0.0)
    assert values(storage, "a")[-1] == "stale"
    assert values(storage, "a").count("stale") == 1
    exporter.status = 200
    eventually(lambda: values(storage, "a")[-1] == 1.0)


def test_a_body_that_cannot_be_read_says_where(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b"a 1\nb x\n"
    scraper.set_pool("p", settings(), [target(exporter)])
    assert last_error(scraper) == 'line 2: expected a number after the metric: "b x"'
    assert values(storage, "a") == []
    eventually(lambda: 0.0 in values(storage, "up"))


def test_a_refused_connection_is_told_plainly(scraper: Scraper) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scraper.set_pool("p", settings(), [{"url": f"http://127.0.0.1:{port}/metrics", "labels": {"job": "j"}}])
    assert last_error(scraper) == f"cannot connect to 127.0.0.1:{port}: connection refused"


def test_a_target_that_hangs_harms_no_other(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.delay_seconds = 30
    other.body = b"b 1\n"
    hanging = [target(exporter, labels={"job": "hang", "instance": str(i)}) for i in range(20)]
    scraper.set_pool("p", settings(), [*hanging, target(other)])
    eventually(lambda: len(values(storage, "b")) >= 5)
    errors = eventually(lambda: {t["last_error"] for t in scraper.targets() if t["last_error"]})
    assert errors == {"no answer within 0.1 s (scrape timeout)"}


def test_lines_that_come_and_go_start_and_end_series(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b"a 1\nb 2\n"
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "b"))
    exporter.body = b"a 1\nc 3\n"
    eventually(lambda: values(storage, "c"))
    assert values(storage, "b")[-1] == "stale"
    exporter.body = b"b 4\na 1\nc 3\n"
    eventually(lambda: values(storage, "b")[-1] == 4.0)
    assert "stale" not in values(storage, "a") + values(storage, "c")


def test_a_pod_that_is_not_ready_is_no_up_0(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.status = 500
    pool = settings(interval_seconds=3600.0, timeout_seconds=5.0)
    scraper.set_pool("p", pool, [target(exporter, not_ready=True)])
    eventually(lambda: len(exporter.requests) >= 2)
    assert last_error(scraper)
    assert values(storage, "up") == []
    exporter.status = 200
    # Readiness has it scraped at once, an hour before its interval ends.
    scraper.set_pool("p", pool, [target(exporter)])
    eventually(lambda: values(storage, "up"))
    assert set(values(storage, "up")) == {1.0}


def test_a_pod_that_terminates_is_scraped_until_it_refuses(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    pool = settings(interval_seconds=3600.0, timeout_seconds=5.0)
    scraper.set_pool("p", pool, [target(exporter)])
    eventually(lambda: values(storage, "a") == [1.0])
    exporter.body = b"a 2\n"
    started = time.monotonic()
    scraper.set_pool("p", pool, [target(exporter, terminating=True)])
    eventually(lambda: values(storage, "a") == [1.0, 2.0])
    assert time.monotonic() - started < 0.9
    exporter.body = b"a 3\n"
    eventually(lambda: values(storage, "a")[-1] == 3.0)
    exporter.stop()
    eventually(lambda: values(storage, "a")[-1] == "stale")
    assert set(values(storage, "up")) == {1.0, "stale"}


def test_every_second_overrides_the_interval(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(interval_seconds=3600.0, timeout_seconds=5.0), [target(exporter, every_second=True)])
    eventually(lambda: len(values(storage, "a")) >= 3)


def test_a_target_that_is_gone_ends_in_stale_markers(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    scraper.set_pool("p", settings(), [])
    assert (values(storage, "a")[-1], values(storage, "up")[-1]) == ("stale", "stale")
    assert scraper.targets() == []
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a")[-1] == 1.0)
    scraper.remove_pool("p")
    assert values(storage, "a")[-1] == "stale"


def test_targets_that_stay_go_on_untouched(
    exporter: Exporter, other: Exporter, storage: Storage, scraper: Scraper
) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    for i in range(20):
        scraper.set_pool(
            "p", settings(), [target(exporter, every_second=i % 2 == 0), target(other, labels={"n": str(i)})]
        )
    eventually(lambda: len(exporter.requests) >= 5)
    assert exporter.connections == 1
    assert all("stale" not in [v for _, v in samples] for labels, samples in series(storage, "a") if "job" in labels)


def test_changed_settings_apply_to_targets_that_run(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    rules = [{"source_labels": ["__name__"], "target_label": "__name__", "replacement": "renamed_$1"}]
    scraper.set_pool("p", settings(metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: values(storage, "renamed_a"))
    assert values(storage, "a")[-1] == "stale"
    assert set(values(storage, "up")) == {1.0}


def test_metric_relabeling_drops_and_rewrites(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b'a 1\nb{x="1"} 2\nb{x="2"} 3\n'
    rules = [
        {"action": "drop", "source_labels": ["__name__"], "regex": "a"},
        {"source_labels": ["x", "instance"], "target_label": "both"},
        {"action": "labeldrop", "regex": "instance"},
    ]
    scraper.set_pool("p", settings(metric_relabel_configs=rules), [target(exporter)])
    eventually(lambda: series(storage, "b"))
    assert [labels for labels, _ in series(storage, "b")] == [
        {"job": "j", "x": "1", "both": "1;i"},
        {"job": "j", "x": "2", "both": "2;i"},
    ]
    assert values(storage, "a") == []
    assert (
        values(storage, "scrape_samples_scraped")[0],
        values(storage, "scrape_samples_post_metric_relabeling")[0],
    ) == (3.0, 2.0)


def test_targets_with_equal_bodies_share_a_plan_but_not_their_labels(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    pods = [target(exporter, labels={"job": "j", "pod": f"pod-{i}"}) for i in range(5)]
    scraper.set_pool("p", settings(), pods)
    eventually(lambda: len(series(storage, "a")) == 5)
    assert sorted(labels["pod"] for labels, _ in series(storage, "a")) == [f"pod-{i}" for i in range(5)]
    assert scraper.stats()["plans"] == 1


def test_labels_of_the_target_win_unless_the_body_s_are_honored(
    exporter: Exporter, storage: Storage, scraper: Scraper
) -> None:
    exporter.body = b'a{job="x"} 1\nb{instance=""} 2\n'
    scraper.set_pool("win", settings(), [target(exporter, labels={"job": "j", "instance": "i"})])
    eventually(lambda: series(storage, "b"))
    assert series(storage, "a")[0][0] == {"job": "j", "exported_job": "x", "instance": "i"}
    assert series(storage, "b")[0][0] == {"job": "j", "instance": "i"}
    scraper.remove_pool("win")
    scraper.set_pool("honor", settings(honor_labels=True), [target(exporter, labels={"job": "k", "instance": "i"})])
    eventually(lambda: len(series(storage, "b")) == 2)
    assert {"job": "x", "instance": "i"} in [labels for labels, _ in series(storage, "a")]
    assert {"job": "k"} in [labels for labels, _ in series(storage, "b")]


def test_timestamps_are_honored_or_not(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    when = int(time.time() * 1000) - 5000
    exporter.body = f"a 1 {when}\nb 2\n".encode()
    scraper.set_pool("honor", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "b")) >= 2)
    assert series(storage, "a")[0][1] == [(when, 1.0)]
    scraper.remove_pool("honor")
    scraper.set_pool("ignore", settings(honor_timestamps=False), [target(exporter, labels={"job": "k"})])
    eventually(lambda: len(series(storage, "a")) == 2)
    (ignored,) = [samples for labels, samples in series(storage, "a") if labels["job"] == "k"]
    assert ignored[0][0] > when


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


def test_limits_fail_the_scrape_in_prometheus_s_words(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    exporter.body = b'abc{label="value"} 1\nb 2\n'

    def check(limits: dict[str, int], want: str) -> None:
        scraper.set_pool("p", settings(**limits), [target(exporter)])
        assert last_error(scraper) == want
        scraper.remove_pool("p")

    check({"sample_limit": 1}, "sample limit exceeded")
    check({"label_limit": 3}, "label_limit exceeded (metric: abc, number of labels: 4, limit: 3)")
    want = "label_name_length_limit exceeded (metric: abc, label name: __name__, length: 8, limit: 7)"
    check({"label_name_length_limit": 7}, want)
    want = 'label_value_length_limit exceeded (metric: abc, label name: label, value: "value", length: 5, limit: 4)'
    check({"label_value_length_limit": 4}, want)
    assert values(storage, "b") == []
    scraper.set_pool("p", settings(sample_limit=2, label_limit=4), [target(exporter)])
    eventually(lambda: values(storage, "b"))


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
    assert headers["accept-encoding"] == "gzip"
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


def test_openmetrics_of_prometheus_client_is_read(exporter: Exporter, storage: Storage, scraper: Scraper) -> None:
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("hits", "Hits so far.", ["path"], registry=registry)
    counter.labels('/"a"\n').inc(3, exemplar={"trace_id": "abc"})
    prometheus_client.Histogram("wait_seconds", "Waits.", unit="seconds", buckets=(1,), registry=registry).observe(
        0.5, {"trace_id": "x"}
    )
    exporter.body = generate_latest(registry)  # type: ignore[no-untyped-call]
    exporter.headers = {"Content-Type": CONTENT_TYPE_LATEST}
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: len(values(storage, "hits_total")) >= 2)
    assert series(storage, "hits_total")[0][0]["path"] == '/"a"\n'
    assert set(values(storage, "hits_total")) == {3.0}
    assert sorted(labels["le"] for labels, _ in series(storage, "wait_seconds_bucket")) == ["+Inf", "1.0"]
    assert scraper.stats()["plan_misses"] == 1
    said = {(metric, kind, text, unit) for _, _, metric, kind, text, unit in scraper.metadata()}
    assert ("hits", "counter", "Hits so far.", "") in said
    assert ("wait_seconds", "histogram", "Waits.", "seconds") in said
    exporter.body = exporter.body.removesuffix(b"# EOF\n")
    assert "data does not end with # EOF" in last_error(scraper)


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


def test_what_python_says_is_checked(scraper: Scraper, exporter: Exporter) -> None:
    def check(pool: dict[str, Any], targets: list[dict[str, Any]], *words: str) -> None:
        with pytest.raises(ValueError) as caught:
            scraper.set_pool("p", pool, targets)
        for word in ("pool p", *words):
            assert word in str(caught.value) or word == "pool p"

    good = target(exporter)
    check({"timeout_seconds": 1.0}, [good], "interval_seconds", "missing")
    check(settings(timeout_seconds=9.0), [good], "timeout_seconds", "longer than interval_seconds")
    check(settings(intervall=1), [good], "intervall is no key", "interval_seconds")
    check(settings(sample_limit=-1), [good], "sample_limit", "at least 0")
    check(
        settings(metric_relabel_configs=[{"action": "x"}]), [good], "metric_relabel_configs", "relabel rule 0", "action"
    )
    check(settings(tls={"cert_file": "c"}), [good], "cert_file and key_file belong together")
    check(settings(authorization={"credentials": "a"}, basic_auth={}), [good], "keep one")
    check(settings(headers=[("a b", "c")]), [good], "headers", "a b")
    check(settings(), [{"url": "ftp://x"}], "url", "http://")
    check(settings(), [{"labels": {}}], "url", "missing")
    assert scraper.targets() == []


def test_a_closed_scraper_says_so(storage: Storage, exporter: Exporter) -> None:
    scraper = Scraper(storage)
    scraper.set_pool("p", settings(), [target(exporter)])
    eventually(lambda: values(storage, "a"))
    scraper.close()
    scraper.close()
    with pytest.raises(RuntimeError, match="closed"):
        scraper.targets()
    # A restart is no end of the series.
    assert "stale" not in values(storage, "a")
