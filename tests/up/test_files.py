"""Manifests become the files of the parts; what no part could use is left out by itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bellbuoy.configuration import ConfigError
from bellbuoy.resources import Manifests, load_manifests
from bellbuoy.up import Options
from bellbuoy.up.files import ALERTMANAGER, PROMETHEUS, RULES, make_files, usable

HOOK = "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
RECEIVER = """
apiVersion: bellbuoy.io/v1alpha1
kind: AlertReceiver
metadata: {name: ops}
spec: {slack: {webhook: {name: slack, key: url}, channel: "#ops"}, sendResolved: false}
"""
SECRET = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: slack}\nstringData: {url: 'https://one.example.org/x'}\n"
HEAD = "---\napiVersion: bellbuoy.io/v1alpha1\n"
GOOD = f"{HEAD}kind: AlertRule\nmetadata: {{name: good}}\nspec: {{expr: up == 0}}\n"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "manifests").mkdir()
    return Options((tmp_path / "manifests",), tmp_path / "data")


def load(options: Options, text: str, last: Manifests | None = None) -> Manifests:
    (options.manifests[0] / "a.yaml").write_text(text)
    return usable(load_manifests(options.manifests, last=last), options, last=last)


def written(options: Options, text: str) -> dict[str, Any]:
    """The files that these manifests become, on disk and read."""
    make_files(load(options, text), options).write(options.data)
    return {name: yaml.safe_load((options.data / name).read_text()) for name in (PROMETHEUS, RULES, ALERTMANAGER)}


def test_without_a_receiver_all_alerts_are_printed_soon(options: Options) -> None:
    config = written(options, GOOD)[ALERTMANAGER]
    assert config["route"]["receiver"] == "terminal"
    assert config["route"]["group_wait"] == "5s"
    assert config["receivers"][-1] == {"name": "terminal", "print_configs": [{"send_resolved": True}]}


def test_without_a_receiver_the_webhook_of_the_environment_gets_all_alerts(options: Options) -> None:
    config = written(Options(options.manifests, options.data, slack_webhook_url=HOOK), GOOD)[ALERTMANAGER]
    [slack] = config["receivers"][-1]["slack_configs"]
    assert Path(slack["api_url_file"]).read_text() == HOOK
    assert Path(slack["api_url_file"]).stat().st_mode & 0o077 == 0


def test_a_slack_receiver_prints_unless_a_webhook_is_known(options: Options) -> None:
    assert written(options, RECEIVER)[ALERTMANAGER]["receivers"][-1] == {
        "name": "default.ops",
        "print_configs": [{"send_resolved": False}],
    }
    known = Options(options.manifests, options.data, slack_webhook_url=HOOK)
    [slack] = written(known, RECEIVER)[ALERTMANAGER]["receivers"][-1]["slack_configs"]
    assert (Path(slack["api_url_file"]).read_text(), slack["channel"], slack["send_resolved"]) == (HOOK, "#ops", False)
    # A Secret among the manifests is nearer than the environment.
    [slack] = written(known, RECEIVER + SECRET)[ALERTMANAGER]["receivers"][-1]["slack_configs"]
    assert Path(slack["api_url_file"]).read_text() == "https://one.example.org/x"


def test_secrets_that_are_not_in_use_any_more_are_removed(options: Options) -> None:
    written(options, RECEIVER + SECRET)
    assert len(list((options.data / "secrets").iterdir())) == 1
    written(options, RECEIVER)
    assert list((options.data / "secrets").iterdir()) == []


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ("kind: AlertRule\nmetadata: {name: x}\nspec: {expr: 'sum('}", "AlertRule default/x: expr cannot be used: 1:5"),
        (
            "kind: AlertRule\nmetadata: {name: x}\nspec: {expr: up, annotations: {summary: '{{ $label }}'}}",
            'AlertRule default/x: annotations: summary: cannot read template: undefined variable "$label"; use $labels',
        ),
        (
            "kind: RecordingRule\nmetadata: {name: good}\nspec: {expr: up, record: a:b}",
            "AlertRule default/good: RecordingRule default/good has the same name: rename one of them",
        ),
        (
            "kind: ScrapeTarget\nmetadata: {name: x}\nspec: {static: {addresses: ['a:1']}, metricRelabelings: [{}]}",
            "ScrapeTarget default/x: spec.metricRelabelings[0]: ",
        ),
        (
            "kind: ScrapeTarget\nmetadata: {name: x}\nspec: {static: {addresses: ['a:1']}, relabelings: [{}]}",
            "ScrapeTarget default/x: spec.relabelings: relabel rule 0: target_label is missing",
        ),
        (
            "kind: AlertReceiver\nmetadata: {name: x}\nspec: {webhook: {url: 'ftp://a'}}",
            "AlertReceiver default/x: spec.webhook.url: is no http or https URL; write it as https://host/path",
        ),
        (
            "kind: AlertReceiver\nmetadata: {name: x}\nspec: {webhook: {urlFrom: {name: s, key: k}}}",
            "AlertReceiver default/x: cannot find Secret default/s: add it to the folder of manifests",
        ),
        (
            "kind: AlertReceiver\nmetadata: {name: x}\nspec: {slack: {webhook: {name: slack, key: other}}}",
            'AlertReceiver default/x: cannot find Secret default/slack, key "other": add it to the folder of manifests',
        ),
    ],
)
def test_what_a_part_would_refuse_is_left_out_with_its_file_and_cure(
    options: Options, resource: str, text: str
) -> None:
    manifests = load(options, GOOD + SECRET + HEAD + resource)
    [mistake] = manifests.mistakes
    assert mistake.startswith(f"{options.manifests[0]}/a.yaml: cannot use {text}")
    assert len(manifests.resources) == 1
    make_files(manifests, options)


def test_what_is_broken_now_stays_as_it_was_and_goes_with_its_secret(options: Options) -> None:
    target = f"{HEAD}kind: ScrapeTarget\nmetadata: {{name: x}}\nspec: {{static: {{addresses: ['a:1']}}, basicAuth: "
    target += "{username: u, password: {name: slack, key: url}}}\n"
    before = load(options, GOOD + target + SECRET)
    assert before.mistakes == []
    broken = load(options, GOOD.replace("up == 0", "up =") + target + SECRET, before)
    assert {one.name: one.spec for one in broken.resources} == {one.name: one.spec for one in before.resources}
    [mistake] = broken.mistakes
    assert "AlertRule default/good" in mistake
    gone = load(options, GOOD + target, before)
    assert [one.name for one in gone.resources] == ["good"]
    assert "cannot find Secret default/slack" in gone.mistakes[0]


def test_a_stack_that_cannot_be_used_is_the_end_of_it(options: Options) -> None:
    stack = f"{HEAD}kind: MonitoringStack\nmetadata: {{name: main}}\nspec: {{externalLabels: {{'a b': c}}}}\n"
    with pytest.raises(ConfigError, match='"a b" is no label name; use letters'):
        load(options, stack)
    with pytest.raises(ConfigError, match="cannot choose among the MonitoringStacks default/main, default/two: keep"):
        load(options, "".join(f"{HEAD}kind: MonitoringStack\nmetadata: {{name: {name}}}\n" for name in ("main", "two")))


def test_parts_that_listen_everywhere_are_reached_at_loopback() -> None:
    options = Options((Path("x"),), host="0.0.0.0")
    assert (options.listen("server"), options.address("server")) == ("0.0.0.0:9090", "127.0.0.1:9090")
