"""The files that `rules test` reads: promtool's, every field of them, checked whole before anything runs."""

import re
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bellbuoy.configuration import Duration, Strict

_YAML_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][+-]?\d+)?")


def _number(value: Any) -> Any:
    """A number as YAML has it: what is none is written `.inf` and `.nan`."""
    if not isinstance(value, str):
        return value
    special = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
    if value.lower() in special:
        return special[value.lower()]
    if not _YAML_NUMBER.fullmatch(value):
        raise ValueError(f'"{value}" is no number of YAML; write digits, .inf or .nan')
    return value.replace("_", "")


def _start(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass  # then it is a date
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except ValueError as e:
        raise ValueError(f'"{value}" is no time; write seconds since 1970, or 2026-01-31T12:00:00Z') from e


class InputSeries(Strict):
    """A series and its values, one an interval."""

    series: str = Field(min_length=1)
    values: str = ""


class ExpectedAlert(Strict):
    """One alert that fires; alertname goes without saying."""

    exp_labels: dict[str, str] = Field(default_factory=dict)
    exp_annotations: dict[str, str] = Field(default_factory=dict)


class AlertTest(Strict):
    """Which alerts of a name fire at a time."""

    eval_time: Duration = 0.0
    alertname: str = Field(min_length=1)
    exp_alerts: list[ExpectedAlert] = Field(default_factory=list)


class ExpectedSample(Strict):
    """One sample of a result; with a histogram the value does not count."""

    labels: str = ""
    value: Annotated[float, BeforeValidator(_number)] = 0.0
    histogram: str = ""


class ExpressionTest(Strict):
    """What an expression gives at a time."""

    expr: str = Field(min_length=1)
    eval_time: Duration = 0.0
    exp_samples: list[ExpectedSample] = Field(default_factory=list)


class TestGroup(Strict):
    """Input, and what is tested over it."""

    name: str = ""
    interval: Duration = 0.0
    start_timestamp: Annotated[float, BeforeValidator(_start)] = 0.0
    input_series: list[InputSeries] = Field(default_factory=list)
    alert_rule_test: list[AlertTest] = Field(default_factory=list)
    promql_expr_test: list[ExpressionTest] = Field(default_factory=list)
    external_labels: dict[str, str] = Field(default_factory=dict)
    external_url: str = ""

    @property
    def last_seconds(self) -> float:
        """The last time that is tested, after the start."""
        alerts = [one.eval_time for one in self.alert_rule_test]
        return max([0.0, *alerts, *(one.eval_time for one in self.promql_expr_test)])


class TestFile(Strict):
    """A whole file."""

    rule_files: list[str] = Field(default_factory=list)
    evaluation_interval: Duration = 0.0
    group_eval_order: list[str] = Field(default_factory=list)
    tests: list[TestGroup] = Field(default_factory=list)
    fuzzy_compare: bool = False

    @field_validator("group_eval_order")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'group "{name}" stands twice; keep one of them')
        return names

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        interval = self.evaluation_interval or 60.0
        for one in self.tests:
            if one.last_seconds / interval > EVALUATIONS_LIMIT:
                raise ValueError(
                    f'test "{one.name}": more than {EVALUATIONS_LIMIT} evaluations up to its last eval_time; '
                    "make evaluation_interval longer"
                )
        return self


# Evaluations of a test; a year at five minutes is fewer.
EVALUATIONS_LIMIT = 200_000
