"""prometheus.yml is read whole, mistakes are named with place and cure, and secrets are not shown."""

from pathlib import Path

import pytest

from bellbuoy.configuration import ConfigError, parse_size
from bellbuoy.rules import BrokenRule, RuleConfig
from bellbuoy.server import following
from bellbuoy.server.config import Loaded, read_config, read_files, rule_groups

FULL = """
global:
  scrape_interval: 15s
  evaluation_interval: 30s
  external_labels: {cluster: c1, flag: yes}
  sample_limit: 100
rule_files: ["rules/*.yml"]
alerting:
  alertmanagers:
    - static_configs: [{targets: ["127.0.0.1:9093"]}]
      basic_auth: {username: u, password: hush1}
scrape_configs:
  - job_name: web
    scrape_interval: 5s
    metrics_path: /m
    params: {module: [a, b]}
    basic_auth: {username: me, password: hush2}
    http_headers: {X-Key: {secrets: [hush3]}}
    body_size_limit: 10MB
    static_configs:
      - targets: ["a:1", "b:2"]
        labels: {version: 1.10, date: 2024-01-01, on: off}
    relabel_configs:
      - source_labels: [__address__]
        regex: a:(.*)
        target_label: port
        replacement: ${1}
    metric_relabel_configs:
      - {action: drop, source_labels: [__name__], regex: go_.*}
  - job_name: found
    honor_labels: true
    file_sd_configs: [{files: ["t/*.json"]}]
    http_sd_configs: [{url: "http://u:hush4@h/sd", refresh_interval: 1m}]
"""


def test_a_whole_file_is_read_with_the_global_defaults_filled_in() -> None:
    config = read_config(FULL, name="prometheus.yml")
    web, found = config.scrape_configs
    assert (web.scrape_interval, web.scrape_timeout, web.sample_limit, web.body_size_limit) == (5, 5, 100, 10 << 20)
    assert (found.scrape_interval, found.scrape_timeout, found.honor_labels) == (15, 10, True)
    assert web.static_configs[0].labels == {"version": "1.10", "date": "2024-01-01", "on": "off"}
    assert config.global_.external_labels == {"cluster": "c1", "flag": "yes"}
    assert web.settings(None)["metric_relabel_configs"][0]["action"] == "drop"
    assert web.settings(None)["basic_auth"] == {"username": "me", "password": "hush2"}


def test_secrets_are_not_shown() -> None:
    shown = Loaded(read_config(FULL, name="x"), ()).yaml()
    assert "hush" not in shown
    assert "<secret>" in shown
    assert "scrape_interval: 15s" in shown
    again = read_config(shown, name="again")
    assert again.global_ == read_config(FULL, name="x").global_


def check_refused(text: str, *wants: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(text, name="prometheus.yml")
    for want in wants:
        assert want in str(caught.value)


def test_a_mistake_is_named_with_its_place_and_a_cure() -> None:
    job = "scrape_configs: [{job_name: a, %s}]"
    check_refused(job % "scrap_interval: 5s", "scrape_configs[0]", 'did you mean "scrape_interval"?')
    check_refused(job % "kubernetes_sd_configs: [{role: pod}]", "kubernetes_sd_configs", "ScrapeTarget")
    check_refused(job % "consul_sd_configs: []", "use file_sd_configs, http_sd_configs or dns_sd_configs")
    check_refused(job % "scrape_interval: 5", "scrape_configs[0].scrape_interval", "1h30m")
    check_refused(job % "scrape_interval: 5s, scrape_timeout: 10s", "scrape_timeout is longer than scrape_interval")
    check_refused(job % "scrape_timeout: 2m", "scrape_timeout is longer than scrape_interval")
    check_refused(job % "static_configs: [{targets: ['http://x/']}]", "static_configs[0].targets", "write host:port")
    check_refused(job % "relabel_configs: [{action: relabel}]", "relabel_configs[0]", 'unknown action "relabel"')
    check_refused(job % "relabel_configs: [{regex: '('}]", "relabel_configs[0]")
    check_refused(job % "oauth2: {}", "oauth2.client_id: is missing; set it", "oauth2.token_url: is missing")
    oauth2 = "client_id: a, token_url: 'http://x/t'"
    check_refused(job % f"oauth2: {{{oauth2}, client_certificate_key: k}}", "use client_secret_file")
    check_refused(job % f"oauth2: {{{oauth2}}}, basic_auth: {{}}", "basic_auth and oauth2 are both set; keep one")
    check_refused(job % f"oauth2: {{{oauth2}, client_secret: a, client_secret_file: b}}", "keep one of them")
    check_refused(job % "bearer_token: x", "use authorization with credentials")
    check_refused(job % "bearer_token_file: x", "use authorization with credentials_file")
    check_refused(job % "proxy_url: 'socks5://x:1'", "proxy_url", "a proxy is reached by http://host:port")
    check_refused(job % "no_proxy: x", "no_proxy needs proxy_url")
    check_refused(job % "proxy_from_environment: true, proxy_url: 'http://x:1'", "keep one of them")
    check_refused(job % "proxy_connect_header: {a: [b]}", "needs a proxy; set proxy_url")
    check_refused(job % "tls_config: {max_version: TLS11}", "TLS below 1.2 is broken; use TLS12")
    check_refused(job % "tls_config: {min_version: TLS13, max_version: TLS12}", "no version is left")
    check_refused(job % "scrape_protocols: [OpenMetricsText2.0.0]", "scrape_protocols[0]", "is still a draft")
    check_refused(job % "scrape_protocols: [Text]", '"Text" is no scrape protocol; use PrometheusProto')
    check_refused(job % "scrape_protocols: []", "it is empty; name one protocol")
    check_refused(job % "scrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4]", "stands twice")
    check_refused(job % "native_histogram_bucket_limit: -1", "native_histogram_bucket_limit")
    check_refused(job % "dns_sd_configs: [{names: [a], type: A}]", "records of type A have no port; set port")
    legacy = "metric_name_validation_scheme: legacy"
    check_refused(job % f"{legacy}, metric_name_escaping_scheme: allow-utf-8", "change one of them")
    check_refused(job % "scheme: ftp", "scrape_configs[0].scheme", "'http' or 'https'")
    check_refused("scrape_configs: [{job_name: a}, {job_name: a}]", 'job_name "a" stands twice')
    check_refused("scrape_configs: [{}]", "scrape_configs[0].job_name: is missing")
    check_refused("remote_write: []", 'section "remote_write" is not taken')
    check_refused("global: {scrape_interval: 0s}", "scrape_interval must be more than 0")
    check_refused("global: {external_labels: {a-b: c}}", '"a-b" is no label name')
    check_refused("a: [", "cannot read prometheus.yml", "line 1")
    check_refused("global: {}\nglobal: {}", '"global" stands twice')
    check_refused("just text", "prometheus.yml")


def test_all_mistakes_are_said_at_once_without_their_values() -> None:
    text = "scrape_configs: [{job_name: a, basic_auth: {username: u, password: [hush]}, sample_limit: -1}]"
    with pytest.raises(ConfigError) as caught:
        read_config(text, name="x")
    assert "sample_limit" in str(caught.value)
    assert "basic_auth.password" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_an_empty_file_is_a_configuration_without_targets() -> None:
    assert read_config("", name="x").scrape_configs == []


def test_rule_files_are_found_beside_the_file_by_pattern(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    for name in ("b", "a"):
        (tmp_path / "rules" / f"{name}.yml").write_text(
            f"groups: [{{name: {name}, rules: [{{record: r, expr: up}}]}}]", encoding="utf-8"
        )
    path = tmp_path / "prometheus.yml"
    path.write_text("rule_files: ['rules/*.yml']\nglobal: {evaluation_interval: 7s}", encoding="utf-8")
    loaded = read_files(path)
    assert [(group.name, group.interval_seconds) for group in loaded.groups] == [("a", 7), ("b", 7)]
    path.write_text("rule_files: [missing.yml]", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read rule file"):
        read_files(path)
    with pytest.raises(ConfigError, match=r"cannot read .*nothing\.yml"):
        read_files(tmp_path / "nothing.yml")


def test_a_bad_rule_costs_only_itself() -> None:
    text = """
groups:
  - name: g
    labels: {team: a}
    rules:
      - {record: "x:y", expr: "sum(up"}
      - {alert: Bad, expr: up, annotations: {summary: "{{ nope }}"}}
      - {alert: Good, expr: up == 0, for: 5m, labels: {severity: page}}
      - {alert: Odd, expr: up, form: 5m}
      - {record: a, alert: b, expr: up}
      - just text
"""
    (group,) = rule_groups(read_config("", name="x"), {"rules.yml": text})
    broken = [rule for rule in group.rules if isinstance(rule, BrokenRule)]
    (good,) = [rule for rule in group.rules if isinstance(rule, RuleConfig)]
    assert [rule.name for rule in broken] == ["x:y", "Bad", "Odd", "b", 'group "g", rule 6']
    assert "could not parse expression: 1:7: parse error" in broken[0].error
    assert 'unknown function "nope"' in broken[1].error
    assert 'did you mean "for"?' in broken[2].error
    assert (good.labels, good.for_) == ({"team": "a", "severity": "page"}, 300)


def test_a_rule_file_without_the_right_shape_is_refused() -> None:
    config = read_config("", name="x")
    for text, want in (
        ("groups: {}", "groups: "),
        ("grups: []", 'did you mean "groups"?'),
        ("groups: [{name: a}, {name: a}]", 'group "a" stands twice'),
        ("groups: [{name: a, intervall: 5s}]", 'did you mean "interval"?'),
    ):
        with pytest.raises(ConfigError) as caught:
            rule_groups(config, {"rules.yml": text})
        assert want in str(caught.value), text


def test_the_operators_parts_make_a_configuration() -> None:
    parts = {
        "prometheus.yml": b"rule_files: [rules.yml]\nscrape_configs: [{job_name: ns/app}]",
        "rules.yml": b"groups: [{name: g, rules: [{record: r, expr: up}]}]",
        "targets/ns/app": b'[{"targets": ["10.0.0.1:80"], "labels": {"pod": "a"}}]',
    }
    loaded = following.read_parts(parts)
    assert [group.name for group in loaded.groups] == ["g"]
    assert loaded.handed is not None
    (group,) = loaded.handed["ns/app"]
    assert (dict(group.targets[0]), dict(group.labels)) == ({"__address__": "10.0.0.1:80"}, {"pod": "a"})
    assert following.wanted("targets/ns/app")
    assert not following.wanted("alertmanager.yml")
    for broken in ({"rules.yml": b""}, parts | {"targets/ns/app": b"{}"}, parts | {"rules.yml": b"\xff"}):
        with pytest.raises(ConfigError):
            following.read_parts(broken)


def test_sizes_are_powers_of_1024() -> None:
    assert (parse_size("1KB"), parse_size("512MiB"), parse_size("7")) == (1024, 512 << 20, 7)
    with pytest.raises(ValueError, match="write a whole number with a unit"):
        parse_size("1.5GB")


def test_what_is_common_is_said_once() -> None:
    config = read_config(
        """
global:
  scrape_protocols: [PrometheusText0.0.4]
  series_budget: 7
  scrape_native_histograms: true
  extra_scrape_metrics: true
  scrape_failure_log_file: failed.log
  metric_name_validation_scheme: legacy
  metric_name_escaping_scheme: dots
scrape_configs:
  - {job_name: a, native_histogram_min_bucket_factor: 1.1}
  - job_name: b
    series_budget: 9
    scrape_native_histograms: false
    extra_scrape_metrics: false
    metric_name_validation_scheme: utf8
""",
        name="x",
    )
    a, b = (one.settings(Path("/etc/x")) for one in config.scrape_configs)
    assert (a["series_budget"], b["series_budget"]) == (7, 9)
    assert (a["extra_scrape_metrics"], b["extra_scrape_metrics"]) == (True, False)
    assert a["scrape_failure_log_file"] == b["scrape_failure_log_file"] == "/etc/x/failed.log"
    assert (a["legacy_names"], b["legacy_names"]) == (True, False)
    assert a["accept"] == "text/plain;version=0.0.4;q=0.7,*/*;q=0.6"
    assert (a["scrape_native_histograms"], b["scrape_native_histograms"]) == (True, False)
    assert (a["convert_classic_histograms_to_nhcb"], a["native_histogram_min_bucket_factor"]) == (False, 1.1)
    # Who checks names anew escapes them anew, too.
    assert (config.scrape_configs[0].escaping, config.scrape_configs[1].escaping) == ("dots", "allow-utf-8")
