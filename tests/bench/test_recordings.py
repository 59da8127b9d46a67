"""The recordings are what docs/benchmarks.md says: real scrapes, a second apart, of so many series."""

import itertools
import json
import lzma
import re
from pathlib import Path

import pytest

from bellbuoy._core import read_exposition
from bellbuoy.exposition import parse
from bench.errors import BenchmarkError
from bench.replay import RECORDINGS, Targets, scrapes, shaped
from tests.core.formats import OPENMETRICS

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
    plain = {"enable_compression": False}
    jobs = {one["job_name"]: one for one in Targets(502, 80).scrape_configs(plain=plain)}
    addresses = {name: one["static_configs"][0]["targets"] for name, one in jobs.items()}
    assert {name: len(found) for name, found in addresses.items()} == {"node": 251, "app": 126, "ksm": 125}
    assert len({address for found in addresses.values() for address in found}) == 502
    assert addresses["node"][0] == "127.0.1.1:80"
    assert "127.0.3.2:80" in addresses["app"]
    assert all(one["enable_compression"] is False for one in jobs.values())


def test_a_body_can_be_cut_and_be_openmetrics() -> None:
    body = b'# TYPE a untyped\na 1\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_count 2\n'
    assert shaped(body, series=None, openmetrics=False) == body
    assert shaped(body, series=1, openmetrics=False) == b"# TYPE a untyped\na 1\n# TYPE h histogram\n"
    first, other = (shaped(body.replace(b"} 2", b"} %d" % n), series=None, openmetrics=True) for n in (2, 3))
    bucket = rb'h_bucket\{le="1"\} 2 # \{trace_id="[0-9a-f]{16}"\} 0\.25'
    want = [b"# TYPE a unknown", b"a 1", b"# TYPE h histogram", bucket, b"h_count 2", b"# EOF", b""]
    assert re.fullmatch(b"\n".join(want), first)
    assert first.split(b"trace_id")[1] != other.split(b"trace_id")[1]
    assert read_exposition(first, OPENMETRICS)[1][3] is not None


def test_one_pod_of_thirty_five_is_replaced_with_each_turn(tmp_path: Path) -> None:
    targets = Targets(100, 80)
    seen = []
    for turn in range(72):
        targets.write_pods(tmp_path, turn)
        found = [group for path in sorted(tmp_path.glob("*.json")) for group in json.loads(path.read_text())]
        assert len({group["targets"][0] for group in found}) == 100
        seen.append({group["targets"][0]: group["labels"]["pod"] for group in found})
    for before, after in itertools.pairwise(seen):
        assert sum(before[one] != after[one] for one in before) in (2, 3)
    assert all(len({pods[one] for pods in seen}) in (3, 4) for one in seen[0])
    (one, *_) = targets.scrape_configs(plain={}, pods=tmp_path)
    assert one["file_sd_configs"][0]["files"] == [str(tmp_path / "node.json")]
