"""What Prometheus 3.16 makes of native, float, gauge, classic and converted histograms, ours makes of them, too."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from bench.programs import PROMETHEUS
from tests.histograms import RECORDED, Answer, recorded_answer
from tests.histograms.servers import answered, exposer, ours, reference
from tests.peers.programs import Program, fetch, query

pytestmark = pytest.mark.peers
# Others hold to the recording.
BUILT = ["Prometheus 3.16"] if PROMETHEUS.is_built() else []


def check_equal(got: Answer, want: Answer) -> None:
    assert [one["metric"] for one in got] == [one["metric"] for one in want]
    for mine, theirs in zip(got, want, strict=True):
        assert mine == theirs


async def metadata(at: Program) -> dict[str, Any]:
    """What the server knows of each metric."""
    said: dict[str, Any] = json.loads(await fetch(f"{at.url}/api/v1/metadata"))["data"]
    return {name: sorted(all_, key=repr) for name, all_ in said.items()}


METRIC = {"__name__": "x_both", "instance": "x", "job": "native"}
# Whatever moment they are asked at.
FUNCTIONS = (
    'histogram_quantile(0.9, x_both{job="native"})',
    'histogram_count(x_both{job="native"})',
    'histogram_avg(sum(x_both{job="native"}))',
    'histogram_fraction(0, 1, x_both{job="native"} * 2)',
    'histogram_stddev(x_both{job="native"} - x_both{job="native"} / 2)',
)


async def check_ranges(at: Program, histogram: dict[str, Any]) -> None:
    """A histogram at each step, and all of a window."""
    selector = 'x_both{job="native"}'
    (window,) = await query(at, f"{selector}[1m]")
    assert window.keys() == {"metric", "histograms"}
    assert window["metric"] == METRIC
    assert all(one == histogram for _, one in window["histograms"])
    end = window["histograms"][-1][0]
    asked = f"{at.url}/api/v1/query_range?query={quote(selector)}&start={end - 2}&end={end + 2}&step=1"
    (steps,) = json.loads(await fetch(asked))["data"]["result"]
    assert steps.keys() == {"metric", "histograms"}
    assert steps["histograms"][-1] == [end + 2, histogram]


@contextlib.contextmanager
def recorded_exposer() -> Iterator[str]:
    """Says what the exposer said, in the format that it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers["Accept"]
            name, kind = "body.text", "text/plain; version=0.0.4; charset=utf-8"
            if wanted.startswith("application/vnd.google.protobuf"):
                name, kind = "body.pb", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily"
            elif wanted.startswith("application/openmetrics-text"):
                name, kind = "body.openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"
            body = (RECORDED / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_recorded_exposition_is_what_prometheus_made_of_it(tmp_path: Path) -> None:
    with recorded_exposer() as address:
        async with ours(address, tmp_path) as at:
            want = recorded_answer()
            check_equal(await answered(at, counted=51), want)
            await check_ranges(at, next(one["histogram"] for one in want if one["metric"] == METRIC))
            assert [one["value"][1] for one in await query(at, 'count(x_both{job="native"})')] == ["1"]
            assert await query(at, 'x_both{job="native"} > 0') == []


@pytest.mark.parametrize("peer", BUILT)
async def test_both_servers_make_the_same_of_what_they_scrape(peer: str, tmp_path: Path) -> None:
    async with exposer(tmp_path) as source:
        address = source.url.removeprefix("http://")
        async with reference(address, tmp_path) as theirs, ours(address, tmp_path) as at:
            # What has been observed by then: 50 and one at the first step, 100 and one more at the second.
            for counted in (51, 152):
                want = await answered(theirs, counted=counted)
                check_equal(await answered(at, counted=counted), want)
                assert await metadata(at) == await metadata(theirs)
                histogram = next(one["histogram"] for one in want if one["metric"] == METRIC)
                for server in (theirs, at) if counted == 51 else ():
                    await check_ranges(server, histogram)
                for expression in FUNCTIONS:
                    ours_, theirs_ = await query(at, expression), await query(theirs, expression)
                    assert [(one["metric"], one["value"][1]) for one in ours_] == [
                        (one["metric"], one["value"][1]) for one in theirs_
                    ], expression
                async with aiohttp.ClientSession() as session, session.post(f"{source.url}/step") as stepped:
                    assert stepped.status == 200
