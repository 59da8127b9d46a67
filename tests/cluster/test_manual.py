"""The manual names every command and every option that there is."""

import argparse

from deploy.local import machine, paths
from deploy.local.cli import parser
from deploy.local.images import PARTS

MANUAL = (paths.CHECKOUT / "docs" / "local-cluster.md").read_text()


def test_every_command_and_option_is_in_the_manual() -> None:
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    missing = []
    for name, command in commands.choices.items():
        if f"`{name}" not in MANUAL and f"`up {name}" not in MANUAL:
            missing.append(name)
        options = [option for action in command._actions for option in action.option_strings]
        missing += [f"{name} {o}" for o in options if o.startswith("--") and o != "--help" and o not in MANUAL]
    assert missing == []


def test_every_package_and_every_image_is_in_the_manual() -> None:
    assert [name for name in (*machine.PACKAGES, *PARTS) if name not in MANUAL] == []


def test_every_part_is_a_target_of_the_containerfile() -> None:
    containerfile = (paths.CHECKOUT / "deploy" / "images" / "Containerfile").read_text()
    assert [part for part in PARTS if f" AS {part}\n" not in containerfile] == []
