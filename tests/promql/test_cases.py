"""Cases in Prometheus's test language, a file for each topic: all of them pass, in memory and in the real storage.

What they expect is what Prometheus 3.16 answers.
"""

from pathlib import Path

import pytest

from tests.conformance.run import OWN_CASES, run_file

FILES = sorted(OWN_CASES.glob("*.test"))


@pytest.mark.parametrize("storage", ["memory", "core"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_passes(path: Path, storage: str) -> None:
    tally = run_file(path, storage=storage)
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.evals > 0
