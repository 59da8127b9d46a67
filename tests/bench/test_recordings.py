"""The recordings are what docs/benchmarks.md says: real scrapes, a second apart, of so many series."""

import itertools
import lzma
from pathlib import Path

import pytest

from bellbuoy.exposition import parse
from bench.errors import BenchmarkError
from bench.replay import RECORDINGS, Targets, scrapes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md").read_text()


@pytest.mark.parametrize(
    ("name", "count", "series", "said"),
    [
        ("node", 812, range(976, 981), "812 scrapes of 976 to 980 series"),
        ("app", 812, range(1000, 1008), "1,007 series"),
        ("ksm", 50, range(1015, 1016), "1,015 series"),
    ],
)
def test_a_recording_is_scrapes_a_second_apart_that_parse(name: str, count: int, series: range, said: str) -> None:
    found = list(scrapes(RECORDINGS / f"{name}.rec.xz"))
    times = [at for at, _ in found]
    assert len(found) == count
    assert all(0.9 < later - earlier < 1.1 for earlier, later in itertools.pairwise(times))
    for _, body in found:
        assert sum(1 for line in body.splitlines() if not line.startswith(b"#")) in series
    for _, body in (found[0], found[count // 2], found[-1]):
        assert sum(len(family.samples) for family in parse(body.decode()).values()) in series
    assert said in PAGE


def test_a_recording_that_is_cut_off_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "cut.rec.xz"
    path.write_bytes(lzma.compress(b"\0" * 8 + (10).to_bytes(4, "little") + b"a 1\n"))
    with pytest.raises(BenchmarkError, match="ends within a body"):
        list(scrapes(path))


def test_each_target_has_an_address_and_half_of_them_are_nodes() -> None:
    jobs = {one["job_name"]: one for one in Targets(502, 80).scrape_configs(compression=False)}
    addresses = {name: one["static_configs"][0]["targets"] for name, one in jobs.items()}
    assert {name: len(found) for name, found in addresses.items()} == {"node": 251, "app": 126, "ksm": 125}
    assert len({address for found in addresses.values() for address in found}) == 502
    assert addresses["node"][0] == "127.0.1.1:80"
    assert "127.0.3.2:80" in addresses["app"]
    assert all(one["enable_compression"] is False for one in jobs.values())
