"""Some rounds of what `make kill` does at length."""

from pathlib import Path

from tests.kill.rounds import Rounds


def test_what_was_acknowledged_survives_kills_at_random_moments_and_nothing_is_invented(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, seed=7)
    for _ in range(12):
        rounds.run(longest_seconds=0.4)
    assert rounds.ledger.acknowledged > 1000
    assert rounds.figures.done["compacted"] > 3
