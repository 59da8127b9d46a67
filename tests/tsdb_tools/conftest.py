"""A filled data folder, once a run: exports leave it as it is."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from bellbuoy import cli
from bellbuoy.tsdb_tools import options
from bellbuoy.tsdb_tools.commands import perform
from tests.tsdb_tools import data


@dataclass(frozen=True)
class Folder:
    """A data folder, with the times of its first and last samples, and what it holds."""

    path: Path
    start: int
    end: int
    samples: data.Samples


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("tsdb") / "data"
    start, end = data.fill(path)
    return Folder(path, start, end, data.read(path))


def tsdb(*words: str | Path) -> None:
    """What `bellbuoy tsdb WORDS` does, without signals."""
    perform(options(cli.parser("tsdb").parse_args(["tsdb", *map(str, words)])))
