"""Pods become targets: which of them, under which labels, with which flags for our own server."""

from typing import Any

import pytest

from bellbuoy.resources import Node, Pod, PoolTargets, own_pools, scrape_target_pool
from tests.resources.objects import pod, resource, selection

WEB = {"pods": {"selector": {"matchLabels": {"app": "web"}}}}
ALL = {"selects": {"namespaces": {"from": "All"}}}


def targets(spec: dict[str, Any], *pods: Pod, namespace: str = "shop", **more: Any) -> PoolTargets:
    target = resource("ScrapeTarget", "web", spec, namespace=namespace)
    been_ready = more.pop("been_ready", ())
    chosen = selection(target, stack=more.pop("stack", None))
    return scrape_target_pool(
        chosen, target, lambda space: [p for p in pods if p.namespace == space], been_ready=been_ready
    )


def addresses(made: PoolTargets) -> list[str]:
    return [group["targets"][0] for group in made.groups]


def test_a_pod_becomes_a_target_with_its_labels_and_prometheus_meta_labels() -> None:
    (group,) = targets(WEB, pod("web-1")).groups
    assert group["targets"] == ["10.0.0.1:8080"]
    final = {key: value for key, value in group["labels"].items() if not key.startswith("__")}
    assert final == {"namespace": "shop", "pod": "web-1", "container": "app", "node": "node-0", "job": "web"}
    assert group["labels"]["__meta_kubernetes_pod_label_app"] == "web"
    assert group["labels"]["__meta_kubernetes_pod_labelpresent_app"] == "true"
    assert group["labels"]["__meta_kubernetes_pod_container_port_number"] == "8080"
    assert group["labels"]["__meta_kubernetes_pod_ready"] == "true"


def test_only_running_pods_that_the_selector_matches_are_targets() -> None:
    made = targets(
        WEB,
        pod("yes"),
        pod("other", labels={"app": "db"}, ip="10.0.0.2"),
        pod("done", phase="Succeeded", ip="10.0.0.3"),
        pod("waiting", phase="Pending", ip=""),
        pod("elsewhere", namespace="other", ip="10.0.0.5"),
    )
    assert addresses(made) == ["10.0.0.1:8080"]
    assert made.pods == 1


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ({"key": "tier", "operator": "In", "values": ["a", "b"]}, ["1", "2"]),
        ({"key": "tier", "operator": "NotIn", "values": ["a"]}, ["2", "3"]),
        ({"key": "tier", "operator": "Exists"}, ["1", "2"]),
        ({"key": "tier", "operator": "DoesNotExist"}, ["3"]),
    ],
)
def test_expressions_select_as_kubernetes_does(expression: dict[str, Any], names: list[str]) -> None:
    pods = [pod("1", labels={"tier": "a"}), pod("2", labels={"tier": "b"}), pod("3", labels={})]
    made = targets({"pods": {"selector": {"matchExpressions": [expression]}}}, *pods)
    assert sorted(group["labels"]["pod"] for group in made.groups) == names


def test_a_port_is_found_by_name_by_number_and_without_being_declared() -> None:
    def check(port: Any, want: list[str]) -> None:
        made = targets({**WEB, "port": port}, pod("web-1", ports=({"name": "http", "containerPort": 80},)))
        assert addresses(made) == want

    check("http", ["10.0.0.1:80"])
    check("metrics", [])
    check(80, ["10.0.0.1:80"])
    check(9999, ["10.0.0.1:9999"])
    check("9999", ["10.0.0.1:9999"])


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert addresses(targets(WEB, pod("web-1", ip="fd00::1"))) == ["[fd00::1]:8080"]


def test_flags_tell_our_server_what_a_pod_is_about_to_do() -> None:
    def check(one: Pod, want: set[str], been_ready: tuple[str, ...] = ()) -> None:
        (group,) = targets(WEB, one, been_ready=been_ready).groups
        assert {key for key in group["labels"] if key.startswith("__bellbuoy")} == want

    check(pod("p"), set())
    check(pod("p", ready=False), {"__bellbuoy_not_ready__"})
    check(pod("p", ready=False), set(), ("uid-p",))
    check(pod("p", terminating=True), {"__bellbuoy_terminating__"})
    check(pod("p", owner="Job"), {"__bellbuoy_every_second__"})
    check(pod("p", owner="ReplicaSet"), set())


def test_pod_labels_and_fixed_labels_are_copied() -> None:
    one = pod("p", labels={"app": "web", "app.kubernetes.io/version": "1.2"})
    (group,) = targets({**WEB, "podLabels": ["app.kubernetes.io/version", "none"], "labels": {"team": "a"}}, one).groups
    assert group["labels"]["app_kubernetes_io_version"] == "1.2"
    assert group["labels"]["team"] == "a"
    assert "none" not in group["labels"]


def test_relabelings_change_and_drop_targets_and_are_counted() -> None:
    drop = {"sourceLabels": ["pod"], "regex": "b", "action": "drop"}
    copy = {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "host"}
    made = targets({**WEB, "relabelings": [drop, copy]}, pod("a"), pod("b", ip="10.0.0.2"))
    assert [group["labels"]["host"] for group in made.groups] == ["node-0"]
    assert (made.pods, made.matched, made.dropped) == (2, 1, 1)


def test_a_foreign_namespace_cannot_leave_its_namespace_nor_its_pods() -> None:
    escape = [
        {"targetLabel": "namespace", "replacement": "kube-system"},
        {"targetLabel": "__address__", "replacement": "169.254.169.254:80"},
        {"regex": "__meta_kubernetes_pod_label_(.+)", "replacement": "$1", "action": "labelmap"},
    ]
    mine = pod("p", namespace="other", labels={"app": "web", "namespace": "kube-system"})
    (group,) = targets({**WEB, "relabelings": escape}, mine, namespace="other", stack=ALL).groups
    assert group["targets"] == ["10.0.0.1:8080"]
    assert group["labels"]["namespace"] == "other"


def test_the_stacks_own_namespace_is_free() -> None:
    move = [{"targetLabel": "__address__", "replacement": "10.9.9.9:1"}]
    assert addresses(targets({**WEB, "relabelings": move}, pod("p"))) == ["10.9.9.9:1"]


def test_only_the_stacks_own_namespace_may_look_at_pods_elsewhere() -> None:
    wide = {"pods": {**WEB["pods"], "namespaces": {"any": True}}}
    here, there = pod("a"), pod("b", namespace="other", ip="10.0.0.2")
    assert len(targets(wide, here, there, stack=ALL).groups) == 2
    assert len(targets(wide, here, there).groups) == 1
    assert addresses(targets(wide, here, there, namespace="other", stack=ALL)) == ["10.0.0.2:8080"]


def test_static_addresses_are_targets_of_the_stacks_own_namespace_only() -> None:
    spec = {"static": {"addresses": ["db.example.org:9187", "[fd00::1]:9187"]}, "labels": {"team": "a"}}
    made = targets(spec)
    assert addresses(made) == ["[fd00::1]:9187", "db.example.org:9187"]
    assert made.groups[0]["labels"] == {"job": "web", "namespace": "shop", "team": "a"}
    foreign = resource("ScrapeTarget", "web", spec, namespace="other")
    assert selection(foreign, stack=ALL).scrape_targets == ()
    assert selection(foreign, stack=ALL).refusals["ScrapeTarget", "other.web"].reason == "StaticNotAllowed"
    assert selection(foreign, stack={"selects": {**ALL["selects"], "static": "All"}}).scrape_targets == [foreign]


def test_the_parts_of_a_stack_and_the_kubelets_are_targets_by_themselves() -> None:
    main = resource("MonitoringStack", "main", {})
    labels = {"bellbuoy.io/stack": "main", "bellbuoy.io/part": "node-exporter"}
    stranger = {**labels, "bellbuoy.io/stack": "other"}
    pods = [pod("exporter", labels=labels), pod("stranger", labels=stranger, ip="10.0.0.9")]
    pools = own_pools(main, pods, [Node("node-0", "192.168.0.1", 10250, {})])
    assert addresses(pools["node"]) == ["10.0.0.1:9100"]
    assert pools["node"].groups[0]["labels"]["instance"] == "node-0"
    assert addresses(pools["cadvisor"]) == ["192.168.0.1:10250"]
    assert set(pools) == {"node", "cadvisor", "server", "alertmanager", "pushgateway"}


def test_a_part_that_is_off_has_no_pool() -> None:
    main = resource("MonitoringStack", "main", {"pushgateway": {"enabled": False}, "kubelet": {"cadvisor": False}})
    assert set(own_pools(main, [], [])) == {"node", "server", "alertmanager"}


def test_the_answer_does_not_depend_on_the_order_of_pods() -> None:
    pods = [pod(f"p{i}", ip=f"10.0.0.{i}") for i in range(5)]
    assert targets(WEB, *pods) == targets(WEB, *reversed(pods))
