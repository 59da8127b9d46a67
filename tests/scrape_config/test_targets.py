"""What discovery finds becomes what is scraped; what is dropped says why."""

from typing import Any

import pytest

from bellbuoy.scrape import PoolTargets, ScrapeConfig, build_targets, read_groups
from bellbuoy.scrape.targets import static_group


def config(**fields: Any) -> ScrapeConfig:
    return ScrapeConfig.model_validate({"job_name": "job", "scrape_interval": "15s", "scrape_timeout": "10s", **fields})


def build(found: list[Any], **fields: Any) -> PoolTargets:
    return build_targets(config(**fields), read_groups(found, source="test"))


def test_a_plain_address_gets_job_and_instance() -> None:
    made = build([{"targets": ["h:9100"], "labels": {"zone": "a", "none": ""}}])
    (target,) = made.active
    assert target.url == "http://h:9100/metrics"
    assert target.labels == {"job": "job", "instance": "h:9100", "zone": "a"}
    assert target.discovered == {
        "__address__": "h:9100", "__metrics_path__": "/metrics", "__scheme__": "http", "__scrape_interval__": "15s",
        "__scrape_timeout__": "10s", "job": "job", "zone": "a", "__scrape_native_histograms__": "false",
        "__always_scrape_classic_histograms__": "false", "__convert_classic_histograms_to_nhcb__": "false",
    }  # fmt: skip
    assert (target.interval_seconds, target.timeout_seconds) == (15, 10)


def test_labels_set_the_url_the_times_and_the_parameters() -> None:
    rules = [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"target_label": "__address__", "replacement": "prober:9115"},
        {"target_label": "__scheme__", "replacement": "https"},
        {"target_label": "__metrics_path__", "replacement": "probe"},
        {"target_label": "__scrape_interval__", "replacement": "1m"},
        {"target_label": "job", "replacement": "other"},
    ]
    made = build([{"targets": ["example.com"]}], params={"module": ["http", "b c"]}, relabel_configs=rules)
    (target,) = made.active
    assert target.url == "https://prober:9115/probe?module=http&module=b+c&target=example.com"
    assert target.interval_seconds == 60
    assert target.labels == {"job": "other", "instance": "prober:9115"}


def test_a_target_may_say_of_histograms_what_its_configuration_does_not() -> None:
    convert = {"target_label": "__convert_classic_histograms_to_nhcb__", "replacement": "t"}
    rules = [
        {"source_labels": ["native"], "regex": "(.+)", "target_label": "__scrape_native_histograms__"},
        {"source_labels": ["native"], "regex": "F", **convert},
    ]
    found = [{"targets": ["a:1"]}, {"targets": ["b:1"], "labels": {"native": "F"}}]
    a, b = build(found, relabel_configs=rules, scrape_native_histograms=True).active
    said = [
        [one.for_core()[f"{field}_histograms{rest}"] for field, rest in
         (("scrape_native", ""), ("always_scrape_classic", ""), ("convert_classic", "_to_nhcb"))]
        for one in (a, b)
    ]  # fmt: skip
    assert said == [[True, False, False], [False, False, True]]


def test_a_dropped_target_says_by_what() -> None:
    rules = [{"action": "keep", "source_labels": ["app"], "regex": "web"}]
    bad: list[tuple[dict[str, str], str]] = [
        ({"app": "db"}, "relabel_configs[0] (action keep) drops it"),
        ({"app": "web", "__address__": ""}, "no __address__"),
        ({"app": "web", "__scheme__": "ftp"}, "neither http nor https"),
        ({"app": "web", "__scrape_interval__": "x"}, "cannot read duration"),
        ({"app": "web", "__scrape_timeout__": "1h"}, "not longer than __scrape_interval__"),
        ({"app": "web", "__scrape_native_histograms__": "yes"}, "neither true nor false"),
    ]
    for labels, want in bad:
        groups = (static_group("s", ["h:1"] if "__address__" not in labels else [""], labels),)
        made = build_targets(config(relabel_configs=rules), groups)
        assert not made.active
        assert want in made.dropped[0].reason
        assert made.dropped_count == 1


def test_dropped_targets_are_remembered_within_a_bound_and_all_counted() -> None:
    rules = [{"action": "drop", "source_labels": ["__address__"], "regex": ".*"}]
    found = [{"targets": [f"h:{i}" for i in range(50)]}]
    made = build(found, relabel_configs=rules, keep_dropped_targets=7)
    assert (len(made.dropped), made.dropped_count) == (7, 50)


def test_equal_targets_are_one_and_a_limit_keeps_the_first() -> None:
    made = build([{"targets": ["a:1", "b:1", "a:1", "c:1"]}], target_limit=2)
    assert [target.url for target in made.active] == ["http://a:1/metrics", "http://b:1/metrics"]
    assert made.dropped[0].reason == "target_limit of 2 is reached"


def test_what_the_operator_says_of_a_pod_becomes_flags() -> None:
    labels = {"__bellbuoy_every_second__": "true", "__bellbuoy_not_ready__": "true", "pod": "a"}
    made = build([{"targets": ["h:1"], "labels": labels}], relabel_configs=[{"action": "labelmap", "regex": "__(.+)"}])
    target = made.active[0].for_core()
    assert (target["every_second"], target["not_ready"], target["terminating"]) == (True, True, False)
    assert not [name for name in target["labels"] if "bellbuoy" in name]


def test_a_list_of_targets_with_another_shape_is_refused() -> None:
    for found, want in (
        ({}, "must be a list"),
        ([1], r"\[0\]: it must be an object"),
        ([{"targets": "a"}], r"\[0\].targets"),
        ([{"targets": [], "labels": {"a": 1}}], r"\[0\].labels"),
        ([{"targets": [], "more": 1}], "targets and labels only"),
    ):
        with pytest.raises(ValueError, match=want):
            read_groups(found, source="x")
