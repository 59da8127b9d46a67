"""The programs' cache: its key changes with all that decides what is built, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from deploy.local import binaries, paths
from deploy.local.binaries import KUBERNETES, MODULES
from deploy.local.shell import LocalClusterError


def test_versions_are_those_that_go_mod_pins() -> None:
    assert KUBERNETES.version == "v1.37.2"
    assert f"k8s.io/kubernetes {KUBERNETES.version}" in (KUBERNETES.folder / "go.mod").read_text()


def test_every_checksum_is_pinned() -> None:
    for module in MODULES:
        if module.requirement:
            assert f"{module.requirement} {module.version} h1:" in (module.folder / "go.sum").read_text()


def test_a_changed_pin_builds_anew_beside_what_was_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = KUBERNETES.built
    shutil.copytree(paths.MODULES, tmp_path / "modules")
    monkeypatch.setattr(paths, "MODULES", tmp_path / "modules")
    assert KUBERNETES.built == before
    pins = tmp_path / "modules" / "kubernetes" / "go.mod"
    pins.write_text(pins.read_text().replace("k8s.io/kubernetes v1.37.2", "k8s.io/kubernetes v1.37.3"))
    assert KUBERNETES.built != before
    assert KUBERNETES.built.parent == before.parent
    assert "gitVersion=v1.37.3" in " ".join(KUBERNETES.flags)


def test_a_build_that_fails_leaves_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = binaries.Module("broken", {"broken": "bellbuoy.io/local/broken"})
    monkeypatch.setattr(paths, "MODULES", tmp_path / "modules")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module.folder.mkdir(parents=True)
    (module.folder / "go.mod").write_text("module bellbuoy.io/local/broken\n\ngo 1.26.0\n")
    (module.folder / "main.go").write_text("package main\n\nfunc main() { nothing() }\n")
    monkeypatch.setattr(binaries, "MODULES", (module,))
    monkeypatch.setenv("GOCACHE", str(Path.home() / ".cache" / "go-build"))
    with pytest.raises(LocalClusterError, match="undefined: nothing"):
        binaries.build_all()
    assert list((tmp_path / "cache" / "bellbuoy" / "binaries").iterdir()) == []
    with pytest.raises(LocalClusterError, match="broken is not built yet: run"):
        binaries.path("broken")
