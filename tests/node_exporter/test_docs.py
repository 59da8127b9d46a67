"""The page in docs/ names every flag."""

import argparse
from pathlib import Path

from bellbuoy import node_exporter
from bellbuoy.node_exporter.options import COLLECTORS

PAGE = Path(__file__).parents[2] / "docs" / "node-exporter.md"


def test_every_flag_is_documented() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    node_exporter.add_arguments(parser)
    text = PAGE.read_text()
    flags = [action.option_strings[0] for action in parser._actions]
    missing = [flag for flag in flags if f"`{flag}`" not in text]
    collectors = [f"--collector.{name}" for name in COLLECTORS if f"| `{name}` |" in text]
    assert sorted(set(missing) - set(collectors)) == []
    assert len(collectors) == len(COLLECTORS)
