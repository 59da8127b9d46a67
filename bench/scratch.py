"""The folder of a run: there while it runs, and gone afterwards unless it is to be kept.

Programs that are measured must not outlive a run, so one that is told to end does so by an exception, and whoever
started them ends them on its way out.
"""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(prefix: str = "bellbuoy-bench-", *, keep: bool = False, within: Path | None = None) -> Iterator[Path]:
    """A new folder, by default below the system's; one that is kept is told of on standard error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
