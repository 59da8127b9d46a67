"""The benchmark of ingestion runs to its end, and compares only what did the same work."""

import re
from dataclasses import replace

import pytest

from bench.errors import BenchmarkError
from bench.ingest import FORMS, Contents, Cost, compare, growth, ratios, table
from bench.programs import PROMETHEUS
from bench.replay import Targets
from bench.servers import OURS, Kind
from tests.bench.running import run
from tests.peers.programs import program

TINY = ("--targets=4", "--scrapes=10", "--warm-up=0", "--seconds=3", "--no-victoria")
# Building the pinned Prometheus takes a quarter of an hour: it is compared with where it was built before.
PEERS = ["Debian's", *(["the pinned one"] if PROMETHEUS.is_built() else [])]
PEER = Kind("prometheus", "", "", ())


@pytest.mark.peers
@pytest.mark.parametrize("peer", PEERS)
async def test_a_run_ends_in_a_table_and_a_line_of_ratios(peer: str) -> None:
    # Debian's has no setting to ask for plain bodies.
    pinned = peer == "the pinned one"
    forms = ["features", "churn"] if pinned else ["gzip"]
    more = [*(f"--form={form}" for form in forms), *([] if pinned else [f"--peer={program('prometheus')}"])]
    for _ in range(3):
        code, out, said = await run("bench.ingest", *TINY, *more)
        # Beside other tests a server may be starved of the processor; that is refused, as it should be.
        if "cannot compare" not in said:
            break
    assert code == 0, said
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[2:-1]] == [
        [name, form] for form in forms for name in ("bellbuoy", "prometheus")
    ]
    assert re.fullmatch(r"ratios:( \w+=\d+\.\d{3})+", lines[-1])
    names = [pair.partition("=")[0] for pair in lines[-1].split()[1:]]
    assert names == [*(f"ingest_cpu_{form}" for form in forms), "rss"]


async def test_a_peer_that_is_not_there_is_said() -> None:
    code, out, said = await run("bench.ingest", *TINY, "--form=gzip", "--peer=/nowhere/prometheus")
    assert (code, out) == (1, "")
    assert "cannot start /nowhere/prometheus: No such file or directory" in said
    assert "Traceback" not in said


def cost(kind: Kind, form: str, *, processor_seconds: float = 1.0, mib: float = 100.0, samples: int = 1000) -> Cost:
    return Cost(kind, form, 60.0, samples, processor_seconds, mib * 2**20, 2**20, samples)


def test_ratios_are_ours_over_theirs_and_memory_is_the_worse_form() -> None:
    plain = cost(OURS, "plain", processor_seconds=0.25, mib=50), cost(PEER, "plain")
    gzip = cost(OURS, "gzip", mib=30, samples=2000), cost(PEER, "gzip", processor_seconds=2.0)
    assert ratios([plain, gzip]) == "ratios: ingest_cpu_plain=0.250 ingest_cpu_gzip=0.250 rss=0.500"
    features = cost(OURS, "features", mib=500), cost(PEER, "features")
    assert ratios([plain, features]).endswith("ingest_cpu_features=1.000 rss=0.500")
    assert growth("ours", [10, 20], [plain[0], gzip[0]]) == (
        "ours, processor a sample: 10 series 250.000 µs, 20 series 500.000 µs: +100%"
    )
    assert len({form.name for form in FORMS}) == 5
    head, first, *_ = table([*plain, *gzip]).splitlines()
    assert " ".join(head.split()) == "server form samples/s µs a sample RSS MiB disk MiB bytes a sample"
    assert first.split() == ["bellbuoy", "plain", "17", "250.000", "50", "1.0", "1048.58"]


def test_servers_that_did_not_do_the_same_are_not_compared() -> None:
    ours, theirs = cost(OURS, "plain"), cost(PEER, "plain")
    same, targets = Contents(series=400, scraped=990, up=4), Targets(4, 1)
    compare((ours, theirs), (same, same), targets)
    compare((replace(ours, samples=960), theirs), (same, same), targets)
    for costs, contents, words in (
        ((replace(ours, samples=940), theirs), (same, same), "samples appended 16 and 17"),
        ((ours, theirs), (same, replace(same, series=300)), "series 400 and 300"),
        ((ours, theirs), (replace(same, scraped=1100), same), "samples scraped 1,100 and 990"),
        ((ours, theirs), (replace(same, up=3), replace(same, up=3)), "not all are up"),
    ):
        with pytest.raises(BenchmarkError, match=words):
            compare(costs, contents, targets)
    # A window of three seconds may miss one of three scrapes.
    short = replace(ours, seconds=3.0, samples=700), replace(theirs, seconds=3.0)
    compare(short, (same, same), targets)
