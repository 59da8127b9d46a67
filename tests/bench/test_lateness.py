"""How late scrapes are is reckoned by their grid."""

import pytest

from bench.lateness import lateness


@pytest.mark.parametrize(
    ("arrivals", "late", "missing"),
    [
        ([], [], 0),
        ([5.0], [0], 0),
        ([5.25, 6.25, 7.5, 8.25], [0, 0, 0.25, 0], 0),
        ([5.5, 6.25, 7.25], [0.25, 0, 0], 0),
        ([5.0, 6.0, 9.125], [0, 0, 0.125], 2),
        ([5.0, 6.0, 6.125], [0, 0, 0.125], 0),
    ],
)
def test_lateness_is_what_is_over_the_earliest(arrivals: list[float], late: list[float], missing: int) -> None:
    assert lateness(arrivals, 1.0) == (late, missing)
