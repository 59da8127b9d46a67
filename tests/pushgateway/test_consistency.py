"""A push that would make a scrape fail is refused, and only its own group is marked."""

from bellbuoy.pushgateway.store import Store
from tests.pushgateway.conftest import Start


async def test_a_refused_push_changes_nothing_but_its_failure_time(start: Start) -> None:
    async with start() as gateway:
        await gateway.put("job/a", "# TYPE m gauge\nm 1\n")
        for body, reason in (
            ("# TYPE m counter\nm 2\n", "metric m is a counter here and a gauge elsewhere"),
            ("m 2 1700000000000\n", "has timestamps"),
            ('n{job="x"} 1\nn{job="y"} 2\n', "is there twice"),
            ("# TYPE h histogram\nh 1\n", "must end in _bucket, _sum, _count"),
            ("# TYPE h histogram\nh_bucket 1\n", 'needs a number in label "le"'),
            ('# TYPE s summary\ns{quantile="x"} 1\n', 'needs a number in label "quantile"'),
            ("# TYPE m histogram\nm_count 1\nm_sum 1\n", "metric m is a histogram here"),
        ):
            status, text = await gateway.put("job/b", body)
            assert (status, reason in text) == (400, True), text
        assert await gateway.lines("m{") == ['m{instance="",job="a"} 1']
        (time,) = await gateway.lines('push_time_seconds{instance="",job="b"}')
        assert time.endswith(" 0")
        (failed,) = await gateway.lines('push_failure_time_seconds{instance="",job="b"}')
        assert not failed.endswith(" 0")


async def test_a_groups_own_metric_may_change_its_type(start: Start) -> None:
    async with start() as gateway:
        await gateway.put("job/a", "# TYPE m gauge\nm 1\n")
        assert await gateway.put("job/a", "# TYPE m counter\nm 2\n") == (200, "")


async def test_two_groups_cannot_have_one_series(start: Start) -> None:
    async with start() as gateway:
        assert (await gateway.put("job/a", 'm{zone="eu"} 1\n'))[0] == 200
        assert (await gateway.put("job/a/zone/us", "m 1\n"))[0] == 200
        status, text = await gateway.put("job/a/zone/eu", "m 2\n")
        assert (status, "is in group {'job': 'a'} already" in text) == (400, True)
        assert (await gateway.put("job/a/instance@base64/=", 'm{zone="eu"} 2\n'))[0] == 400


async def test_lines_of_a_histogram_are_no_other_metric(start: Start) -> None:
    async with start() as gateway:
        await gateway.put("job/a", "# TYPE s summary\ns_sum 1\ns_count 1\n")
        assert (await gateway.put("job/b", "s_count 1\n"))[0] == 400
        assert (await gateway.put("job/b", "x_sum 1\n"))[0] == 200
        assert (await gateway.put("job/c", "# TYPE x histogram\nx_sum 1\nx_count 1\n"))[0] == 400


async def test_limits_of_body_groups_and_series(start: Start) -> None:
    async with start(body_limit_bytes=100, group_limit=2, series_limit=3) as gateway:
        assert (await gateway.put("job/a", "a 1\n" + "#" * 100 + "\n"))[0] == 413
        assert (await gateway.put("job/a", "a 1\nb 1\n"))[0] == 200
        assert (await gateway.put("job/b", "a 1\n"))[0] == 200
        status, text = await gateway.put("job/c", "a 1\n")
        assert (status, "raise --limit.groups" in text) == (429, True)
        status, text = await gateway.put("job/b", "a 1\nb 1\n")
        assert (status, "raise --limit.series" in text) == (429, True)
        # What is replaced makes room, and a deleted group as well.
        assert (await gateway.put("job/a", "c 1\nd 1\n"))[0] == 200
        assert (await gateway.send("DELETE", "/metrics/job/a"))[0] == 202
        assert (await gateway.put("job/c", "a 1\nb 1\n"))[0] == 200


def test_groups_expire_after_their_ttl() -> None:
    from bellbuoy.exposition import parse
    from bellbuoy.pushgateway.families import prepare

    now = 1000.0
    store = Store(group_limit=10, series_limit=10, ttl_seconds=60, now=lambda: now)

    def push(job: str) -> None:
        labels = (("job", job),)
        store.push(labels, prepare(parse("m 1\n").values(), labels, pushed_at=now), replace=True)

    push("old")
    now = 1030.0
    push("new")
    now = 1059.9
    assert 'job="old"' in store.page().text()
    now = 1060.0
    assert 'job="old"' not in store.page().text()
    assert store.series == 1
    push("new")
    now = 1119.0
    assert 'job="new"' in store.page().text()
