"""A folder of manifests is read as kubectl would apply it, for running without Kubernetes."""

from pathlib import Path

import pytest

from bellbuoy.configuration import ConfigError
from bellbuoy.resources import SecretUse, load_manifests

GOOD = """
apiVersion: bellbuoy.io/v1alpha1
kind: ScrapeTarget
metadata: {name: db, namespace: other}
spec: {static: {addresses: ["127.0.0.1:9187"]}}
---
apiVersion: v1
kind: Secret
metadata: {name: slack}
stringData: {url: "https://hooks.example.org/x"}
data: {plain: aGVsbG8=}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
"""


def test_our_kinds_and_secrets_are_read_and_others_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    manifests = load_manifests([tmp_path])
    assert [str(one) for one in manifests.resources] == ["ScrapeTarget other/db"]
    assert manifests.passed_over == ["Deployment"]
    assert manifests.secret(SecretUse("default", "slack", "url")) == "https://hooks.example.org/x"
    assert manifests.secret(SecretUse("default", "slack", "plain")) == "hello"
    with pytest.raises(ConfigError, match='Secret default/slack, key "none": add it'):
        manifests.secret(SecretUse("default", "slack", "none"))


def test_on_one_machine_a_stack_takes_everything_and_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    manifests = load_manifests([tmp_path])
    assert manifests.stack().spec.scrape_interval == "15s"
    assert [one.id for one in manifests.selection().scrape_targets] == ["other.db"]


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("static:", "statics:")
    (tmp_path / "a.yaml").write_text(bad)
    (tmp_path / "b.yaml").write_text("kind: [")
    with pytest.raises(ConfigError) as caught:
        load_manifests([tmp_path])
    assert 'unknown field "statics"; did you mean "static"?' in str(caught.value)
    assert "b.yaml: cannot read it" in str(caught.value)


def test_a_resource_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match="ScrapeTarget other/db stands twice"):
        load_manifests([tmp_path])


def test_a_path_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        load_manifests([Path("/nowhere")])


@pytest.mark.parametrize("spec", ["{}", "{pods: {selector: {}}, static: {addresses: ['a:1']}}"])
def test_what_the_api_server_refuses_is_refused_here(tmp_path: Path, spec: str) -> None:
    (tmp_path / "a.yaml").write_text(
        f"apiVersion: bellbuoy.io/v1alpha1\nkind: ScrapeTarget\nmetadata: {{name: x}}\nspec: {spec}\n"
    )
    with pytest.raises(ConfigError, match="exactly one of pods and static"):
        load_manifests([tmp_path])
