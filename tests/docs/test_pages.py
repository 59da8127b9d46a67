"""What the pages name exists: links, targets of the Makefile, files, subcommands with their flags."""

import re
import shlex

import pytest

from bellbuoy import cli
from bellbuoy.resources import read_resource
from deploy.local import cli as local_cluster
from tests import slack_server
from tests.docs.pages import DOCS, ROOT, Page, pages

TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FOLDERS = ("agents", "bench", "core", "crds", "deploy", "docs", "examples", "operator", "tests", "ui")


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_link_leads_somewhere(page: Page) -> None:
    broken = []
    for link in page.links():
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors()):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    linked = {link.partition("#")[0] for link in Page(DOCS / "index.md").links()}
    assert sorted(path.name for path in DOCS.glob("*.md") if path.name not in {*linked, "index.md"}) == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_target_of_the_makefile_exists(page: Page) -> None:
    named = set(re.findall(r"`make ([a-z-]+)`", page.text)) | set(
        re.findall(r"^make ([a-z-]+)", page.text, re.MULTILINE)
    )
    assert sorted(named - TARGETS) == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_file_that_is_named_exists(page: Page) -> None:
    named = re.findall(rf"(?<![\w/.~-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)", page.text)
    assert sorted({name for name in named if not (ROOT / name).exists()}) == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_command_of_ours_can_be_typed(page: Page) -> None:
    wrong = []
    for line in page.commands():
        words = shlex.split(line, comments=True)
        if words[:1] != ["bellbuoy"]:
            continue
        flags = {flag for action in cli.parser(words[1])._actions for flag in action.option_strings}
        parts = next(action.choices for action in cli.parser(words[1])._actions if action.dest == "part")
        assert isinstance(parts, dict)
        flags |= {
            flag for one in cli.leaves(parts[words[1]]) for action in one._actions for flag in action.option_strings
        }
        wrong += [word for word in words[2:] if word.startswith("--") and word.partition("=")[0] not in flags]
    assert wrong == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_command_of_the_local_cluster_and_of_the_slack_server_can_be_typed(page: Page) -> None:
    parsers = {"deploy.local": local_cluster.parser(), "tests.slack_server": slack_server.parser()}
    typed = re.findall(r"python -m ((?:deploy\.local|tests\.slack_server) [^\n`)']*)", page.text)
    for line in typed:
        module, *words = shlex.split(line, comments=True)
        if "COMMAND" not in words:
            parsers[module].parse_args(words)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_manifest_that_is_shown_is_one(page: Page) -> None:
    for manifest in page.manifests():
        read_resource(manifest)


def test_the_pages_show_manifests() -> None:
    assert len([one for page in pages() for one in page.manifests()]) > 8


def test_the_readme_has_the_commands_to_start_with() -> None:
    commands = "\n".join(Page(ROOT / "README.md").commands())
    for command in ("make demo", "make test", "make setup", "bellbuoy up"):
        assert command in commands
