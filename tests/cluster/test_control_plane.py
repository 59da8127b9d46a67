"""The quick mode: a real API server in seconds, for tests that need no running pods."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.local import binaries, paths
from deploy.local import cluster as local
from deploy.local.cli import main
from deploy.local.processes import Process

if TYPE_CHECKING:
    from tests.conftest import Kubernetes, Namespace

pytestmark = pytest.mark.control_plane

WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.test.bellbuoy.io"},
    "spec": {
        "group": "test.bellbuoy.io",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer"}},
                                "x-kubernetes-validations": [
                                    {"rule": "self.size < 10", "message": "spec.size must be below 10"}
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own: its clusters are nobody else's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def processes_of(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if f"{folder}/" in command:
                found.append(command)
    return found


def test_it_is_up_within_ten_seconds_and_gone_after_down(state: Path) -> None:
    binaries.build_all()
    # Ten seconds of a machine that does nothing else; a busy one gives us its share.
    allowed = 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    began = time.monotonic()
    started = local.up(name="quick", nodes=0)
    took = time.monotonic() - began
    try:
        assert started.running
        assert processes_of(started.folder)
        assert "ok" in started.kubectl("get", "--raw=/readyz")
    finally:
        assert local.down("quick")
    assert took < allowed
    assert not processes_of(started.folder)
    assert not started.folder.exists()
    assert not local.down("quick")


def test_objects_are_stored_and_validated(control_plane: "Kubernetes", namespace: "Namespace") -> None:
    control_plane.apply(WIDGETS)
    control_plane.kubectl("wait", "--for=condition=Established", "crd/widgets.test.bellbuoy.io", "--timeout=30s")

    def widget(size: int) -> dict[str, object]:
        metadata = {"name": "one", "namespace": namespace.name}
        return {"apiVersion": "test.bellbuoy.io/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": size}}

    namespace.wait("the kind to be served", lambda: "widgets" in control_plane.kubectl("api-resources"))
    namespace.apply(widget(3))
    assert namespace.get("widget", "one")["spec"] == {"size": 3}
    with pytest.raises(Exception, match=r"spec\.size must be below 10"):
        namespace.apply(widget(30))


def test_tokens_of_service_accounts_are_issued_and_reviewed(namespace: "Namespace") -> None:
    namespace.kubectl("create", "serviceaccount", "reader")
    token = namespace.kubectl("create", "token", "reader").strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = namespace.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review))
    assert json.loads(answer)["status"]["user"]["username"] == f"system:serviceaccount:{namespace.name}:reader"


def test_up_twice_says_so_and_changes_nothing(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["up", "--name=twice", "--control-plane-only"]) == 0
        before = local.get("twice").processes
        capfd.readouterr()
        assert main(["up", "--name=twice", "--control-plane-only"]) == 0
        said = capfd.readouterr()
        assert 'cluster "twice" is already up; nothing was changed' in said.err
        assert said.out.strip() == str(local.get("twice").kubeconfig)
        assert local.get("twice").processes == before
        assert main(["up", "--name=twice", "--nodes=1"]) == 1
        assert 'cluster "twice" is already up with 0 nodes, not 1: take it down first' in capfd.readouterr().err
    finally:
        local.down("twice")


def test_one_that_crashed_is_removed_by_the_next_up(state: Path) -> None:
    try:
        before = local.up(name="crash", nodes=0).processes
        before["kube-apiserver"].kill()
        assert not local.get("crash").running
        again = local.up(name="crash", nodes=0)
        assert again.running
        assert not before["etcd"].alive
    finally:
        local.down("crash")
    assert not processes_of(paths.clusters() / "crash")


def test_down_removes_one_whose_up_was_killed_halfway(state: Path) -> None:
    binaries.build_all()
    folder = paths.clusters() / "half"
    command = [sys.executable, "-m", "deploy.local", "up", "--name=half", "--control-plane-only"]
    with subprocess.Popen(command, cwd=paths.CHECKOUT, stderr=subprocess.DEVNULL) as starting:
        deadline = time.monotonic() + 20
        while not processes_of(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        starting.kill()
    assert processes_of(folder)
    assert local.down("half")
    assert not processes_of(folder)
    assert not folder.exists()


def test_one_whose_owner_is_gone_is_removed(state: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        local.up(name="left", nodes=0, owner=Process.of(owner.pid))
        local.remove_abandoned()
        assert local.get("left").running
        os.kill(owner.pid, signal.SIGKILL)
    local.remove_abandoned()
    assert local.find("left") is None
