"""The soak's own arithmetic, and that it starts what it needs."""

from collections.abc import Iterable

from bench.soak import Reading, growth


def readings(minutes: Iterable[list[int]]) -> list[Reading]:
    return [Reading(60.0 * i, resident=one, disk=0, numbers={}) for i, one in enumerate(minutes)]


def test_growth_is_that_of_the_line_through_all_readings() -> None:
    def check(sizes: list[int], want: float) -> None:
        assert abs(growth(readings([size] for size in sizes)) - want) < 1e-9, sizes

    check([100, 100, 100, 100], 0.0)
    check([90, 100, 110], 0.2)
    check([110, 100, 90], -0.2)
    # What goes up and comes down again has not grown.
    check([100, 300, 100], 0.0)


def test_when_in_a_minute_queries_take_memory_does_not_matter() -> None:
    def check(minutes: list[list[int]]) -> None:
        assert growth(readings(minutes)) == 0.0, minutes

    busy, idle = [900] * 10, [100] * 10
    check([busy + idle + idle, idle + busy + idle, idle + idle + busy])
    # Nor does how much the greatest takes, or one look just after memory was given back.
    check([[200, *idle], [500, *idle], [1, 900, *idle]])


def test_what_stays_a_little_longer_each_minute_has_grown() -> None:
    busy = [100, 100, 150, 400]
    assert growth(readings([size + 2 * minute for size in busy] for minute in range(15))) > 0.2
