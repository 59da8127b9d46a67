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


def test_all_mistakes_of_all_files_are_told_and_cost_only_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("static:", "statics:"))
    (tmp_path / "b.yaml").write_text("kind: [")
    manifests = load_manifests([tmp_path])
    assert [str(one) for one in manifests.resources] == []
    assert set(manifests.secrets) == {("default", "slack")}
    field, broken = manifests.mistakes
    assert f"{tmp_path}/a.yaml: cannot use ScrapeTarget other/db, spec: " in field
    assert 'unknown field "statics"; did you mean "static"?' in field
    assert f"{tmp_path}/b.yaml: cannot read it: " in broken
    assert "mend the YAML there" in broken


def test_a_resource_that_stands_twice_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    manifests = load_manifests([tmp_path])
    assert [str(one) for one in manifests.resources] == ["ScrapeTarget other/db"]
    assert f"ScrapeTarget other/db stands twice (also in {tmp_path}/a.yaml); remove one" in manifests.mistakes[0]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("apiVersion: bellbuoy.io/v1alpha1\nkind: AlertRuel", "bellbuoy.io has no such kind; did you mean AlertRule?"),
        ("apiVersion: bellbuoy.io/v1alpha1\nkind: Deployment", "no such kind; use one of ScrapeTarget, "),
        ("apiVersion: bellbuoy.io/v2\nkind: AlertRule", 'is "bellbuoy.io/v2"; set it to bellbuoy.io/v1alpha1'),
        ("kind: AlertRule", "apiVersion: is missing; set it to bellbuoy.io/v1alpha1"),
        ("apiVersion: bellbuoy.io/v1alpha1\nkind: AlertRule\nspec: {expr: up}", "metadata.name: is missing; set it"),
        ("apiVersion: bellbuoy.io/v1alpha1\nkind: AlertRule\nmetadata: x", "metadata: must be a mapping"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: '?'}", "data.k: is no base64 of a text"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: k", "must be mappings of keys to values"),
        ("kind: [Secret]", "a document without a kind"),
        ("just text", "a document without a kind"),
    ],
)
def test_what_was_meant_to_be_ours_is_no_silence(tmp_path: Path, document: str, text: str) -> None:
    (tmp_path / "a.yaml").write_text(f"{GOOD}---\n{document}\n")
    manifests = load_manifests([tmp_path])
    assert [str(one) for one in manifests.resources] == ["ScrapeTarget other/db"]
    [mistake] = manifests.mistakes
    assert text in mistake


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("{static: {addresses: 5}}", "static.addresses: must be a list; write it as [one, two]"),
        ("{static: {addresses: ['a:1']}, labels: {a: true}}", "labels.a: must be text; put it in quotes"),
        ("{static: {addresses: ['a:1']}, honorLabels: perhaps}", "honorLabels: must be true or false"),
        ("5", "must be a mapping; write lines of key: value below it"),
    ],
)
def test_a_wrong_type_is_told_with_its_field_and_cure(tmp_path: Path, spec: str, text: str) -> None:
    (tmp_path / "a.yaml").write_text(
        f"apiVersion: bellbuoy.io/v1alpha1\nkind: ScrapeTarget\nmetadata: {{name: x}}\nspec: {spec}\n"
    )
    [mistake] = load_manifests([tmp_path]).mistakes
    assert f"{tmp_path}/a.yaml: cannot use ScrapeTarget default/x, spec: {text}" == mistake


def test_what_is_broken_now_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    before = load_manifests([tmp_path])
    for broken in (GOOD.replace("static:", "statics:").replace("aGVsbG8=", "?"), "kind: ["):
        (tmp_path / "a.yaml").write_text(broken)
        now = load_manifests([tmp_path], last=before)
        assert now.mistakes
        assert (now.resources, now.secrets) == (before.resources, before.secrets)
    (tmp_path / "a.yaml").write_text("")
    now = load_manifests([tmp_path], last=before)
    assert (now.resources, now.secrets, now.mistakes) == ([], {}, [])


def test_a_path_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        load_manifests([Path("/nowhere")])


@pytest.mark.parametrize("spec", ["{}", "{pods: {selector: {}}, static: {addresses: ['a:1']}}"])
def test_what_the_api_server_refuses_is_refused_here(tmp_path: Path, spec: str) -> None:
    (tmp_path / "a.yaml").write_text(
        f"apiVersion: bellbuoy.io/v1alpha1\nkind: ScrapeTarget\nmetadata: {{name: x}}\nspec: {spec}\n"
    )
    assert "exactly one of pods and static" in load_manifests([tmp_path]).mistakes[0]
