"""`python -m tests.kill --rounds 200 --seed 1`: kills a writer so many times, and says what it did."""

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.kill.rounds import Rounds
from tests.kill.steps import HOUR_STEPS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: any")
    parser.add_argument(
        "--folder", type=Path, default=None, help="keep the data here; default: a folder that is removed at the end"
    )
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        began = time.monotonic()
        rounds = Rounds(chosen.folder or Path(scratch), seed)
        for number in range(1, chosen.rounds + 1):
            rounds.run(longest_seconds=1.0)
            if number % 20 == 0:
                files = [path for path in rounds.data.rglob("*") if path.is_file()]
                size = sum(path.stat().st_size for path in files)
                days = rounds.ledger.flushed / HOUR_STEPS / 24
                print(f"{time.monotonic() - began:.0f} s: {rounds.figures}")
                print(f"  {rounds.ledger.acknowledged} samples of {days:.1f} days acknowledged", end="; ")
                print(f"{len(files)} files, {size} bytes", flush=True)


if __name__ == "__main__":
    main()
