"""What a user does with kubectl, on a real cluster of two nodes. The tests run in this order, on one installation."""

import json
import statistics
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.conftest import Product, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NODES = {"node-0", "node-1"}


def seconds_of(text: str) -> float:
    """A Kubernetes time."""
    return datetime.fromisoformat(text).timestamp()


def ready_since(pod: Any) -> float:
    """When the pod became ready, with the second's resolution that Kubernetes has."""
    [condition] = [c for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    return seconds_of(condition["lastTransitionTime"])


def test_pods_are_found_by_their_labels_and_all_are_up(product: Product) -> None:
    product.wait("both pods to be up", lambda: list(product.targets().values()) == ["up", "up"])
    assert product.targets().keys() == product.pods().keys()
    product.wait(
        "the ScrapeTarget to tell it",
        lambda: product.get("--namespace=shop", "scrapetarget", "sample-app")["status"].get("up") == 2,
    )


def test_targets_follow_scaling_and_new_pods_are_scraped_within_two_seconds(product: Product) -> None:
    product.scale(1)
    product.wait("one target", lambda: len(product.targets()) == 1)
    before = set(product.pods())
    product.scale(8)
    product.wait("eight targets", lambda: list(product.targets().values()) == ["up"] * 8)
    new = {name: pod for name, pod in product.pods().items() if name not in before}
    firsts = {name: points[0][0] for name, points in product.samples('sample_temperature{job="sample-app"}').items()}
    delays = sorted(firsts[name] - ready_since(pod) for name, pod in new.items())
    # The transition is rounded down to a second, so up to one second of each delay is not ours.
    assert statistics.quantiles(delays, n=20)[-1] <= 3.0, delays
    product.scale(2)
    product.wait("two targets", lambda: list(product.targets().values()) == ["up", "up"])


def test_a_pod_that_goes_ends_in_stale_markers_and_not_in_up_0(product: Product) -> None:
    gone = product.wait(
        "six pods to be gone from queries",
        lambda: product.samples("up{job='sample-app'}").keys() - product.pods().keys(),
    )
    assert len(gone) >= 6
    history = product.samples("up{job='sample-app'}")
    assert {value for name in gone for _, value in history[name]} == {1.0}
    # No marker: a series stays for five minutes of lookback. With one it has ended.
    now = {labels["pod"] for labels, _ in product.query("up{job='sample-app'}")}
    assert now == set(product.pods())


def test_every_node_is_seen_by_its_name_in_the_api_and_on_the_page(product: Product, tmp_path: Path) -> None:
    product.wait("both nodes' load", lambda: {labels["node"] for labels, _ in product.query("node_load1")} == NODES)
    assert {one["name"] for one in product.api("bellbuoy/nodes")["nodes"]} == NODES
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{product.address('server', 9090)}/nodes")
        for node in sorted(NODES):
            page.get_by_role("link", name=node).first.wait_for(timeout=20_000)
        page.screenshot(path=str(tmp_path / "nodes.png"))
        browser.close()


def test_containers_are_measured_by_the_kubelets_with_their_own_timestamps(product: Product) -> None:
    product.wait(
        "cAdvisor's series of the sample app",
        lambda: product.query('container_memory_working_set_bytes{namespace="shop",container="app"}'),
        seconds=90,
    )


def test_an_alert_goes_from_pending_to_firing_to_slack_and_is_resolved(product: Product) -> None:
    name, pod = next(iter(product.pods().items()))
    states = set()

    def state() -> str:
        states.add(product.alert("SampleAppHot")["state"])
        return str(product.alert("SampleAppHot")["state"])

    product.set_temperature(pod, 40)
    product.wait("the alert to fire", lambda: state() == "firing")
    assert "pending" in states
    product.wait("one message", lambda: [m for m in product.messages() if "SampleAppHot" in m])
    [message] = [m for m in product.messages() if "SampleAppHot" in m]
    assert all(part in message for part in ("shop", name, "critical", "is at 40 degrees"))
    product.wait(
        "the AlertRule to tell it",
        lambda: product.get("--namespace=shop", "alertrule", "sample-app-hot")["status"].get("state") == "firing",
    )
    product.set_temperature(pod, 20)
    product.wait("two messages", lambda: len([m for m in product.messages() if "SampleAppHot" in m]) == 2, seconds=90)
    assert "resolved" in [m for m in product.messages() if "SampleAppHot" in m][1].lower()
    assert product.refused() == []


def test_a_killed_server_comes_back_with_its_data_and_for_goes_on(product: Product) -> None:
    _, pod = next(iter(product.pods().items()))
    product.set_temperature(pod, 41)
    product.wait("the alert to fire", lambda: product.query('ALERTS{alertname="SampleAppHot",alertstate="firing"}'))
    # What was stored in the last commit interval, one second, may be lost; and then the alert was pending.
    time.sleep(2)
    since = product.alert("SampleAppHot")["alerts"][0]["activeAt"]
    before = product.query("count(count_over_time(node_load1[5m]))")
    kill(product, "server")
    product.wait("its API to answer", lambda: product.query("vector(1)"), seconds=90)
    product.wait("its restart", lambda: restarts(product, "server") >= 1)
    assert product.query("count(count_over_time(node_load1[5m]))") == before
    product.wait("the alert to fire again", lambda: product.alert("SampleAppHot")["state"] == "firing")
    again = product.alert("SampleAppHot")["alerts"][0]["activeAt"]
    assert abs(seconds_of(again) - seconds_of(since)) < 2
    product.set_temperature(pod, 20)


def kill(product: Product, part: str) -> None:
    """Kill -9 a part's process, from its node."""
    cluster = product.kubernetes.cluster
    assert cluster is not None
    [pod] = product.get("--all-namespaces", "pods", f"--selector=bellbuoy.io/part={part}")["items"]
    index = int(pod["spec"]["nodeName"].removeprefix("node-"))
    command = cluster.command_in(index, ["pkill", "-KILL", "-f", f"python3 -m bellbuoy {part}"])
    subprocess.run(command, check=True)


def restarts(product: Product, part: str) -> int:
    """How often a part's container was started anew."""
    [pod] = product.get("--all-namespaces", "pods", f"--selector=bellbuoy.io/part={part}")["items"]
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_scraping_goes_on_without_the_operator_and_discovery_after_its_return(product: Product) -> None:
    namespace = "--namespace=bellbuoy-system"
    product.kubectl(namespace, "scale", "deployment/bellbuoy-operator", "--replicas=0")
    product.kubectl(namespace, "wait", "pods", "--for=delete", "--all", "--timeout=60s")
    start = time.time()
    product.wait(
        "scrapes without the operator",
        lambda: min(points[-1][0] for points in product.samples("up{job='sample-app'}", "20s").values()) > start,
    )
    assert list(product.targets().values()) == ["up", "up"]
    product.scale(3)
    product.kubectl(namespace, "scale", "deployment/bellbuoy-operator", "--replicas=1")
    product.wait("the new pod", lambda: list(product.targets().values()) == ["up"] * 3, seconds=90)
    product.scale(2)


def test_what_a_job_pushes_can_be_queried(product: Product) -> None:
    push = (
        "from prometheus_client import CollectorRegistry, Gauge, push_to_gateway as push; r = CollectorRegistry(); "
        "Gauge('backup_seconds', 'How long it took.', registry=r).set(7); "
        "push('main-pushgateway.monitoring.svc:9091', job='backup', registry=r)"
    )
    container = {
        "name": "push",
        "image": "bellbuoy.io/sample-app:dev",
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", push],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "backup", "namespace": "shop"},
        "spec": {"backoffLimit": 3, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    product.kubernetes.apply(job)
    product.wait("the pushed metric", lambda: product.query('backup_seconds{job="backup"}'))
    [(_, value)] = product.query('backup_seconds{job="backup"}')
    assert value == 7


def test_what_is_deleted_by_hand_comes_back(product: Product) -> None:
    product.kubectl("--namespace=monitoring", "delete", "deployment/main-pushgateway", "service/main-server")
    wanted = {"deployment/main-pushgateway", "service/main-server"}

    def there() -> bool:
        items = product.get("--namespace=monitoring", "deployments,services")["items"]
        return wanted <= {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in items}

    product.wait("both to be back", there)


def test_after_the_stack_only_its_volume_is_left(product: Product) -> None:
    product.kubectl("--namespace=monitoring", "delete", "monitoringstack/main", "--timeout=120s")
    kinds = "statefulsets,daemonsets,deployments,services,serviceaccounts,secrets,configmaps,pods,roles,rolebindings"

    def left() -> list[str]:
        items = product.get("--namespace=monitoring", kinds, "--selector=bellbuoy.io/stack=main")["items"]
        bindings = product.get("clusterrolebindings", "--selector=bellbuoy.io/stack=main")["items"]
        return [f"{one['kind']}/{one['metadata']['name']}" for one in [*items, *bindings]]

    assert eventually(lambda: not left(), seconds=90), left()
    volumes = product.get("--namespace=monitoring", "persistentvolumeclaims")["items"]
    assert len(volumes) == 1, json.dumps(volumes)
