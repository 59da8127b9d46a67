"""How many of Prometheus's own cases pass, file by file: a floor that only rises.

`python -m tests.conformance.test_cases` raises it to what passes now.
"""

import json
from pathlib import Path

import pytest

from tests.conformance.run import CASES, run_file

FLOOR = Path(__file__).parent / "floor.json"
FILES = sorted(CASES.glob("*.test"))


@pytest.mark.parametrize("storage", ["memory", "core"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_as_many_cases_pass_as_ever_did(path: Path, storage: str) -> None:
    floor = json.loads(FLOOR.read_text())
    tally = run_file(path, storage=storage)
    assert tally.passed >= floor[path.stem], "\n".join(tally.failures)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_has_a_floor(path: Path) -> None:
    assert path.stem in json.loads(FLOOR.read_text())


if __name__ == "__main__":
    known = json.loads(FLOOR.read_text()) if FLOOR.exists() else {}
    raised = {path.stem: max(known.get(path.stem, 0), run_file(path).passed) for path in FILES}
    FLOOR.write_text(json.dumps(raised, indent=2) + "\n")
