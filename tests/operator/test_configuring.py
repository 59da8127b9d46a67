"""What the operator publishes is what our server and alertmanager read; a change of pods remakes what it must."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio import client
from prometheus_client import CollectorRegistry

from bellbuoy.alertmanager.config import load_config
from bellbuoy.resources import MonitoringStack
from bellbuoy.resources.binding import bound_expression
from bellbuoy.server.following import read_parts
from bellbuoy_operator.builders import Images, Settings
from bellbuoy_operator.cluster import Cluster
from bellbuoy_operator.configuring import StackConfiguration
from bellbuoy_operator.world import World
from tests.resources.objects import pod

WEB = {"pods": {"selector": {"matchLabels": {"app": "web"}}}}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    cluster = Cluster(client.Configuration(host="http://127.0.0.1:1"))
    yield World(cluster, CollectorRegistry())
    await cluster.close()


def add(world: World, kind: str, name: str, spec: dict[str, Any]) -> None:
    metadata = {"namespace": "shop", "name": name, "uid": name, "generation": 1, "resourceVersion": "1"}
    world.own.take({"kind": kind, "metadata": metadata, "spec": spec}, gone=False)


def stack_of(world: World) -> MonitoringStack:
    add(world, "MonitoringStack", "main", {})
    found = world.own.entries["MonitoringStack", "shop", "main"].resource
    assert found is not None
    return found


def configuration() -> StackConfiguration:
    return StackConfiguration(settings=Settings(Images(), "https://operator:8443", ""), check=bound_expression)


async def test_our_server_and_alertmanager_read_what_is_published(world: World) -> None:
    stack = stack_of(world)
    add(world, "ScrapeTarget", "web", WEB)
    add(world, "AlertRule", "down", {"expr": "up == 0", "for": "1m", "receivers": ["ops"]})
    add(world, "RecordingRule", "sum", {"record": "job:up:sum", "expr": "sum by (job) (up)"})
    slack = {"webhook": {"name": "slack", "key": "url"}, "channel": "#ops"}
    add(world, "AlertReceiver", "ops", {"slack": slack, "matchers": ['severity="critical"', "team=~web|shop"]})
    add(world, "AlertReceiver", "hook", {"webhook": {"url": "http://hook.example.org/"}})
    world.pods.changed(("shop", "web-1"), None, pod("web-1"))
    parts = configuration().make(stack, world)
    loaded = read_parts({name: body for name, body in parts.items() if name != "alertmanager.yml"})
    assert [one.name for one in loaded.groups] == ["shop.sum", "shop.down"]
    assert loaded.handed is not None
    (group,) = loaded.handed["shop.web"]
    assert group.targets[0]["__address__"] == "10.0.0.1:8080"
    config = load_config(parts["alertmanager.yml"].decode(), name="alertmanager.yml")
    assert [one.name for one in config.receivers] == ["nobody", "shop.hook", "shop.ops"]


async def test_a_change_of_pods_gives_the_same_as_making_it_all_anew(world: World) -> None:
    stack, kept = stack_of(world), configuration()
    add(world, "ScrapeTarget", "web", WEB)
    before = kept.make(stack, world)
    world.pods.changed(("shop", "web-1"), None, pod("web-1"))
    after = kept.remake_targets(stack, world, {"shop"})
    assert after == configuration().make(stack, world)
    assert {name for name in after if after[name] != before[name]} == {"targets/shop.web"}
    world.pods.changed(("other", "x"), None, pod("x", namespace="other"))
    assert kept.remake_targets(stack, world, {"other"}) == after


async def test_a_resource_that_cannot_be_used_does_not_harm_the_others(world: World) -> None:
    stack, made = stack_of(world), configuration()
    add(world, "ScrapeTarget", "web", WEB)
    add(
        world,
        "ScrapeTarget",
        "bad",
        {**WEB, "relabelings": [{"sourceLabels": ["pod"], "regex": "(", "action": "drop"}]},
    )
    add(world, "AlertRule", "bad", {"expr": "sum("})
    add(world, "AlertRule", "wrong", {"expr": "up", "for": "soon"})
    parts = made.make(stack, world)
    assert "targets/shop.web" in parts
    assert "targets/shop.bad" not in parts
    assert b"shop.bad" not in parts["prometheus.yml"]
    assert {key: one.reason for key, one in made.refusals.items()} == {
        ("ScrapeTarget", "shop.bad"): "InvalidRelabeling",
        ("AlertRule", "shop.bad"): "InvalidExpression",
    }
    assert "for: cannot read duration" in world.own.entries["AlertRule", "shop", "wrong"].mistake


async def test_a_pod_that_was_ready_once_is_down_when_it_fails_until_another_takes_its_name(world: World) -> None:
    ready, unready = pod("p"), pod("p", ready=False)
    world.pods.changed(("shop", "p"), None, ready)
    world.pods.changed(("shop", "p"), ready, unready)
    assert world.been_ready == {"uid-p"}
    world.pods.changed(("shop", "p"), unready, None)
    assert world.been_ready == set()
    assert world.pods_of("shop") == []


async def test_an_older_word_about_a_resource_does_not_undo_a_newer_one(world: World) -> None:
    def say(version: int, expr: str, *, gone: bool = False) -> None:
        metadata = {"namespace": "a", "name": "r", "generation": version, "resourceVersion": str(version)}
        world.own.take({"kind": "AlertRule", "metadata": metadata, "spec": {"expr": expr}}, gone=gone)

    key = ("AlertRule", "a", "r")
    say(5, "new")
    say(3, "old")
    assert world.own.entries[key].raw["spec"]["expr"] == "new"
    say(7, "new", gone=True)
    say(6, "late")
    assert key not in world.own.entries
    say(9, "again")
    assert world.own.entries[key].raw["spec"]["expr"] == "again"
