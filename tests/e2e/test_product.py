"""What a user does with kubectl, on a real cluster of two nodes. The tests run in this order, on one installation."""

import statistics
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.conftest import OPERATOR, Product, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NODES = {"node-0", "node-1"}
# The time from a pod's Ready to its first sample that is promised, for 95 of 100 pods.
FIRST_SAMPLE_SECONDS = 2.0
# How long one pod goes on answering when it is told to end.
LINGER_SECONDS = 6
# The `for` of the rule that a kill interrupts, and how much of it has passed by then.
FOR_SECONDS, PENDING_SECONDS = 40, 15
# The stack's, see examples/stack.yaml.
EVALUATION_SECONDS = 5
# What is left of a stack's namespace: what users applied there, resources of ours among it, and the volume.
KEPT = {"secret/slack", "persistentvolumeclaim/data-main-server-0"}
KUBERNETES_OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
USERS_KINDS = ("scrapetarget.", "alertrule.", "recordingrule.", "alertreceiver.")


def seconds_of(text: str) -> float:
    """A Kubernetes time."""
    return datetime.fromisoformat(text).timestamp()


def ready_since(pod: Any) -> float:
    """When the pod became ready, rounded down to a second as Kubernetes does."""
    [condition] = [c for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    return seconds_of(condition["lastTransitionTime"])


def all_up(product: Product, count: int) -> bool:
    """Whether so many targets are up, and they are the pods that there are."""
    targets = product.targets()
    return list(targets.values()) == ["up"] * count and targets.keys() == product.pods().keys()


def test_pods_are_found_by_their_labels_and_all_are_up(product: Product) -> None:
    product.wait("both pods to be up", lambda: all_up(product, 2))
    product.wait(
        "the ScrapeTarget to tell it",
        lambda: product.get("--namespace=shop", "scrapetarget", "sample-app")["status"].get("up") == 2,
    )


def test_targets_follow_scaling_and_new_pods_are_scraped_within_two_seconds(product: Product) -> None:
    product.scale(0)
    product.wait("no target", lambda: not product.targets())
    # With the one, eight pods that are new.
    product.scale(1)
    product.wait("one target", lambda: all_up(product, 1))
    product.scale(8)
    product.wait("eight targets", lambda: all_up(product, 8))
    firsts = {name: points[0][0] for name, points in product.samples('sample_temperature{job="sample-app"}').items()}
    delays = sorted(firsts[name] - ready_since(pod) for name, pod in product.pods().items())
    assert len(delays) == 8
    p95 = statistics.quantiles(delays, n=20, method="inclusive")[-1]
    print(f"first samples after Ready: p95 {p95:.2f} s of {delays}")
    assert p95 <= FIRST_SAMPLE_SECONDS, delays
    product.scale(2)
    product.wait("two targets", lambda: all_up(product, 2))


def test_pods_that_go_end_in_stale_markers_and_not_in_up_0(product: Product) -> None:
    product.wait("their pods to be gone", lambda: len(running_pods(product)) == 2)
    product.wait("their series to end", lambda: pods_of(product, 'up{job="sample-app"}') == set(product.pods()))
    # Without a marker a series stays for the five minutes of the lookback. Every series of the pods has one.
    left = "|".join(product.pods())
    assert product.query(f'{{job="sample-app",pod!="",pod!~"{left}"}}') == []
    history = product.samples('up{job="sample-app"}')
    gone = history.keys() - product.pods().keys()
    assert len(gone) >= 6
    assert {value for name in gone for _, value in history[name]} == {1.0}


def running_pods(product: Product) -> list[Any]:
    """The sample app's pods, those that are going included."""
    items: list[Any] = product.get("--namespace=shop", "pods", "--selector=app=sample-app")["items"]
    return items


def pods_of(product: Product, selector: str) -> set[str]:
    """The pods whose series have not ended."""
    return {labels["pod"] for labels, _ in product.query(selector)}


def test_a_pod_is_scraped_until_it_refuses(product: Product) -> None:
    # The Deployment's pods end at once; this one goes on answering for a while.
    container = {
        "name": "app",
        "image": "bellbuoy.io/sample-app:dev",
        "imagePullPolicy": "Never",
        "args": [f"--linger={LINGER_SECONDS}"],
        "ports": [{"name": "metrics", "containerPort": 8000}],
        # Without a probe it would be ready before it listens, and rightly be down for that while.
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "metrics"}, "periodSeconds": 1},
    }
    metadata = {"name": "slow-to-go", "namespace": "shop", "labels": {"app": "sample-app"}}
    spec = {"terminationGracePeriodSeconds": 4 * LINGER_SECONDS, "containers": [container]}
    product.kubernetes.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    product.wait("the pod to be up", lambda: product.targets().get("slow-to-go") == "up")
    product.kubectl("--namespace=shop", "delete", "pod", "slow-to-go", "--wait=false")
    going = product.get("--namespace=shop", "pod", "slow-to-go")["metadata"]
    asked = seconds_of(going["deletionTimestamp"]) - going["deletionGracePeriodSeconds"]
    product.wait("its series to end", lambda: "slow-to-go" not in pods_of(product, 'up{job="sample-app"}'))
    points = product.samples('up{job="sample-app"}')["slow-to-go"]
    assert {value for _, value in points} == {1.0}, (asked, points)
    # It is scraped each second meanwhile; a slow machine gets two more.
    assert asked + LINGER_SECONDS - 3 <= points[-1][0] <= asked + LINGER_SECONDS + 3, (asked, points)


def test_every_node_is_seen_by_its_name_in_the_api_and_on_the_page(product: Product, tmp_path: Path) -> None:
    product.wait("both nodes' load", lambda: {labels["node"] for labels, _ in product.query("node_load1")} == NODES)
    # The host's name, read by the exporter, and the node's name, known to the operator, are the same.
    names = {labels["node"]: labels["nodename"] for labels, _ in product.query("node_uname_info")}
    assert names == {node: node for node in NODES}
    counts = {labels["node"]: value for labels, value in product.query('count by (node) ({__name__=~"node_.+"})')}
    assert counts.keys() == NODES
    assert min(counts.values()) > 100
    assert {one["name"] for one in product.api("bellbuoy/nodes")["nodes"]} == NODES
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{product.address('server', 9090)}/nodes")
        for node in sorted(NODES):
            page.get_by_role("link", name=node).first.wait_for(timeout=60_000)
        page.screenshot(path=str(tmp_path / "nodes.png"))
        browser.close()


def test_containers_are_measured_by_the_kubelets_with_their_own_timestamps(product: Product) -> None:
    selector = 'container_memory_working_set_bytes{namespace="shop",container="app"}'
    product.wait("cAdvisor's series of the sample app", lambda: pods_of(product, selector) >= product.pods().keys())
    # The kubelet says when it measured: that is not when it was asked, but by chance.
    measured, asked = times_of(product, selector), times_of(product, 'up{job="cadvisor"}')
    assert len(measured & asked) <= len(measured) / 2, (measured, asked)


def times_of(product: Product, selector: str) -> set[float]:
    """The times of all samples of these series."""
    result = product.api("query", query=f"{selector}[5m]")["result"]
    return {float(at) for one in result for at, _ in one["values"]}


def test_an_alert_goes_from_pending_to_firing_to_slack_and_is_resolved(product: Product) -> None:
    name, pod = next(iter(product.pods().items()))
    states = ["inactive"]

    def state() -> str:
        if (now := product.alert("SampleAppHot")["state"]) != states[-1]:
            states.append(now)
        return states[-1]

    assert product.messages("SampleAppHot") == []
    product.set_temperature(pod, 40)
    product.wait("the alert to fire", lambda: state() == "firing")
    assert states == ["inactive", "pending", "firing"]
    product.wait("a message", lambda: product.messages("SampleAppHot"))
    product.wait(
        "the AlertRule to tell it",
        lambda: product.get("--namespace=shop", "alertrule", "sample-app-hot")["status"].get("state") == "firing",
    )
    product.set_temperature(pod, 20)
    product.wait("two messages", lambda: len(product.messages("SampleAppHot")) >= 2)
    firing, resolved = product.messages("SampleAppHot")
    assert "firing" in firing
    assert f"{name} is at 40 degrees" in firing
    # The alert's name is in the title.
    assert "SampleAppHot" in firing.splitlines()[0]
    assert labels_of(firing) == {
        "severity": "critical",
        "namespace": "shop",
        "job": "sample-app",
        "pod": name,
        "container": "app",
        "node": pod["spec"]["nodeName"],
        "instance": f"{pod['status']['podIP']}:8000",
    }
    assert "resolved" in resolved.lower()
    assert product.refused() == []


def labels_of(message: str) -> dict[str, str]:
    """The labels that a message lists; below them are its buttons, in brackets."""
    rows = [line.split() for line in message.splitlines() if line.startswith("  ") and not line.startswith("  [")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_a_killed_server_comes_back_with_its_data_and_for_goes_on(product: Product) -> None:
    name, pod = next(iter(product.pods().items()))
    told = len(product.messages("SampleAppHot"))
    rule = {"alert": "SampleAppWarm", "expr": "sample_temperature > 35", "for": f"{FOR_SECONDS}s"}
    metadata = {"name": "sample-app-warm", "namespace": "shop"}
    product.kubernetes.apply(
        {"apiVersion": "bellbuoy.io/v1alpha1", "kind": "AlertRule", "metadata": metadata, "spec": rule}
    )
    product.wait("the server to have the rule", lambda: product.alert("SampleAppWarm")["health"] == "ok")
    product.set_temperature(pod, 41)
    product.wait("a message", lambda: len(product.messages("SampleAppHot")) == told + 1)
    hot = active_at(product, "SampleAppHot")
    warm = active_at(product, "SampleAppWarm")
    # What was stored in the last second may be lost: look at what is older, until that is so.
    before = time.time()
    product.wait("newer samples", lambda: newest(product, "node_load1") > max(before + 2, warm + PENDING_SECONDS))
    assert product.alert("SampleAppWarm")["state"] == "pending"
    stored = {expr: product.api("query", query=expr, time=f"{before:.3f}") for expr in ("node_load1[5m]", "up[5m]")}
    killed = time.time()
    product.kill("bellbuoy.io/part=server", "python3 -m bellbuoy server")
    product.wait("its restart", lambda: restarts(product, "bellbuoy.io/part=server") == 1)
    product.wait("its API to answer", lambda: product.query("vector(1)"))
    for expr, samples in stored.items():
        assert product.api("query", query=expr, time=f"{before:.3f}") == samples
    # What fired goes on at once, as old as it was.
    product.wait("the alert to fire again", lambda: product.alert("SampleAppHot")["state"] == "firing")
    assert abs(active_at(product, "SampleAppHot") - hot) < 2
    # What was pending has its time behind it; the time from the last evaluation to the next one may not count.
    product.wait("the other alert to be there", lambda: product.alert("SampleAppWarm")["alerts"])
    back = time.time()
    again = active_at(product, "SampleAppWarm")
    assert warm - 2 <= again <= warm + (back - killed) + EVALUATION_SECONDS + 2, (warm, killed, back, again)
    product.wait("the other alert to fire", lambda: product.alert("SampleAppWarm")["state"] == "firing")
    assert time.time() - back <= FOR_SECONDS - PENDING_SECONDS + 10
    # Nobody was told twice, and nobody that it was over.
    product.set_temperature(pod, 20)
    product.wait("the end's message", lambda: len(product.messages("SampleAppHot")) >= told + 2)
    again_told, ended = product.messages("SampleAppHot")[told:]
    assert "firing" in again_told
    assert name in again_told
    assert "resolved" in ended.lower()
    product.kubectl("--namespace=shop", "delete", "alertrule", "sample-app-warm")
    assert product.refused() == []


def active_at(product: Product, alert: str) -> float:
    """When the one alert of a rule began."""
    [one] = product.alert(alert)["alerts"]
    return seconds_of(one["activeAt"])


def newest(product: Product, metric: str) -> float:
    """The time of the oldest of the series' last samples."""
    [(_, value)] = product.query(f"min(timestamp({metric}))")
    return value


def restarts(product: Product, selector: str) -> int:
    """How often a pod's container was started anew."""
    [pod] = product.get("--all-namespaces", "pods", f"--selector={selector}")["items"]
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_scraping_goes_on_without_the_operator_and_discovery_after_its_return(product: Product) -> None:
    system, selector = "--namespace=bellbuoy-system", "app.kubernetes.io/name=bellbuoy-operator"
    product.kill(selector, "python3 -m bellbuoy operator")
    product.scale(3)
    product.wait("the new pod after a kill", lambda: all_up(product, 3))
    product.kubectl(system, "scale", OPERATOR, "--replicas=0")
    product.kubectl(system, "wait", "pods", "--for=delete", f"--selector={selector}", "--timeout=120s")
    start = time.time()
    product.scale(2)
    product.wait("scrapes without the operator", lambda: newest(product, 'up{job="node"}') > start + 5)
    # Its pods' targets are as the operator left them.
    assert len(product.targets()) == 3
    product.scale(4)
    product.kubectl(system, "scale", OPERATOR, "--replicas=1")
    product.wait("the new pods after an absence", lambda: all_up(product, 4))
    product.scale(2)
    product.wait("two targets", lambda: all_up(product, 2))


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
    def there() -> dict[str, str]:
        items = product.get("--namespace=monitoring", "deployments,services")["items"]
        return {f"{one['kind'].lower()}/{one['metadata']['name']}": one["metadata"]["uid"] for one in items}

    before = there()
    wanted = ("deployment/main-pushgateway", "service/main-server")
    product.kubectl("--namespace=monitoring", "delete", *wanted)
    product.wait("both to be back", lambda: there().keys() == before.keys())
    assert all(there()[name] != before[name] for name in wanted)


def test_after_the_stack_only_its_volume_is_left(product: Product) -> None:
    product.kubectl("--namespace=monitoring", "delete", "monitoringstack/main", "--timeout=300s")
    kinds = product.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    listed = ",".join(kind for kind in kinds if not kind.startswith("events"))

    def left() -> set[str]:
        names = product.kubectl("--namespace=monitoring", "get", listed, "--output=name").split()
        return {name for name in names if not name.startswith(USERS_KINDS)} - KUBERNETES_OWN

    assert eventually(lambda: left() == KEPT), left()
    assert "monitoring" not in {
        subject.get("namespace")
        for binding in product.get("clusterrolebindings")["items"]
        for subject in binding.get("subjects", [])
    }
