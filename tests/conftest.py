"""What tests of several folders share: the quick control plane, the cluster with running pods, a namespace for each.

Both clusters are started once a run, when the first test asks for them, and are removed at its end; one that a killed
run left behind is removed by the next. A cluster that is already up is used, and left up, if BELLBUOY_TEST_KUBECONFIG
names its kubeconfig: start it with `make cluster` and tests need no minute of waiting.
"""

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# The local cluster is a program of the checkout, not a part of the distribution.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.local import binaries, images, machine
from deploy.local import cluster as local
from deploy.local.processes import Process
from deploy.local.shell import run, wait_for

# What shares a cluster, or the control plane, runs in one process; else each file by itself.
_TOGETHER = {"cluster": "cluster", "e2e": "cluster", "operator": "control plane"}


class _ByCluster(LoadScopeScheduling):  # type: ignore[misc] # xdist's schedulers are not typed for strangers
    """Which tests `pytest --numprocesses 2 --dist loadscope` keeps together."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return _TOGETHER.get(Path(path).parent.name, path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Ours, where several processes share the tests."""
    return _ByCluster(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a cluster comes first, since it takes longest."""
    items.sort(key=lambda item: _TOGETHER.get(item.path.parent.name, "later"))


@dataclass(frozen=True)
class Kubernetes:
    """A cluster as tests use it: kubectl, and a few things that many tests wait for."""

    kubeconfig: Path
    cluster: local.Cluster | None = None
    """The local cluster behind it; None if it is somebody else's."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as admin; its standard output."""
        content = None if stdin is None else stdin.encode()
        return run(binaries.path("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments, stdin=content)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply, as the operator does."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(listed))

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`, read."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def wait(self, what: str, condition: Callable[[], Any], *, seconds: float = 60) -> Any:
        """The condition's first true value."""
        return wait_for(what, condition, seconds=seconds)


@dataclass(frozen=True)
class Namespace(Kubernetes):
    """A namespace of a test's own; kubectl works in it."""

    name: str = "default"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return super().kubectl(f"--namespace={self.name}", *arguments, stdin=stdin)


def _running(name: str, *, nodes: int) -> Iterator[local.Cluster]:
    local.remove_abandoned()
    started = local.up(name=name, nodes=nodes, owner=Process.of(os.getpid()))
    try:
        yield started
    finally:
        local.down(name)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Kubernetes]:
    """etcd and API server alone, on loopback: for tests of resources, validation, watches, server-side apply."""
    for started in _running(f"test-{os.getpid()}-quick", nodes=0):
        yield Kubernetes(started.kubeconfig, started)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubernetes]:
    """Two nodes with running pods, and the images of all parts as `bellbuoy.io/PART:dev`."""
    given = os.environ.get("BELLBUOY_TEST_KUBECONFIG")
    if given:
        found = next((c for c in local.existing() if c.kubeconfig == Path(given).resolve()), None)
        yield Kubernetes(Path(given), found)
        return
    problems = machine.problems()
    if problems:
        pytest.fail("cannot start the test cluster: " + "; ".join(problems), pytrace=False)
    archive = images.build(images.PARTS)
    for started in _running(f"test-{os.getpid()}", nodes=2):
        started.load(archive)
        yield Kubernetes(started.kubeconfig, started)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test's own: on the control plane if the test is marked so or uses it, else on the cluster."""
    quick = request.node.get_closest_marker("control_plane") or "control_plane" in request.fixturenames
    place: Kubernetes = request.getfixturevalue("control_plane" if quick else "cluster")
    name = f"test-{uuid.uuid4().hex[:8]}"
    place.kubectl("create", "namespace", name)
    yield Namespace(place.kubeconfig, place.cluster, name)
    # Not waited for: the next test has another one.
    place.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
