"""Rule files: groups of recording and alerting rules, read so that one bad rule costs only itself.

The file and its groups must have the right shape, or the whole configuration is refused. A rule inside that cannot be
used (its expression does not parse, a template calls an unknown function) is kept as broken, with the reason: the API
shows it with health `err`, and all others go on.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from bellbuoy import promql
from bellbuoy.configuration import Duration, Strict, load_yaml, mistakes, validate
from bellbuoy.labels import NAME
from bellbuoy.rules.template import Template, TemplateError
from bellbuoy.rules.template_functions import KNOWN

# What Prometheus declares at the head of each template.
VARIABLES = ("$labels", "$externalLabels", "$externalURL", "$value")


class RuleConfig(Strict):
    """One rule, as it stands in a file."""

    record: str = ""
    alert: str = ""
    expr: str = Field(min_length=1)
    for_: Duration = Field(default=0.0, alias="for")
    keep_firing_for: Duration = 0.0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("expr")
    @classmethod
    def _parses(cls, text: str) -> str:
        try:
            promql.parse(text)
        except promql.QueryError as e:
            raise ValueError(f"could not parse expression: {e}") from e
        return text

    @field_validator("labels", "annotations")
    @classmethod
    def _named(cls, pairs: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name in pairs:
            if not name or (name == NAME and info.field_name == "labels"):
                raise ValueError(f'"{name}" cannot be set by a rule; name it otherwise')
        return pairs

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.record and self.alert:
            raise ValueError("only one of record and alert must be set; remove the other")
        if not self.record and not self.alert:
            raise ValueError("one of record and alert must be set; add it")
        if self.record and (self.for_ or self.keep_firing_for or self.annotations):
            raise ValueError(
                "for, keep_firing_for and annotations belong to alerts; remove them from the recording rule"
            )
        if "{" in self.record or "}" in self.record:
            raise ValueError(f'record: "{self.record}" has braces; put selectors and functions into expr')
        if self.alert:
            self.check_templates()
        return self

    def check_templates(self) -> None:
        """Read an alert's texts; of a recording rule labels are just texts. Raises ValueError."""
        for field, pairs in (("labels", self.labels), ("annotations", self.annotations)):
            for name, text in pairs.items():
                try:
                    Template(text, functions=KNOWN, variables=VARIABLES)
                except TemplateError as e:
                    raise ValueError(f"{field}: {name}: cannot read template: {e}") from e


class RuleGroupConfig(Strict):
    """A group: rules that are evaluated in turn, at one interval. Its rules are read one by one."""

    name: str = Field(min_length=1)
    interval: Duration = 0.0
    query_offset: Duration | None = None
    limit: int = Field(default=0, ge=0)
    labels: dict[str, str] = Field(default_factory=dict)
    rules: list[Any] = Field(default_factory=list)

    @field_validator("labels")
    @classmethod
    def _named(cls, pairs: dict[str, str]) -> dict[str, str]:
        for name in pairs:
            if not name or name == NAME:
                raise ValueError(f'"{name}" cannot be set by a group; name it otherwise')
        return pairs


class RuleFile(Strict):
    """A whole file."""

    groups: list[RuleGroupConfig] = Field(default_factory=list)

    @field_validator("groups")
    @classmethod
    def _once(cls, groups: list[RuleGroupConfig]) -> list[RuleGroupConfig]:
        seen: set[str] = set()
        for group in groups:
            if group.name in seen:
                raise ValueError(f'group "{group.name}" stands twice in one file; rename one')
            seen.add(group.name)
        return groups


@dataclass(frozen=True)
class BrokenRule:
    """A rule that cannot be used, and why."""

    name: str
    expr: str
    alerting: bool
    reason: str
    place: str
    """The group, and which of its rules."""

    @property
    def error(self) -> str:
        """Where and why."""
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class LoadedGroup:
    """A group as the manager takes it. Two with the same fingerprint do the same."""

    file: str
    name: str
    interval_seconds: float
    query_offset_seconds: float
    limit: int
    rules: tuple[RuleConfig | BrokenRule, ...]
    fingerprint: str

    @property
    def key(self) -> str:
        """What tells groups apart."""
        return f"{self.file};{self.name}"


def load_groups(
    files: Mapping[str, str], *, interval_seconds: float, query_offset_seconds: float = 0.0
) -> tuple[LoadedGroup, ...]:
    """All groups of the files (name to text). Raises ConfigError when a file has not the right shape."""
    out = []
    for name, text in files.items():
        read = validate(RuleFile, load_yaml(text, name=name), name=name)
        for group in read.groups:
            offset = group.query_offset if group.query_offset is not None else query_offset_seconds
            interval = group.interval or interval_seconds
            rules = tuple(
                _load_rule(rule, group, place=f'group "{group.name}", rule {i + 1}')
                for i, rule in enumerate(group.rules)
            )
            print_ = hashlib.sha256(repr((group, interval, offset)).encode()).hexdigest()
            out.append(LoadedGroup(name, group.name, interval, offset, group.limit, rules, print_))
    return tuple(out)


def _load_rule(data: Any, group: RuleGroupConfig, *, place: str) -> RuleConfig | BrokenRule:
    try:
        rule = RuleConfig.model_validate(data)
    except ValidationError as e:
        found = data if isinstance(data, dict) else {}
        name = str(found.get("alert") or found.get("record") or place)
        return BrokenRule(name, str(found.get("expr", "")), "record" not in found, "; ".join(mistakes(e)), place)
    if not group.labels:
        return rule
    whole = rule.model_copy(update={"labels": {**group.labels, **rule.labels}})
    try:
        if whole.alert:
            whole.check_templates()
    except ValueError as e:
        return BrokenRule(whole.alert, whole.expr, True, f"of the group: {e}", place)
    return whole
