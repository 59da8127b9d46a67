"""The process that is killed: it appends on one thread and keeps house on another, and says so on its output.

A line each: `opened`; `begin FIRST LAST`, `refused STEP WRITER` of a row that came too late, `flushed FIRST LAST`;
`delete NUMBER FROM TO`, `deleted`; `snapshot PATH`, `snapped`; and of what has nothing to do with samples its name
before and after: `compact`, `compacted N` and so on. A line is one write: it is in the pipe, whole, before what it says
begins.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

from bellbuoy._core import Storage
from tests.kill.steps import HOUR_STEPS, START_MS, STEP_MS, WIDTHS, label_sets, loose, row, values

DELETED_AFTER_STEPS = 12 * HOUR_STEPS
"""No sample of a series that may be deleted comes so late."""


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class KeepingHouse(threading.Thread):
    """Does now and then, in any order, what a server does in the background or is asked by its admin API."""

    def __init__(self, storage: Storage, folder: Path, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._storage, self._folder, self._chance = storage, folder, chance
        self.step = 0

    def run(self) -> None:
        tasks = (
            self._compact,
            self._compact,
            self._compact,
            self._tidy,
            self._seal,
            self._delete,
            self._clean,
            self._snapshot,
        )
        while True:
            time.sleep(self._chance.choice((0, 0.005, 0.05)))
            self._chance.choice(tasks)()

    def _compact(self) -> None:
        everything = self._chance.random() < 0.05
        say("compact", int(everything))
        say("compacted", self._storage.compact(everything=everything))

    def _tidy(self) -> None:
        say("tidy")
        self._storage.tidy()
        say("tidied")

    def _seal(self) -> None:
        say("seal")
        self._storage.seal()
        say("sealed")

    def _delete(self) -> None:
        until = self.step - DELETED_AFTER_STEPS
        if until <= 0:
            return
        start = START_MS + self._chance.randrange(max(0, until - 40 * HOUR_STEPS), until) * STEP_MS
        end = min(start + self._chance.randrange(20 * HOUR_STEPS) * STEP_MS, START_MS + until * STEP_MS)
        number = self._chance.randrange(7)
        say("delete", number, start, end)
        self._storage.delete([[("__name__", "=", f"m{number}"), ("deletable", "=", "0")]], start, end)
        say("deleted")

    def _clean(self) -> None:
        say("clean")
        say("cleaned", self._storage.clean())

    def _snapshot(self) -> None:
        path = self._folder / "snapshots" / f"{time.time_ns()}"
        say("snapshot", path)
        self._storage.snapshot(str(path))
        say("snapped", path)


def write(folder: Path, first: int, kept_from_ms: int, seed: str) -> None:
    """Go on with this step, for as long as it is let."""
    chance = random.Random(seed)
    say("opening")
    storage = Storage(
        str(folder / "data"),
        retention_seconds=time.time() - kept_from_ms / 1000,
        commit_seconds=0.02,
        chunk_rows=chance.choice((8, 16, 48)),
    )
    losses = storage.losses()
    say("opened")
    if losses:
        say("lost", *losses)
    writers = [storage.writer(f"writer {number}") for number in range(len(WIDTHS))]
    house = KeepingHouse(storage, folder, random.Random(f"{seed} house"))
    house.step = first
    house.start()
    while True:
        last = first + chance.randrange(10)
        say("begin", first, last)
        for step in range(first, last + 1):
            for number, writer in enumerate(writers):
                of = row(step, number)
                if of is None or not len(of.series):
                    continue
                if not writer.append(START_MS + step * STEP_MS + number, label_sets(of.series), values(of)):
                    say("refused", step, number)
            of = loose(step)
            if len(of.series):
                storage.append(label_sets(of.series), of.times, values(of))
        storage.flush()
        say("flushed", first, last)
        first = house.step = last + 1
        error = storage.last_error()
        if error is not None:
            say("failed", error)


if __name__ == "__main__":
    _, the_folder, the_first, the_kept_from, the_seed = sys.argv
    write(Path(the_folder), int(the_first), int(the_kept_from), the_seed)
