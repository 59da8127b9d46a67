"""The soak's own arithmetic, and that it starts what it needs."""

from bench.soak import Reading, growth


def test_growth_is_that_of_the_line_through_all_readings() -> None:
    def check(sizes: list[int], want: float) -> None:
        readings = [Reading(60.0 * i, least=size, most=1000, disk=0, numbers={}) for i, size in enumerate(sizes)]
        assert abs(growth(readings) - want) < 1e-9, sizes

    check([100, 100, 100, 100], 0.0)
    check([90, 100, 110], 0.2)
    check([110, 100, 90], -0.2)
    # What goes up and comes down again has not grown.
    check([100, 300, 100], 0.0)
