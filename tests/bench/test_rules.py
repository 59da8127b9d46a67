"""The benchmark of rules runs to its end, and compares only what did the same work."""

import json
import re
from dataclasses import replace

import pytest

from bellbuoy.rules import BrokenRule, load_groups
from bench.errors import BenchmarkError
from bench.rules import RULES, Cost, compare, ratios, rule_file, table
from tests.bench.running import run
from tests.peers.programs import program

TINY = ("--rules=20", "--targets=4", "--scrapes=10", "--scrape-interval=1", "--warm-up=2", "--interval=1")
COST = Cost("bellbuoy", (0.5, 1.5, 1.0), 0.5, 100.0, 1000.0)


@pytest.mark.peers
async def test_a_run_ends_in_a_table_and_a_line_of_ratios() -> None:
    peer = f"--peer={program('prometheus')}"
    for _ in range(3):
        code, out, said = await run("bench.rules", *TINY, "--evaluations=1", "--turns=1", peer)
        # Beside other tests a server may be starved of the processor; that is refused, as it should be.
        if "cannot compare" not in said:
            break
    assert code == 0, said
    lines = out.splitlines()
    assert [line[:16].strip() for line in lines[2:-1]] == ["bellbuoy", "nothing shared", "prometheus"]
    assert re.fullmatch(r"ratios:( \w+=\d+\.\d{3}){3}", lines[-1])


def test_rules_are_made_of_metrics_and_can_all_be_used() -> None:
    text = rule_file(["a", "b"], count=15, interval_seconds=20)
    (group,) = load_groups({"r": text}, interval_seconds=1)
    assert (len(group.rules), group.interval_seconds) == (15, 20)
    assert [rule for rule in group.rules if isinstance(rule, BrokenRule)] == []
    assert len({json.dumps(rule) for rule in json.loads(text)["groups"][0]["rules"]}) == 15
    assert len(RULES) == 10


def test_what_did_not_do_the_same_work_is_not_compared() -> None:
    compare(COST, replace(COST, recorded=104.0))
    for other in (replace(COST, recorded=90.0), replace(COST, counted=500.0)):
        with pytest.raises(BenchmarkError, match="cannot compare"):
            compare(COST, other)
    with pytest.raises(BenchmarkError):
        compare(replace(COST, recorded=0.0), replace(COST, recorded=0.0))


def test_turns_are_put_together_and_ratios_are_ours_over_theirs() -> None:
    both = COST.with_another(replace(COST, durations=(3.0,), processor_seconds=2.5))
    assert (both.durations, both.processor_seconds, both.seconds) == ((0.5, 1.5, 1.0, 3.0), 1.0, 1.25)
    slow = replace(COST, name="prometheus", durations=(10.0,), processor_seconds=5.0)
    assert ratios([COST, replace(COST, processor_seconds=1.0), slow]) == (
        "ratios: rules=0.100 rules_cpu=0.100 rules_shared=0.500"
    )
    assert "prometheus                  10.000" in table([COST, slow])
