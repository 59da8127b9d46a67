"""The page in docs/ names every flag."""

import argparse
import asyncio
from pathlib import Path

from prometheus_client import CollectorRegistry

from bellbuoy import pushgateway
from bellbuoy.pushgateway.service import Pushgateway

PAGE = Path(__file__).parents[2] / "docs" / "pushgateway.md"


def test_every_flag_is_documented() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    pushgateway.add_arguments(parser)
    text = PAGE.read_text()
    flags = [action.option_strings[0] for action in parser._actions]
    missing = [flag for flag in flags if f"`{flag}`" not in text]
    assert missing == []


def test_every_metric_of_its_own_is_documented() -> None:
    registry = CollectorRegistry()
    Pushgateway(pushgateway.Options(), asyncio.Event(), registry=registry)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    text = PAGE.read_text()
    assert [name for name in sorted(names) if not name.endswith("_created") and name not in text] == []
