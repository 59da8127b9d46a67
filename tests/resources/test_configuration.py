"""What a stack takes becomes prometheus.yml, rules.yml and alertmanager.yml, bound to namespaces where it must be."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bellbuoy import alertmanager
from bellbuoy.configuration import ConfigError, validate
from bellbuoy.resources import (
    Layout,
    Resource,
    alertmanager_config,
    prometheus_config,
    rule_file,
    secret_uses,
    to_yaml,
)
from bellbuoy.resources.binding import bound_expression
from bellbuoy.scrape.config import ScrapeConfig
from tests import slack_server
from tests.alertmanager.conftest import running
from tests.resources.objects import resource, selection

ALL = {"selects": {"namespaces": {"from": "All"}}}
LAYOUT = Layout(
    secrets_folder="/secrets",
    alertmanagers=["main-alertmanager.shop.svc:9093"],
    sd_url="https://operator:8443/v1/stacks/shop/main",
    token_file="/operator/token",
    ca_file="/operator/ca.crt",
)
WEB: dict[str, Any] = {"pods": {"selector": {}}}


def jobs(*resources: Resource[Any], stack: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    config = prometheus_config(selection(*resources, stack=stack), LAYOUT)
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_every_pool_asks_the_operator_for_its_targets() -> None:
    made = jobs(resource("ScrapeTarget", "web", WEB))
    assert list(made) == ["server", "alertmanager", "pushgateway", "node", "cadvisor", "shop.web"]
    assert made["shop.web"]["http_sd_configs"] == [
        {
            "url": "https://operator:8443/v1/stacks/shop/main/targets/shop.web",
            "refresh_interval": "5s",
            "authorization": {"type": "Bearer", "credentials_file": "/operator/token"},
            "tls_config": {"ca_file": "/operator/ca.crt"},
        }
    ]
    assert made["pushgateway"]["honor_labels"] is True


def test_kubelets_are_asked_with_the_servers_own_token_unless_the_stack_says_no() -> None:
    job = jobs()["cadvisor"]
    assert (job["scheme"], job["metrics_path"]) == ("https", "/metrics/cadvisor")
    assert job["authorization"]["credentials_file"].endswith("/serviceaccount/token")
    assert job["tls_config"]["insecure_skip_verify"] is True
    assert (
        "insecure_skip_verify" not in jobs(stack={"kubelet": {"insecureSkipVerify": False}})["cadvisor"]["tls_config"]
    )
    assert "cadvisor" not in jobs(stack={"kubelet": {"cadvisor": False}})


def test_our_own_server_takes_every_job() -> None:
    key = {"name": "s", "key": "k"}
    spec = {
        **WEB,
        "scheme": "https",
        "interval": "5s",
        "params": {"module": ["a", "b"]},
        "honorLabels": True,
        "honorTimestamps": False,
        "followRedirects": False,
        "fallbackProtocol": "PrometheusText0.0.4",
        "seriesBudget": 1,
        "basicAuth": {"username": "u", "password": key},
        "tls": {"ca": key, "cert": key, "key": key, "serverName": "x", "insecureSkipVerify": True},
        "limits": {
            "targets": 1,
            "samples": 2,
            "labels": 3,
            "labelNameLength": 4,
            "labelValueLength": 5,
            "bodyBytes": 6,
        },
        "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "go_.*", "action": "drop"}],
    }
    for job in jobs(resource("ScrapeTarget", "web", spec)).values():
        assert validate(ScrapeConfig, {**job}, name="job").job_name == job["job_name"]


def test_a_budget_and_a_fallback_are_the_pools_own_and_absent_unless_asked_for() -> None:
    def check(spec: dict[str, Any], want: dict[str, Any]) -> None:
        job = jobs(resource("ScrapeTarget", "web", {**WEB, **spec}))["shop.web"]
        assert {key: job[key] for key in ("series_budget", "fallback_scrape_protocol") if key in job} == want

    check({}, {})
    check({"seriesBudget": 0}, {})
    check({"seriesBudget": 500, "limits": {"samples": 500}}, {"series_budget": 500})
    check({"fallbackProtocol": "OpenMetricsText1.0.0"}, {"fallback_scrape_protocol": "OpenMetricsText1.0.0"})
    with pytest.raises(ConfigError, match=r"seriesBudget is more than limits\.samples.*lower it"):
        resource("ScrapeTarget", "web", {**WEB, "seriesBudget": 501, "limits": {"samples": 500}})
    with pytest.raises(ConfigError, match="fallbackProtocol"):
        resource("ScrapeTarget", "web", {**WEB, "fallbackProtocol": "text"})


def test_secrets_are_named_as_files_and_never_held() -> None:
    target = resource(
        "ScrapeTarget", "web", {**WEB, "authorization": {"credentials": {"name": "token", "key": "value"}}}
    )
    (use,) = secret_uses(target)
    assert (use.namespace, use.name, use.key) == ("shop", "token", "value")
    job = jobs(target)["shop.web"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": f"/secrets/{use.file}"}


def test_a_scrape_that_is_more_frequent_than_its_timeout_gets_a_shorter_one() -> None:
    assert jobs(resource("ScrapeTarget", "web", {**WEB, "interval": "5s"}))["shop.web"]["scrape_timeout"] == "5s"
    assert "scrape_timeout" not in jobs(resource("ScrapeTarget", "web", {**WEB, "interval": "30s"}))["shop.web"]
    assert (
        jobs(resource("ScrapeTarget", "web", WEB), stack={"scrapeInterval": "2s"})["shop.web"]["scrape_timeout"] == "2s"
    )


def test_series_of_a_foreign_namespace_keep_its_label_whatever_the_scrape_says() -> None:
    spec = {**WEB, "honorLabels": True, "metricRelabelings": [{"targetLabel": "namespace", "replacement": "shop"}]}
    foreign = jobs(resource("ScrapeTarget", "web", spec, namespace="other"), stack=ALL)["other.web"]
    assert foreign["metric_relabel_configs"][-1] == {
        "target_label": "namespace",
        "replacement": "other",
        "action": "replace",
    }
    own = jobs(resource("ScrapeTarget", "web", spec))["shop.web"]
    assert len(own["metric_relabel_configs"]) == 1


def test_a_rule_is_a_group_of_its_own() -> None:
    alert = resource(
        "AlertRule",
        "down",
        {"expr": "up == 0", "for": "5m", "interval": "30s", "labels": {"team": "a"}, "annotations": {"summary": "s"}},
    )
    record = resource("RecordingRule", "sum", {"record": "job:up:sum", "expr": "sum by (job) (up)"})
    assert rule_file(selection(alert, record)).content == {
        "groups": [
            {"name": "shop.sum", "rules": [{"record": "job:up:sum", "expr": "sum by (job) (up)"}]},
            {
                "name": "shop.down",
                "interval": "30s",
                "rules": [
                    {
                        "alert": "down",
                        "expr": "up == 0",
                        "for": "5m",
                        "labels": {"severity": "warning", "team": "a"},
                        "annotations": {"summary": "s"},
                    }
                ],
            },
        ]
    }


def test_a_rule_that_cannot_be_parsed_is_left_out_and_the_others_stay() -> None:
    good = resource("AlertRule", "good", {"expr": "up == 0"})
    bad = resource("AlertRule", "bad", {"expr": "sum("})
    made = rule_file(selection(good, bad), check=bound_expression)
    assert [group["name"] for group in made.content["groups"]] == ["shop.good"]
    refusal = made.refusals["AlertRule", "shop.bad"]
    assert refusal.reason == "InvalidExpression"
    assert "1:5" in refusal.message


def test_two_rules_of_one_name_do_not_cost_the_whole_file() -> None:
    alert = resource("AlertRule", "busy", {"expr": "up == 0"})
    record = resource("RecordingRule", "busy", {"record": "a:b", "expr": "up"})
    made = rule_file(selection(alert, record), check=bound_expression)
    assert [group["name"] for group in made.content["groups"]] == ["shop.busy"]
    assert made.refusals["AlertRule", "shop.busy"].message == (
        "RecordingRule shop/busy has the same name: rename one of them"
    )


@pytest.mark.parametrize(
    ("expr", "want"),
    [
        ("up", 'up{namespace="other"}'),
        ('up{namespace="shop"}', 'up{namespace="other",namespace="shop"}'),
        ('{__name__=~".+"}', '{namespace="other",__name__=~".+"}'),
        ("sum(rate(a[5m])) / b", 'sum(rate(a{namespace="other"}[5m])) / b{namespace="other"}'),
        ("max_over_time(a[1h:5m] offset 1m) > 1", 'max_over_time(a{namespace="other"}[1h:5m] offset 1m) > 1'),
        ("absent(a) or vector(1)", 'absent(a{namespace="other"}) or vector(1)'),
    ],
)
def test_a_foreign_rule_reads_its_own_namespace_only(expr: str, want: str) -> None:
    assert bound_expression(expr, "other") == want
    assert bound_expression(expr, "") == expr


def test_a_foreign_alert_speaks_for_its_own_namespace() -> None:
    rule = resource("AlertRule", "down", {"expr": "up", "labels": {"namespace": "shop"}}, namespace="other")
    (group,) = rule_file(selection(rule, stack=ALL), check=bound_expression).content["groups"]
    assert group["rules"][0]["labels"]["namespace"] == "other"
    assert group["rules"][0]["expr"] == 'up{namespace="other"}'


SLACK = {"slack": {"webhook": {"name": "slack", "key": "url"}, "channel": "#ops"}}


def test_each_receiver_has_a_route_that_lets_others_see_the_alert() -> None:
    slack = resource("AlertReceiver", "ops", {**SLACK, "matchers": ['severity="critical"']})
    hook = resource("AlertReceiver", "hook", {"webhook": {"url": "http://hook.example.org/"}, "groupWait": "1s"})
    config = alertmanager_config(selection(slack, hook), LAYOUT)
    assert config["route"]["receiver"] == "nobody"
    first, second = config["route"]["routes"]
    assert (first["receiver"], first["group_wait"], first["continue"]) == ("shop.hook", "1s", True)
    assert (second["receiver"], second["matchers"], second["continue"]) == ("shop.ops", ['severity="critical"'], True)
    nobody, hooks, slacks = config["receivers"]
    assert nobody == {"name": "nobody"}
    assert hooks["webhook_configs"] == [{"send_resolved": True, "url": "http://hook.example.org/"}]
    (use,) = secret_uses(slack)
    assert slacks["slack_configs"] == [
        {"api_url_file": f"/secrets/{use.file}", "send_resolved": True, "channel": "#ops"}
    ]


async def test_slack_is_told_of_an_end_unless_the_receiver_says_no(tmp_path: Path) -> None:
    timing = {"groupWait": "0s", "groupInterval": "100ms"}
    receivers = [
        resource("AlertReceiver", "default", {"slack": {**SLACK["slack"], "channel": "#default"}, **timing}),
        resource(
            "AlertReceiver",
            "quiet",
            {"slack": {**SLACK["slack"], "channel": "#quiet"}, "sendResolved": False, **timing},
        ),
    ]
    layout = replace(LAYOUT, secrets_folder=str(tmp_path))
    config = tmp_path / "alertmanager.yml"
    config.write_text(to_yaml(alertmanager_config(selection(*receivers), layout)))
    async with slack_server.running() as slack:
        for one in receivers:
            (use,) = secret_uses(one)
            (tmp_path / use.file).write_text(slack.url)
        options = alertmanager.Options(config_file=config, storage_path=tmp_path / "state", listen="127.0.0.1:0")
        async with running(options) as alerting:
            await alerting.fire("Down")
            await slack.wait_for(2)
            await alerting.resolve("Down")
            await slack.wait_for(3)
            # Five more looks at the group of the other one.
            await asyncio.sleep(0.5)
    assert sorted((one["channel"], "resolved" in one["text"]) for one in slack.messages) == [
        ("#default", False),
        ("#default", True),
        ("#quiet", False),
    ]
    assert slack.refused == []


def test_a_receiver_of_a_foreign_namespace_takes_its_alerts_only() -> None:
    foreign = resource("AlertReceiver", "ops", SLACK, namespace="other")
    (route,) = alertmanager_config(selection(foreign, stack=ALL), LAYOUT)["route"]["routes"]
    assert route["matchers"] == ['namespace="other"']


def test_a_rule_that_names_a_receiver_gets_there_once() -> None:
    receiver = resource("AlertReceiver", "ops", {**SLACK, "matchers": ['severity="critical"']})
    rule = resource("AlertRule", "down", {"expr": "up", "receivers": ["ops"]})
    (route,) = alertmanager_config(selection(receiver, rule), LAYOUT)["route"]["routes"]
    assert [(below["receiver"], below.get("matchers"), "continue" in below) for below in route["routes"]] == [
        ("shop.ops", ['severity="critical"'], False),
        ("shop.ops", ['alertname="down"'], False),
        ("nobody", None, False),
    ]
