"""What is published has a hash of its content, and whoever waits for a change is woken by one, and by nothing else."""

import asyncio

from bellbuoy_operator.publishing import Publication, Publications

KEY = ("shop", "main")


def test_the_hash_is_of_content_and_not_of_order() -> None:
    one, two = Publication.of({"a": b"1", "b": b"2"}), Publication.of({"b": b"2", "a": b"1"})
    assert (one.hash, list(one.hashes)) == (two.hash, ["a", "b"])
    assert Publication.of({"a": b"1", "b": b"3"}).hash != one.hash
    assert Publication.of({"a": b"1", "c": b"2"}).hash != one.hash


async def test_who_waits_is_woken_by_a_change_only() -> None:
    publications = Publications()
    assert publications.publish(KEY, {"a": b"1"})
    before = publications.get(KEY)
    assert before is not None
    waiting = asyncio.create_task(publications.wait_for_change(KEY, after=before.hash, seconds=10))
    await asyncio.sleep(0)
    assert not publications.publish(KEY, {"a": b"1"})
    await asyncio.sleep(0)
    assert not waiting.done()
    publications.publish(KEY, {"a": b"2"})
    now = await waiting
    assert now is not None
    assert now.parts == {"a": b"2"}


async def test_who_knows_something_else_is_answered_at_once() -> None:
    publications = Publications()
    publications.publish(KEY, {"a": b"1"})
    assert await publications.wait_for_change(KEY, after="", seconds=10) == publications.get(KEY)
    assert await publications.wait_for_change(("no", "stack"), after="", seconds=10) is None


async def test_a_stack_that_goes_answers_who_waits() -> None:
    publications = Publications()
    publications.publish(KEY, {"a": b"1"})
    known = publications.get(KEY)
    assert known is not None
    waiting = asyncio.create_task(publications.wait_for_change(KEY, after=known.hash, seconds=10))
    await asyncio.sleep(0)
    publications.withdraw(KEY)
    assert await waiting is None
