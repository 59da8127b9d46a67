"""Which routes take an alert, what they inherit, and how their groups are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bellbuoy.alertmanager.alerts import fingerprint, format_fingerprint
from bellbuoy.alertmanager.config import load_config
from bellbuoy.alertmanager.matchers import format_matchers, make_matcher, parse_matcher, parse_matchers
from bellbuoy.alertmanager.routing import Route, build_route
from bellbuoy.labels import MatcherError

CONFIG = """
route:
  receiver: default
  group_by: [alertname]
  group_wait: 10s
  labels: {tier: base}
  routes:
  - matchers: [team="db"]
    receiver: db
    group_by: ['...']
    routes:
    - match: {severity: critical}
      receiver: db-pager
      repeat_interval: 1h
      labels: {pager: "yes"}
    - match_re: {severity: warn.*|info}
      group_interval: 1m
  - matchers: ['team=~"a|b", env!="dev"']
    receiver: ab
    continue: true
  - matchers: [severity=critical]
    receiver: pager
receivers: [{name: default}, {name: db}, {name: db-pager}, {name: ab}, {name: pager}]
"""


def tree() -> Route:
    return build_route(load_config(CONFIG, name="alertmanager.yml").route)


def test_an_alert_goes_to_the_deepest_routes_that_take_it() -> None:
    def check(text: str, *want: str) -> None:
        labels = dict(pair.split("=") for pair in text.split())
        assert [route.receiver for route in tree().match(labels)] == list(want), text

    check("alertname=x", "default")
    check("team=db", "db")
    check("team=db severity=critical", "db-pager")
    check("team=db severity=warning", "db")
    check("team=a env=prod", "ab")
    check("team=a env=dev", "default")
    check("team=a severity=critical", "ab", "pager")
    check("severity=critical", "pager")
    check("team=abc", "default")


def test_a_route_inherits_what_it_does_not_say() -> None:
    (pager,) = tree().match({"team": "db", "severity": "critical"})
    assert (pager.group_wait_seconds, pager.group_interval_seconds, pager.repeat_interval_seconds) == (10, 300, 3600)
    assert pager.labels == {"tier": "base", "pager": "yes"}
    (warn,) = tree().match({"team": "db", "severity": "info"})
    assert warn.receiver == "db"
    assert warn.group_labels({"a": "1", "b": "2"}) == {"a": "1", "b": "2"}
    (default,) = tree().match({"alertname": "x", "pod": "p"})
    assert default.group_labels({"alertname": "x", "pod": "p"}) == {"alertname": "x"}


def test_keys_are_alertmanagers() -> None:
    (pager,) = tree().match({"team": "db", "severity": "critical"})
    assert pager.key == '{}/{team="db"}/{severity="critical"}'
    assert pager.id == '{}/{team="db"}/0/{severity="critical"}/0'
    (a,) = tree().match({"team": "a"})
    assert a.key == '{}/{env!="dev",team=~"a|b"}'
    assert len({route.id for route in tree().walk()}) == len(list(tree().walk()))


def test_fingerprints_are_alertmanagers() -> None:
    # FNV-1a's offset basis; the others are compared with Alertmanager's own in test_peers.
    assert format_fingerprint(fingerprint({})) == "cbf29ce484222325"
    assert fingerprint({"a": "b", "c": "d"}) == fingerprint({"c": "d", "a": "b"})
    assert fingerprint({"a": "bc"}) != fingerprint({"ab": "c"})


def test_matchers_are_read_in_both_grammars() -> None:
    def check(text: str, *want: str) -> None:
        assert [f"{m.name}|{m.operator}|{m.value}" for m in parse_matchers(text)] == list(want), text

    check("a=b", "a|=|b")
    check('{a="b", c!=d,}', "a|=|b", "c|!=|d")
    check('a=~"x|y",b!~z', "a|=~|x|y", "b|!~|z")
    check("", *[])
    check("{}", *[])
    check('a="q\\"uo,te\\n"', 'a|=|q"uo,te\n')
    check('"ü.name"="x"', "ü.name|=|x")
    check("ü=x", "ü|=|x")
    check("a=b c", "a|=|b c")
    check('a="\\d"', "a|=|\\d")
    check("a=", "a|=|")


@pytest.mark.parametrize("text", ["=b", "a", "a=b,c", 'a="b', 'a=b"c', "a=~(", "{a=b", 'a==b"', 'x=""y"'])
def test_what_is_no_matcher_is_refused_with_a_cure(text: str) -> None:
    with pytest.raises(MatcherError):
        if parse_matcher(text):
            raise AssertionError(f"{text} was read as {parse_matcher(text)}")


@given(st.text(min_size=1), st.sampled_from(["=", "!="]), st.text())
def test_what_is_printed_is_read_as_the_same(name: str, operator: str, value: str) -> None:
    matcher = make_matcher(name, operator, value)
    if "{" in name or "}" in name:
        return
    assert parse_matchers(format_matchers([matcher])) == (matcher,)
