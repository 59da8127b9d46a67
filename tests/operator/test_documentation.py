"""docs/operator.md has every flag, and every metric with its own words."""

import argparse
from pathlib import Path

import aiohttp
from kubernetes.aio import client
from prometheus_client import CollectorRegistry

from bellbuoy.http import Health
from bellbuoy_operator import Options, add_arguments
from bellbuoy_operator.access import Access
from bellbuoy_operator.builders import Images, Settings
from bellbuoy_operator.cluster import Cluster
from bellbuoy_operator.lease import Leadership
from bellbuoy_operator.running import make_tools
from bellbuoy_operator.service import ConfigService
from bellbuoy_operator.world import World

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operator.md").read_text()


def test_every_flag_is_documented_with_its_default() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    for action in parser._actions:
        (flag,) = action.option_strings
        assert f"| `{flag}` |" in PAGE
        assert action.help is not None
        assert "(default: " in action.help


async def test_every_metric_is_documented() -> None:
    registry, options = CollectorRegistry(), Options()
    cluster = Cluster(client.Configuration(host="http://127.0.0.1:1"))
    world = World(cluster, registry)
    leadership = Leadership(cluster, namespace="a", identity="b")
    async with aiohttp.ClientSession() as session:
        settings = Settings(Images(), "https://x", "")
        tools = make_tools(options, cluster, world, leadership, settings, session, registry)
        service = ConfigService(world, tools.publications, Access(cluster), registry)
        service.application(registry=registry, health=Health())
    await cluster.close()
    for family in registry.collect():
        assert f"| `{family.name}` | {family.documentation} |" in PAGE
