"""The same requests to our pushgateway and to the reference: the same answers, and the same metrics afterwards."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from bellbuoy.exposition import go_number, parse, series
from tests.peers.programs import Program, fetch, part, peer

pytestmark = pytest.mark.peers

HISTOGRAM = """# HELP took_seconds How long it took.
# TYPE took_seconds histogram
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="+Inf"} 3
took_seconds_sum 1234567.5
took_seconds_count 3
"""
# Method, path, body: in this order, to both. Each answer's status is compared, and what is kept in the end.
REQUESTS: list[tuple[str, str, str]] = [
    ("PUT", "/metrics/job/a", "one 1\n"),
    ("POST", "/metrics/job/a", 'two{x="1"} 2\n'),
    ("PUT", "/metrics/job/a", "three 3\n"),
    ("POST", "/metrics/job/b/instance/i/zone/eu", HISTOGRAM),
    ("PUT", "/metrics/job@base64/YS9i", "one 4\n"),
    ("PUT", "/metrics/job/a/path@base64/L3Zhci90bXA", "one 5\n"),
    ("PUT", "/metrics/job/a/empty@base64/=", "one 6\n"),
    ("PUT", "/metrics/job/c", 'one{job="other",instance="mine"} 7\n'),
    ("PUT", "/metrics/job/sp%20ace/q/a%22b", "one 8\n"),
    ("PUT", "/metrics/job/d", "# TYPE one counter\none 1\n"),  # another type than elsewhere
    ("PUT", "/metrics/job/e", "one 1 1700000000000\n"),  # a timestamp
    ("PUT", "/metrics/job/f", 'one{job="1"} 1\none{job="2"} 2\n'),  # the same once they have the group's job
    ("PUT", "/metrics/job/g", "not a metric line at all\n"),
    ("PUT", "/metrics/job/h", "no_line_feed 1"),
    ("PUT", "/metrics/job/i/odd", "one 1\n"),
    ("PUT", "/metrics/job/j/__reserved/x", "one 1\n"),
    ("PUT", "/metrics/job/k/bad-name/x", "one 1\n"),
    ("PUT", "/metrics/job@base64/!!", "one 1\n"),
    ("POST", "/metrics/job/l", ""),
    ("PUT", "/metrics/job/m", 'one{instance="",zone="eu"} 1\n'),
    ("PUT", "/metrics/job/m/zone/eu", "one 2\n"),  # the series of another group
    ("PUT", "/metrics/job/n", '# TYPE s summary\ns{quantile="0.5"} 2\ns_sum 4\ns_count 2\n'),
    ("PUT", "/metrics/job/o", "s_count 1\n"),  # a line of another group's summary
    ("PUT", "/metrics/job/p", "push_time_seconds 1\nfine 1\n"),
    ("PUT", "/metrics/job/q", "nan NaN\nplus +Inf\nminus -Inf\nsmall 1e-9\n"),
    ("PUT", "/metrics/job/r", "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1\n"),
    ("PUT", "/metrics/job/gone", "one 1\n"),
    ("DELETE", "/metrics/job/gone", ""),
    ("DELETE", "/metrics/job/never-was", ""),
    ("DELETE", "/metrics/job/a/odd", ""),
    ("PUT", "/-/quit", ""),
    ("PUT", "/api/v1/admin/wipe", ""),
]


async def send(to: Program) -> list[int]:
    statuses = []
    async with aiohttp.ClientSession() as session:
        for method, path, body in REQUESTS:
            async with session.request(method, URL(to.url + path, encoded=True), data=body.encode()) as response:
                statuses.append(response.status)
    return statuses


def pushed(text: str) -> dict[str, str]:
    """Every series that has a job, and its value; of the times of pushes only whether there was one."""
    out = {}
    for family in parse(text).values():
        for sample in family.samples:
            if "job" in dict(sample.labels):
                value = go_number(sample.value)
                if family.name in ("push_time_seconds", "push_failure_time_seconds"):
                    value = "never" if sample.value == 0 else "some time"
                out[f"{family.type} {series(sample.name, sample.labels)}"] = value
    return out


async def test_statuses_and_metrics_are_the_references(tmp_path: Path) -> None:
    async with (
        part("pushgateway", folder=tmp_path) as ours,
        peer("prometheus-pushgateway", folder=tmp_path) as reference,
    ):
        mine, theirs = await asyncio.gather(send(ours), send(reference))
        differing = [
            (request, own, other) for request, own, other in zip(REQUESTS, mine, theirs, strict=True) if own != other
        ]
        assert differing == []
        assert pushed(await fetch(ours.url + "/metrics")) == pushed(await fetch(reference.url + "/metrics"))
