"""How far work on a folder is: a line on standard error now and then, and the word to stop.

Work asks `done` between its pieces; that is where it ends if it was told to.
"""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from bellbuoy.archive.errors import InterruptedByUserError

# Seldom enough not to fill a log, often enough to see that it goes on.
LINE_SECONDS = 2.0


class Progress:
    """Counts samples, and tells."""

    def __init__(
        self,
        verb: str,
        *,
        stopped: Callable[[], bool] = lambda: False,
        cure: str = "start it again",
        out: TextIO | None = None,
    ) -> None:
        self._verb, self._stopped, self._cure = verb, stopped, cure
        self._out = out or sys.stderr
        self._began = self._told = time.monotonic()
        self.samples = 0

    def done(self, samples: int, place: str) -> None:
        """So many more samples; `place` is where the work is. Raises InterruptedByUserError."""
        self.samples += samples
        if self._stopped():
            raise InterruptedByUserError(
                f"cannot finish: it was told to stop at {place}, after {self.samples:,} samples; {self._cure}"
            )
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            self.say(f"{self.samples:,} samples, {place}, {now - self._began:.0f} s")

    def end(self, what: str) -> None:
        """The last line."""
        self.say(f"done: {self.samples:,} samples, {what}, {time.monotonic() - self._began:.1f} s")

    def say(self, text: str) -> None:
        """A line of its own."""
        print(f"{self._verb}: {text}", file=self._out, flush=True)


class Steps:
    """The same for work that goes file by file."""

    def __init__(self, verb: str, stopped: Callable[[], bool], out: TextIO | None = None) -> None:
        self._verb, self._stopped, self._out = verb, stopped, out or sys.stderr
        self._told = time.monotonic()

    def step(self, what: str, done: int, count: int) -> None:
        """One more is begun. Raises InterruptedByUserError."""
        if self._stopped():
            raise InterruptedByUserError(f"cannot finish: it was told to stop at {what} {done + 1}; start it again")
        now = time.monotonic()
        if now - self._told >= LINE_SECONDS:
            self._told = now
            print(f"{self._verb}: {what}, {done + 1} of {count} files", file=self._out, flush=True)
