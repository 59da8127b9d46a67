"""The documentation names every flag, path, field and metric that there is."""

import argparse
import re
from pathlib import Path

import pytest

from bellbuoy.rules.notifier import AlertmanagerConfig
from bellbuoy.rules.template_functions import KNOWN
from bellbuoy.scrape import ScrapeConfig
from bellbuoy.server import add_arguments
from bellbuoy.server.api import EARLY, PREFIX, ROUTES, openapi
from bellbuoy.server.config import GlobalConfig, ServerConfig
from tests.server.conftest import Serve, Target, scrape_config

DOCS = Path(__file__).parents[2] / "docs"
SERVER = (DOCS / "server.md").read_text(encoding="utf-8")
API = (DOCS / "http-api.md").read_text(encoding="utf-8")


def test_every_flag_is_there() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    assert [name for action in parser._actions for name in action.option_strings if f"| `{name}` |" not in SERVER] == []


def test_every_path_is_there() -> None:
    paths = [*(path for path, _, _ in ROUTES), *EARLY]
    assert [path for path in paths if f"| `{PREFIX}{path}` |" not in API] == []


def test_every_parameter_is_there_and_described() -> None:
    named = {name for names in openapi.OF_PATH.values() for name in names}
    assert (named - set(openapi.PARAMETERS), set(openapi.PARAMETERS) - named) == (set(), set())
    assert sorted(name for name in named if f"`{name}`" not in API) == []
    assert sorted(set(openapi.OF_PATH) - {path for path, _, _ in ROUTES}) == []


def test_every_field_is_there() -> None:
    fields = {
        field.alias or name
        for model in (ServerConfig, GlobalConfig, ScrapeConfig, AlertmanagerConfig)
        for name, field in model.model_fields.items()
    }
    assert sorted(name for name in fields - {"api_version"} if f"`{name}`" not in SERVER) == []


def test_every_function_of_templates_is_there() -> None:
    words = set(re.findall(r"\w+", SERVER))
    assert sorted(set(KNOWN) - words) == []


async def test_every_metric_is_there(serve: Serve, target: Target) -> None:
    async with serve(scrape_config(target.address)) as client:
        _, text = await client.request("GET", "/metrics")
        names = set(re.findall(r"^# TYPE (bellbuoy_\w+)", text, re.MULTILINE))
        shown = {name for name in names if not name.startswith(("bellbuoy_storage_", "bellbuoy_scraper_"))}
        assert sorted(name for name in shown if not name.endswith("_created") and f"`{name}`" not in SERVER) == []
        assert len(names) > 20


@pytest.mark.parametrize("name", ["server.md", "http-api.md"])
def test_every_metric_that_is_named_exists(name: str) -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in (DOCS.parent / "agents" / "bellbuoy").rglob("*.py")
        if "static" not in path.parts
    )
    named = set(re.findall(r"`(bellbuoy_\w+[a-z])`", (DOCS / name).read_text(encoding="utf-8")))
    assert sorted(one for one in named if one.removesuffix("_total") not in source) == []
