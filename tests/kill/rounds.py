"""Rounds of writing, killing and checking, on one folder that lives through all of them."""

import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bellbuoy._core import Storage
from tests.kill.ledger import Ledger
from tests.kill.steps import HOUR_STEPS, START_MS, STEP_MS

KEPT_STEPS = 4 * 24 * HOUR_STEPS
CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60
# A kill may come between two pages of one write: the log then ends in a part of a frame, which nobody was promised.
UNFINISHED = re.compile(r"\.wal: \d+ bytes were damaged, 0 records could not be used;")
PAIRS = {
    "opening": "opened",
    "begin": "flushed",
    "compact": "compacted",
    "tidy": "tidied",
    "seal": "sealed",
    "delete": "deleted",
    "clean": "cleaned",
    "snapshot": "snapped",
}
"""What a writer says before, and what after."""


@dataclass
class Figures:
    rounds: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """What was finished, by what it is said by."""
    cut: Counter[str] = field(default_factory=Counter)
    """What a kill fell into."""
    blocks: int = 0
    checked: int = 0
    """Samples that were looked at, over all rounds."""
    snapshots: int = 0

    def __str__(self) -> str:
        done = ", ".join(f"{count} {word}" for word, count in sorted(self.done.items()))
        cut = ", ".join(f"{count} in {word}" for word, count in sorted(self.cut.items()))
        return (
            f"{self.rounds} rounds; {self.checked} looked at; {self.blocks} blocks written; "
            f"{self.snapshots} snapshots looked at\n  {done}\n  kills: {cut}"
        )


class Rounds:
    """One folder, and what must be in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._chance = random.Random(seed)
        self.ledger = Ledger()
        self.figures = Figures()

    @property
    def data(self) -> Path:
        return self._folder / "data"

    def run(self, *, longest_seconds: float) -> None:
        """One round: write, for at most so long, kill, check."""
        chance, ledger = self._chance, self.ledger
        # One that got no answer tries again; another has moved on.
        first = (ledger.flushed if chance.random() < 0.5 else ledger.begun) + 1
        kept_from = START_MS + (first - KEPT_STEPS) * STEP_MS
        # The clock goes on while the writer writes.
        ledger.let_go(kept_from + 2 * STEP_MS)
        self._write_until_killed(first, kept_from, longest_seconds)
        storage = Storage(str(self.data), retention_seconds=3e9, commit_seconds=3600)
        losses = [loss for loss in storage.losses() if not UNFINISHED.search(loss)]
        assert losses == [], losses
        ledger.check(storage)
        storage.close()
        self.figures.checked += len(ledger.must)
        self.figures.snapshots += min(1, ledger.check_snapshots())
        shutil.rmtree(self._folder / "snapshots", ignore_errors=True)
        self.figures.rounds += 1

    def _write_until_killed(self, first: int, kept_from: int, longest_seconds: float) -> None:
        chance = self._chance
        seed = f"{self._seed} {self.figures.rounds}"
        command = [sys.executable, "-m", "tests.kill.writer", str(self._folder), str(first), str(kept_from), seed]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT)
        # At any moment; or just after something has begun, for most things take little of the time.
        awaited = chance.choice(
            ("opening", "opened", "opened", "compact", "compact", "tidy", "delete", "clean", "snapshot")
        )
        times = chance.randrange(1, 4) if awaited in PAIRS and awaited != "opening" else 1
        delay = chance.uniform(0, longest_seconds) if awaited == "opened" else chance.uniform(0, 0.01)
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        text, heard, under_way = b"", 0, Counter[str]()
        end = started = time.monotonic()
        end += DEADLINE_SECONDS
        killed = False
        while True:
            left = end - time.monotonic()
            if not killed and (left <= 0 or not select.select([pipe], [], [], left)[0]):
                assert time.monotonic() - started < DEADLINE_SECONDS, f"the writer did not say {awaited}"
                os.kill(process.pid, signal.SIGKILL)
                killed = True
            more = os.read(pipe, 1 << 16)
            if not more:
                break
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                words = line.decode().split(" ")
                self.ledger.hear(words)
                self._count(words, under_way)
                if words[0] == awaited:
                    heard += 1
                    if heard == times:
                        end = time.monotonic() + delay
                elif words[0] == "opened":
                    # What is awaited may not come.
                    end = min(end, time.monotonic() + 2 * longest_seconds)
        assert not text
        assert process.wait() == -signal.SIGKILL, "the writer ended by itself"
        process.stdout.close()
        self.figures.cut.update(+under_way)

    def _count(self, words: list[str], under_way: Counter[str]) -> None:
        if words[0] in PAIRS:
            under_way[words[0]] += 1
        for before, after in PAIRS.items():
            if words[0] == after:
                under_way[before] -= 1
                self.figures.done[after] += 1
        if words[0] in ("compacted", "cleaned"):
            self.figures.blocks += int(words[1])
