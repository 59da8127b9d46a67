"""A storage, a scraper that fills it, and two exporters, for each test its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bellbuoy._core import Scraper, Storage
from tests.core.scraping import Exporter


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.stop()


@pytest.fixture
def other() -> Iterator[Exporter]:
    one = Exporter()
    yield one
    one.stop()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    one = Storage(str(tmp_path / "data"))
    yield one
    one.close()


@pytest.fixture
def scraper(storage: Storage) -> Iterator[Scraper]:
    one = Scraper(storage)
    yield one
    one.close()
