"""`rules test` and `rules check` give the verdicts of the real promtool, file by file."""

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bellbuoy.configuration import ConfigError
from bellbuoy.durations import parse_duration
from bellbuoy.rules_tools.checking import check
from bellbuoy.rules_tools.unit_tests import run_file
from tests.peers.programs import program

RULES = """
groups:
  - name: recorded
    interval: 30s
    rules:
      - {record: "job:up:sum", expr: "sum by (job) (up)"}
      - {record: "job:up:double", expr: "job:up:sum * 2", labels: {by: rule}}
  - name: alerts
    limit: 3
    rules:
      - alert: Down
        expr: up == 0
        for: 2m
        labels: {severity: page, where: "{{ $externalLabels.region }}"}
        annotations: {summary: "{{ $labels.instance }} of {{ $labels.job }} is down: {{ $value | humanize }}"}
      - {alert: Always, expr: "vector(1)"}
      - {alert: Slow, expr: "rate(hits_total[2m]) < 0.5", annotations: {rate: '{{ printf "%.2f" $value }}'}}
"""
INPUT = """
    interval: 30s
    external_labels: {region: north}
    input_series:
      - {series: 'up{job="a",instance="x"}', values: "1 1 0x20"}
      - {series: 'up{job="a",instance="y"}', values: "1+0x4 _ _x2 stale 1x10"}
      - {series: 'hits_total{job="a"}', values: "0+60x5 400-10x4 .5 1e3 Inf"}
"""
DOWN = """
          - exp_labels: {job: a, instance: x, severity: page, where: north}
            exp_annotations: {summary: "x of a is down: 0"}
"""


def alerts(name: str, at: str, expected: str = " []") -> str:
    return f"    alert_rule_test:\n      - alertname: {name}\n        eval_time: {at}\n        exp_alerts:{expected}\n"


def expression(expr: str, at: str, *samples: str) -> str:
    rows = "".join(f"\n          - {{labels: '{labels}', value: {value}}}" for labels, _, value in
                   (sample.rpartition(" ") for sample in samples))  # fmt: skip
    return (
        f"    promql_expr_test:\n      - expr: '{expr}'\n        eval_time: {at}\n        exp_samples:{rows or ' []'}\n"
    )


CASES = {
    "fires": alerts("Down", "3m", DOWN),
    "is still pending": alerts("Down", "2m30s"),
    "fires too early": alerts("Down", "2m30s", DOWN),
    "has other labels": alerts("Down", "3m", DOWN.replace("page", "mail")),
    "has other annotations": alerts("Down", "3m", DOWN.replace("down: 0", "down: 1")),
    "is not forgotten": alerts("Down", "3m"),
    "is at the start": alerts("Always", "0", "\n          - {}"),
    "does not fire twice": alerts("Always", "0", "\n          - {}\n          - {}"),
    "is unknown": alerts("Nobody", "1m"),
    "is unknown and expected": alerts("Nobody", "1m", "\n          - {}"),
    "slows down": alerts("Slow", "4m", "\n          - {exp_labels: {job: a}, exp_annotations: {rate: '0.00'}}"),
    "sums": expression("job:up:sum", "1m", 'job:up:sum{job="a"} 1'),
    "sums wrongly": expression("job:up:sum", "1m", 'job:up:sum{job="a"} 2'),
    "reads other rules": expression("job:up:double", "1m30s", 'job:up:double{by="rule",job="a"} 2'),
    "ends stale": expression('up{instance="y"}', "4m"),
    "ends before": expression('up{instance="y"}', "3m59s", 'up{instance="y",job="a"} 1'),
    "counts samples": expression("count_over_time(hits_total[10m])", "6m", '{job="a"} 13'),
    "has a subquery": expression("max_over_time(job:up:sum[4m:])", "4m", '{job="a"} 2'),
    "is infinite": expression("hits_total", "6m30s", 'hits_total{job="a"} .inf'),
    "is Go's infinite": expression("hits_total", "6m30s", 'hits_total{job="a"} Inf'),
    "is a scalar": expression("scalar(job:up:sum) + time()", "1m", "{} 61"),
    "is a text": expression('"text"', "1m"),
    "cannot be parsed": expression("sum(", "1m"),
    "has a sample too many": expression("up", "0", 'up{instance="x",job="a"} 1'),
    "names pending alerts": expression(
        "ALERTS", "2m", 'ALERTS{alertname="Always",alertstate="firing"} 1',
        'ALERTS{alertname="Down",alertstate="pending",instance="x",job="a",severity="page",where="north"} 1',
    ),
}  # fmt: skip


def write(folder: Path, name: str, body: str, *, rules: str = RULES, head: str = "") -> Path:
    (folder / f"{name}-rules.yml").write_text(rules, encoding="utf-8")
    path = folder / f"{name}.yml"
    top = f"rule_files: ['{name}-rul*.yml']\nevaluation_interval: 30s\n{head}"
    path.write_text(f"{top}tests:\n  - name: {name}\n{INPUT.strip(chr(10))}\n{body}", encoding="utf-8")
    return path


def test_files_pass_and_fail_as_in_promtool(tmp_path: Path) -> None:
    paths = [write(tmp_path, name.replace(" ", "-"), body) for name, body in CASES.items()]
    many = "\n".join(f"- {{alert: Many, expr: up, labels: {{n: '{n}'}}}}" for n in range(2))
    broken = f"groups:\n- name: g\n  limit: 1\n  rules:\n{many}\n"
    paths.append(write(tmp_path, "rule-fails", alerts("Always", "0"), rules=broken))
    paths.append(
        write(tmp_path, "rule-is-broken", alerts("Always", "0"), rules=broken.replace("expr: up", "expr: sum("))
    )
    paths.append(
        write(tmp_path, "order-repeats", alerts("Nobody", "0"), head="group_eval_order: [recorded, recorded]\n")
    )
    paths.append(write(tmp_path, "ordered", CASES["sums"], head="group_eval_order: [alerts, recorded]\n"))
    paths.append(write(tmp_path, "bad-series", CASES["sums"]))
    paths[-1].write_text(paths[-1].read_text().replace("1+0x4", "1+0y4"))
    paths.append(write(tmp_path, "unknown-field", CASES["sums"] + "    promql_expr_tests: []\n"))
    command = [program("promtool"), "test", "rules", *map(str, paths)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    theirs = dict(re.findall(r"(?:Unit Testing|test file): +(\S+)\n((?: +SUCCESS)?)", said))
    assert set(theirs) == set(map(str, paths))
    wrong = []
    for path in paths:
        ours = run(path)
        if (ours == "") != bool(theirs[str(path)]):
            wrong.append((path.name, ours))
    assert wrong == []
    assert 8 < sum(map(bool, theirs.values())) < len(paths) - 8


def run(path: Path) -> str:
    """What we say against a file."""
    try:
        return "; ".join(run_file(path).errors)
    except ConfigError as e:
        return str(e)


@pytest.mark.parametrize(
    ("rule", "ours"),
    [
        ("{record: a, expr: up}", ""),
        ("{record: a, alert: b, expr: up}", "only one of record and alert"),
        ("{expr: up}", "one of record and alert must be set"),
        ("{record: a}", "expr: is missing"),
        ("{record: a, expr: 'sum('}", "could not parse"),
        ("{record: a, expr: up, for: 1m}", "belong to alerts"),
        ("{record: a, expr: up, annotations: {x: y}}", "belong to alerts"),
        ("{record: a, expr: up, labels: {x: '{{ nothing'}}", ""),
        ("{record: a, expr: up, labels: {__name__: b}}", "cannot be set by a rule"),
        ("{record: 'a{b=\"c\"}', expr: up}", "braces"),
        ("{alert: a, expr: up, labels: {x: '{{ nothing'}}", "cannot read template"),
        ("{alert: a, expr: up, annotations: {x: '{{ nofunction 1 }}'}}", "unknown function"),
        ('{alert: a, expr: up, annotations: {x: \'{{ define "t" }}{{ . }}{{ end }}{{ template "t" 1 }}\'}}', ""),
        ("{alert: a, expr: up, for: 5x}", "cannot read duration"),
        ("{alert: a, expr: up, severity: page}", "unknown field"),
    ],
)
def test_what_promtool_refuses_we_refuse_and_say_why(tmp_path: Path, rule: str, ours: str) -> None:
    text = f"groups: [{{name: g, rules: [{rule}]}}]\n"
    path = tmp_path / "rules.yml"
    path.write_text(text, encoding="utf-8")
    found = check(text, name=str(path))
    done = subprocess.run([program("promtool"), "check", "rules", str(path)], capture_output=True, check=False)
    assert bool(found.errors) == bool(done.returncode)
    if ours:
        (error,) = found.errors
        assert error.startswith(f'{path}: group "g", rule 1')
        assert ours in error
    else:
        assert (found.errors, found.rules) == ([], 1)


def test_a_file_of_the_wrong_shape_is_refused_whole_and_rules_that_meet_are_odd() -> None:
    assert 'group "g" stands twice' in check("groups: [{name: g}, {name: g}]", name="f").errors[0]
    assert "unknown field" in check("grups: []", name="f").errors[0]
    twice = check("groups: [{name: g, rules: [{record: a, expr: up}, {record: a, expr: down}]}]", name="f")
    assert (twice.errors, len(twice.oddities)) == ([], 1)
    assert check("groups: [{name: g, rules: [{record: a, expr: up}]}]", name="f", lint="all").oddities == []


def random_tests(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rules with every `for` and `keep_firing_for`, and series that come and go; nothing expected yet."""
    chance = random.Random(seed)
    rules = [
        {"alert": f"A{hold}x{keep}", "expr": "level > 0", "for": f"{hold}s", "keep_firing_for": f"{keep}s"}
        for hold in (0, 30, 75)
        for keep in (0, 30, 75)
    ]
    rules += [{"record": "firing", "expr": 'count by (alertname) (ALERTS{alertstate="firing"})'}]
    series = []
    for host in "abc":
        values = [chance.choice(["0", "1", "1", "2", "_", "stale"]) for _ in range(30)]
        series.append({"series": f'level{{host="{host}"}}', "values": " ".join(values)})
    return {"groups": [{"name": "g", "rules": rules}]}, {"interval": "15s", "input_series": series}


def test_alerts_come_and_go_as_in_promtool(tmp_path: Path) -> None:
    rules, test = random_tests(7)
    (tmp_path / "rules.yml").write_text(json.dumps(rules), encoding="utf-8")
    names = [rule["alert"] for rule in rules["groups"][0]["rules"] if "alert" in rule]
    times = [f"{at}s" for at in range(0, 450, 15)]
    path = tmp_path / "test.yml"

    def write_file(expected: dict[tuple[str, str], list[dict[str, str]]]) -> None:
        alerts = [
            {"eval_time": at, "alertname": name, "exp_alerts": [{"exp_labels": one} for one in expected[name, at]]}
            for name in names
            for at in times
        ]
        body = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": "15s",
            "tests": [{**test, "alert_rule_test": alerts}],
        }
        path.write_text(json.dumps(body), encoding="utf-8")

    nothing: dict[tuple[str, str], list[dict[str, str]]] = {(name, at): [] for name in names for at in times}
    write_file(nothing)
    for error in run_file(path).errors:
        found = re.search(r"alert (\w+) at (\w+):", error)
        assert found is not None, error
        at = f"{round(parse_duration(found[2]))}s"
        nothing[found[1], at] = [{"host": host} for host in re.findall(r'host="(\w)"', error)]
    write_file(nothing)
    assert run_file(path).errors == []
    assert sum(map(len, nothing.values())) > 100
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
