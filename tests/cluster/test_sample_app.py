"""The application that other tests watch: it must itself behave as they are told."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.local.images import SAMPLE_APP


@contextmanager
def running(*arguments: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    command = [sys.executable, str(SAMPLE_APP), "--address=127.0.0.1", "--port=0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()
        try:
            yield f"http://{address}", process
        finally:
            process.kill()


def get(url: str, *, method: str = "GET") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_requests_are_counted_and_timed() -> None:
    with running() as (url, _):
        get(url)
        get(url)
        _, metrics = get(f"{url}/metrics")
    assert 'sample_requests_total{code="200",path="/"} 2.0' in metrics
    assert 'sample_request_duration_seconds_bucket{le="+Inf",path="/"} 2.0' in metrics


def test_the_gauge_is_what_was_set() -> None:
    with running() as (url, _):
        assert get(f"{url}/set?value=42.5", method="POST")[0] == 200
        assert "sample_temperature 42.5\n" in get(f"{url}/metrics")[1]
        assert get(f"{url}/set?value=warm", method="POST")[0] == 400


def test_readiness_follows_what_was_asked() -> None:
    with running() as (url, _):
        assert get(f"{url}/ready")[0] == 200
        get(f"{url}/ready?value=0", method="POST")
        assert get(f"{url}/ready")[0] == 503


def test_it_serves_on_after_being_told_to_end_and_then_ends() -> None:
    with running("--linger=0.6") as (url, process):
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while get(f"{url}/ready")[0] == 200:
            pass
        assert "sample_temperature" in get(f"{url}/metrics")[1]
        assert process.wait(5) == 0
        assert time.monotonic() - began >= 0.6
