"""Relabel rules do what Prometheus's do: each action by cases, and all of them against a plain statement in Python."""

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bellbuoy._core import Relabeler

Labels = dict[str, str]


def check(rules: list[dict[str, Any]], labels: Labels, want: Labels | None) -> None:
    assert Relabeler(rules).apply(labels) == want


def test_replace_fills_groups_into_value_and_target() -> None:
    labels = {"a": "foo-1", "b": "x"}
    check(
        [{"source_labels": ["a"], "regex": "(.*)-(.*)", "target_label": "c", "replacement": "$2/${1}"}],
        labels,
        labels | {"c": "1/foo"},
    )
    check([{"source_labels": ["a"], "regex": "(\\w+)-.*", "target_label": "l_$1"}], labels, labels | {"l_foo": "foo"})
    check([{"source_labels": ["a", "b"], "target_label": "c"}], labels, labels | {"c": "foo-1;x"})
    check([{"source_labels": ["a"], "regex": "f", "target_label": "c"}], labels, labels)
    check([{"target_label": "c", "replacement": "static"}], labels, labels | {"c": "static"})
    check([{"source_labels": ["none"], "target_label": "b"}], labels, {"a": "foo-1"})


def test_keep_and_drop_look_at_the_whole_value() -> None:
    check([{"action": "keep", "source_labels": ["a"], "regex": "fo"}], {"a": "foo"}, None)
    check([{"action": "keep", "source_labels": ["a"], "regex": "foo|bar"}], {"a": "foo"}, {"a": "foo"})
    check([{"action": "drop", "source_labels": ["a"], "regex": "f.*"}], {"a": "foo"}, None)
    check([{"action": "drop", "source_labels": ["a"], "regex": "f"}], {"a": "foo"}, {"a": "foo"})


def test_keepequal_and_dropequal_compare_with_the_target_label() -> None:
    check(
        [{"action": "keepequal", "source_labels": ["a"], "target_label": "b"}],
        {"a": "1", "b": "1"},
        {"a": "1", "b": "1"},
    )
    check([{"action": "keepequal", "source_labels": ["a"], "target_label": "b"}], {"a": "1", "b": "2"}, None)
    check([{"action": "dropequal", "source_labels": ["a"], "target_label": "b"}], {"a": "1", "b": "1"}, None)
    check([{"action": "dropequal", "source_labels": ["a"], "target_label": "b"}], {"a": "1"}, {"a": "1"})


def test_hashmod_gives_prometheus_s_numbers() -> None:
    # The case of Prometheus's own tests.
    check(
        [{"action": "hashmod", "source_labels": ["c"], "target_label": "d", "modulus": 1000}],
        {"c": "baz"},
        {"c": "baz", "d": "976"},
    )


def test_labelmap_renames_by_the_pattern() -> None:
    labels = {"meta_a": "1", "meta_b": "2", "c": "3"}
    check([{"action": "labelmap", "regex": "meta_(.+)"}], labels, labels | {"a": "1", "b": "2"})
    check([{"action": "labelmap", "regex": "meta_(a)", "replacement": "x_$1"}], labels, labels | {"x_a": "1"})


def test_labeldrop_and_labelkeep_go_by_name() -> None:
    labels = {"aa": "1", "ab": "2", "c": "3"}
    check([{"action": "labeldrop", "regex": "a.*"}], labels, {"c": "3"})
    check([{"action": "labelkeep", "regex": "a.*"}], labels, {"aa": "1", "ab": "2"})


def test_case_is_changed_and_actions_are_written_in_any_case() -> None:
    check([{"action": "lowercase", "source_labels": ["a"], "target_label": "a"}], {"a": "FoO"}, {"a": "foo"})
    check(
        [{"action": "Uppercase", "source_labels": ["a"], "target_label": "b"}], {"a": "FoO"}, {"a": "FoO", "b": "FOO"}
    )


def test_steps_show_each_rule_s_outcome_up_to_the_drop() -> None:
    relabeler = Relabeler(
        [{"target_label": "b", "replacement": "x"}, {"action": "drop", "source_labels": ["a"]}, {"target_label": "c"}]
    )
    assert relabeler.steps({"a": "1"}) == [{"a": "1", "b": "x"}, None]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "explode"}, ["rule 1", "action", "explode", "labelmap"]),
        ({"action": "replace"}, ["rule 1", "target_label is missing"]),
        ({"action": "hashmod", "target_label": "a"}, ["modulus is missing"]),
        ({"action": "keep", "regex": "("}, ["regex", "unclosed group"]),
        ({"action": "labeldrop", "source_labels": ["a"]}, ["source_labels has no meaning for labeldrop"]),
        ({"action": "keepequal", "target_label": "a", "regex": "x"}, ["regex has no meaning"]),
        ({"sourceLabels": ["a"]}, ["sourceLabels is no key", "source_labels"]),
        ({"source_labels": 5, "target_label": "a"}, ["source_labels is 5"]),
        ("keep", ["expected a mapping"]),
    ],
)
def test_a_wrong_rule_is_named_with_its_cure(rule: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        Relabeler([{"action": "keep"}, rule])
    for word in words:
        assert word in str(caught.value)


def plain(rules: list[dict[str, Any]], labels: Labels) -> Labels | None:
    """What relabeling means, rule by rule."""
    labels = {name: value for name, value in labels.items() if value}
    for rule in rules:
        action = rule.get("action", "replace")
        regex = re.compile(rule.get("regex", "(.*)"), re.DOTALL)
        template = re.sub(r"\$(\d)", r"\\g<\1>", rule.get("replacement", "$1"))
        value = rule.get("separator", ";").join(labels.get(name, "") for name in rule.get("source_labels", []))
        target = rule.get("target_label", "")
        match = regex.fullmatch(value)
        update: Labels = {}
        match action:
            case "keep" if not match:
                return None
            case "drop" if match:
                return None
            case "keepequal" if labels.get(target, "") != value:
                return None
            case "dropequal" if labels.get(target, "") == value:
                return None
            case "replace" if match:
                update = {target: match.expand(template)}
            case "lowercase":
                update = {target: value.lower()}
            case "uppercase":
                update = {target: value.upper()}
            case "hashmod":
                low = int.from_bytes(hashlib.md5(value.encode()).digest()[8:], "big")
                update = {target: str(low % rule["modulus"])}
            case "labelmap":
                matches = {name: regex.fullmatch(name) for name in labels}
                update = {found.expand(template): labels[name] for name, found in matches.items() if found}
            case "labeldrop":
                labels = {name: value for name, value in labels.items() if not regex.fullmatch(name)}
            case "labelkeep":
                labels = {name: value for name, value in labels.items() if regex.fullmatch(name)}
        labels = {name: value for name, value in (labels | update).items() if value}
    return labels


NAMES = st.sampled_from(["a", "b", "c", "ab"])
VALUES = st.sampled_from(["", "x", "y", "xy", "X-y", "é\n"])
SOURCES = st.lists(NAMES, max_size=2)
REGEXES = st.sampled_from(["(.*)", "(x)", "(.*)y", "(a|b)", "(.+)-(?:.+)", "()"])
PLAIN_KEYS = {"source_labels": SOURCES, "target_label": NAMES}
RULES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            PLAIN_KEYS
            | {
                "regex": REGEXES,
                "replacement": st.sampled_from(["$1", "q", "$1-z", ""]),
                "separator": st.sampled_from([";", ""]),
            }
        ),
        st.fixed_dictionaries(
            {"action": st.sampled_from(["keep", "drop"]), "source_labels": SOURCES, "regex": REGEXES}
        ),
        st.fixed_dictionaries(
            {"action": st.sampled_from(["keepequal", "dropequal", "lowercase", "uppercase"])} | PLAIN_KEYS
        ),
        st.fixed_dictionaries({"action": st.just("hashmod"), "modulus": st.integers(1, 2**64 - 1)} | PLAIN_KEYS),
        st.fixed_dictionaries(
            {"action": st.just("labelmap"), "regex": st.just("(b)"), "replacement": st.sampled_from(["m_$1", "c"])}
        ),
        st.fixed_dictionaries({"action": st.sampled_from(["labeldrop", "labelkeep"]), "regex": REGEXES}),
    ),
    max_size=5,
)


@settings(deadline=None)  # a busy machine is no failure
@given(RULES, st.dictionaries(NAMES, VALUES))
def test_rules_mean_what_the_plain_statement_says(rules: list[dict[str, Any]], labels: Labels) -> None:
    assert Relabeler(rules).apply(labels) == plain(rules, labels)
