"""Every part, and every flag that its `--help` shows, stands in a page of the documentation."""

import argparse
import re

import pytest

from bellbuoy import cli
from tests.docs.pages import DOCS, Page

# The page of each part; what all parts share is in the page on the command line.
PAGE = {"up": "command-line.md", "tsdb": "storage-tools.md"}
TABLE_OF_COLLECTORS = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


def flags(part: str) -> dict[str, str]:
    """The flags of a part with what `bellbuoy PART --help`, or that of its commands, says of them."""
    parts = next(a for a in cli.parser(part)._actions if isinstance(a, argparse._SubParsersAction))
    actions = [action for one in cli.leaves(parts.choices[part]) for action in one._actions if action.option_strings]
    return {next(o for o in action.option_strings if o.startswith("--")): action.help or "" for action in actions}


@pytest.mark.parametrize("part", cli.PARTS)
def test_every_flag_is_documented(part: str) -> None:
    text = Page(DOCS / PAGE.get(part, f"{part}.md")).text + Page(DOCS / "command-line.md").text
    known = set(re.findall(r"`(--[\w.-]+)`", text))
    if part == "node-exporter":
        known |= {f"--collector.{name}" for name in TABLE_OF_COLLECTORS.findall(text)}
    assert [flag for flag in flags(part) if flag not in known] == []


@pytest.mark.parametrize("part", cli.PARTS)
def test_every_flag_of_ours_says_its_default(part: str) -> None:
    silent = [flag for flag, said in flags(part).items() if not re.search(r"default|required|repeat", said)]
    assert [flag for flag in silent if flag != "--help"] == []


def test_every_part_is_on_the_page_of_the_command_line() -> None:
    text = Page(DOCS / "command-line.md").text
    assert [part for part in cli.PARTS if f"| `bellbuoy {part}` |" not in text] == []
