"""alertmanager.yml: what is read, and that a mistake names its place and its cure."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bellbuoy.alertmanager.config import ConfigError, load_config, to_yaml
from bellbuoy.alertmanager.intervals import TimeInterval

MINIMAL = "route: {receiver: r}\nreceivers: [{name: r}]\n"


def refuse(text: str, *wants: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(text, name="alertmanager.yml")
    for want in wants:
        assert want in str(caught.value)


def test_a_mistake_names_its_place_and_its_cure() -> None:
    refuse("route: {", "cannot read alertmanager.yml")
    refuse("receivers: []", "route: is missing; set it")
    refuse("route: {}\nreceivers: []", "route.receiver: is missing")
    refuse("route: {receiver: x}\nreceivers: [{name: r}]", 'route.receiver: "x" is not among receivers', "use one of r")
    refuse(
        "route: {receiver: r, routes: [{}, {receiver: y}]}\nreceivers: [{name: r}]",
        'route.routes[1].receiver: "y" is not among receivers',
    )
    refuse("route: {receiver: r, matchers: [a=b]}\nreceivers: [{name: r}]", "the root takes every alert")
    refuse("route: {receiver: r, routes: [{matchers: ['=b']}]}\nreceivers: [{name: r}]", "route.routes[0].matchers")
    refuse("route: {receiver: r, routes: [{match_re: {a: '('}}]}\nreceivers: [{name: r}]", "regular expression")
    refuse("route: {receiver: r, group_wiat: 1s}\nreceivers: [{name: r}]", 'did you mean "group_wait"?')
    refuse("route: {receiver: r, group_wait: soon}\nreceivers: [{name: r}]", "route.group_wait", "such as 1h30m")
    refuse("route: {receiver: r, group_by: [..., a]}\nreceivers: [{name: r}]", "groups by all labels")
    refuse("route: {receiver: r, group_interval: 0s}\nreceivers: [{name: r}]", "group_interval cannot be zero")
    refuse(
        "route: {receiver: r, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: r}]",
        'route.routes[0].mute_time_intervals: "x" is not among time_intervals',
    )
    refuse("route: {receiver: r}\nreceivers: [{name: r}, {name: r}]", '"r" stands twice')
    refuse(
        "route: {receiver: r}\nreceivers: [{name: r, slack_configs: [{}]}]",
        "receivers[0].slack_configs[0]: no webhook URL; set api_url",
    )
    refuse(
        "route: {receiver: r}\nreceivers: [{name: r, slack_configs: [{api_url: 'ftp://x/secret'}]}]",
        "receivers[0].slack_configs[0].api_url: is no http or https URL",
    )
    refuse(
        "route: {receiver: r}\nreceivers: [{name: r, webhook_configs: [{url: 'http://x', url_file: y}]}]",
        "needs url or url_file",
    )
    refuse(
        "route: {receiver: r}\nreceivers: [{name: r, pagerduty_configs: [{}]}]",
        "pagerduty_configs is not supported yet; use slack_configs or webhook_configs",
    )
    refuse(
        "route: {receiver: r}\nreceivers: [{name: r, hipchat_configs: [{}]}]",
        "HipChat ended in 2019; use slack_configs",
    )
    refuse(
        "route: {receiver: r}\nreceivers: [{name: r, slack_configs: "
        "[{api_url: 'http://x', text: '{{ range .Alerts }}{{ end }}'}]}]",
        "slack_configs[0].text: cannot fill {{ range .Alerts }}",
    )
    refuse(MINIMAL + "templates: [x]", "templates are not supported")


def test_secrets_never_show() -> None:
    text = """
global:
  slack_api_url: https://hooks.example/T/B/secret1
  http_config: {basic_auth: {username: u, password: secret2}}
route: {receiver: r, group_wait: 90s}
receivers:
- name: r
  webhook_configs: [{url: "http://x/secret3", http_config: {authorization: {credentials: secret4}}}]
"""
    config = load_config(text, name="alertmanager.yml")
    shown = to_yaml(config)
    assert "secret1" not in shown + repr(config)
    assert not any(f"secret{n}" in shown + repr(config) for n in range(1, 5))
    assert "group_wait: 1m30s" in shown
    with pytest.raises(ConfigError) as caught:
        load_config(text.replace("http://x/", "nothing:"), name="alertmanager.yml")
    assert "secret3" not in str(caught.value)


def test_files_are_looked_up_beside_the_configuration() -> None:
    text = """
global: {slack_api_url_file: slack-url}
route: {receiver: r}
receivers: [{name: r, webhook_configs: [{url_file: a/hook, http_config: {tls_config: {ca_file: /etc/ca.pem}}}]}]
"""
    config = load_config(text, name="alertmanager.yml", folder=Path("/etc/bell"))
    assert config.global_.slack_api_url_file == "/etc/bell/slack-url"
    (webhook,) = config.receivers[0].webhook_configs
    assert webhook.url_file == "/etc/bell/a/hook"
    assert webhook.http_config is not None
    assert webhook.http_config.tls_config.ca_file == "/etc/ca.pem"


def interval(text: str) -> TimeInterval:
    config = load_config(MINIMAL + f"time_intervals: [{{name: i, time_intervals: [{text}]}}]", name="alertmanager.yml")
    return config.time_intervals[0]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_time_intervals_hold_when_all_their_parts_do() -> None:
    def check(text: str, moment: str, want: bool) -> None:
        assert interval(text).contains(at(moment)) is want, (text, moment)

    check("{}", "2026-01-05T12:00", True)
    check("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2026-01-05T09:00", True)
    check("{times: [{start_time: '09:00', end_time: '17:00'}]}", "2026-01-05T17:00", False)
    check("{times: [{start_time: '09:00', end_time: '24:00'}]}", "2026-01-05T23:59", True)
    check("{weekdays: ['monday:friday', sunday]}", "2026-01-04T12:00", True)
    check("{weekdays: ['monday:friday']}", "2026-01-10T12:00", False)
    check("{days_of_month: ['-1']}", "2026-02-28T12:00", True)
    check("{days_of_month: ['-1']}", "2026-01-30T12:00", False)
    check("{days_of_month: ['-3:-1', '1:2']}", "2026-01-29T12:00", True)
    check("{days_of_month: ['31']}", "2026-02-28T12:00", False)
    check("{months: ['december:december', '1']}", "2026-01-29T12:00", True)
    check("{years: ['2020:2025']}", "2026-01-29T12:00", False)
    check("{location: Asia/Tokyo, times: [{start_time: '00:00', end_time: '01:00'}]}", "2026-01-05T15:30", True)
    check("{weekdays: [tuesday], location: Asia/Tokyo}", "2026-01-05T15:30", True)


def test_a_time_interval_that_cannot_be_is_refused() -> None:
    def check(text: str, want: str) -> None:
        with pytest.raises(ConfigError, match=want):
            interval(text)

    check("{times: [{start_time: '17:00', end_time: '09:00'}]}", "use two ranges")
    check("{times: [{start_time: '9:00', end_time: '17:00'}]}", "write it as 09:30")
    check("{weekdays: [someday]}", '"someday" is none')
    check("{weekdays: ['friday:monday']}", "must rise")
    check("{days_of_month: ['0']}", "from 1 to 31")
    check("{days_of_month: ['-1:5']}", "from 1 to 31")
    check("{months: ['13']}", "must rise, from 1 to 12")
    check("{location: Mars/Base}", "use a name such as Europe/Berlin")
