"""Templates of labels and annotations give what Prometheus's would."""

from typing import Any

import pytest

from bellbuoy.rules.config import VARIABLES
from bellbuoy.rules.go_format import format_value, sprintf
from bellbuoy.rules.template import Template, TemplateError
from bellbuoy.rules.template_functions import KNOWN, functions

LABELS = {"instance": "web-1.example.com:9100", "job": "web", "empty": ""}


def expand(text: str, *, value: float = 0.1234, samples: list[dict[str, Any]] | None = None) -> str:
    table = functions(query=lambda _: samples or [], external_url="http://buoy:9090/x")
    variables = {
        "$labels": LABELS,
        "$externalLabels": {"cluster": "c1"},
        "$externalURL": "http://buoy:9090/x",
        "$value": value,
    }
    dot = {"Labels": LABELS, "ExternalLabels": {"cluster": "c1"}, "ExternalURL": "", "Value": value}
    return Template(text, functions=KNOWN, variables=VARIABLES).expand(functions=table, variables=variables, dot=dot)


def check(text: str, want: str, **more: Any) -> None:
    assert expand(text, **more) == want, text


def test_a_template_fills_in_labels_and_value() -> None:
    check("plain text", "plain text")
    check("{{ $labels.job }} at {{ $value }}", "web at 0.1234")
    check("{{ .Labels.job }}/{{ .Value }}", "web/0.1234")
    check("{{$labels.missing}}|", "|")
    check("{{ $externalLabels.cluster }} {{ $externalURL }}", "c1 http://buoy:9090/x")
    check("a {{- /* remark */ -}} b", "ab")
    check("a {{- $labels.job -}} b", "awebb")


def test_numbers_are_made_readable_as_in_prometheus() -> None:
    check("{{ humanize $value }}", "123.4m")
    check("{{ 1234567.0 | humanize }}", "1.235M")
    check("{{ humanize 0 }}", "0")
    check("{{ humanize1024 1048576.0 }}", "1Mi")
    check("{{ $value | humanizePercentage }}", "12.34%")
    check("{{ humanizeDuration 0 }} {{ humanizeDuration 90 }}", "0s 1m 30s")
    check("{{ humanizeDuration 86400 }} {{ humanizeDuration -3661 }}", "1d 0h 0m 0s -1h 1m 1s")
    check("{{ humanizeDuration 0.0123 }} {{ humanizeDuration 1.5 }}", "12.3ms 1.5s")
    check("{{ humanizeTimestamp 1435065584.128 }}", "2015-06-23 13:19:44.128 +0000 UTC")


def test_printf_follows_go() -> None:
    check('{{ printf "%.2f" $value }}', "0.12")
    check('{{ $value | printf "%.1f%%" }}', "0.1%")
    check('{{ printf "%s-%q" $labels.job "x" }}', 'web-"x"')
    check('{{ printf "%d" $value }}', "%!d(float64=0.1234)")
    check('{{ printf "%5d|%-5d|%05d" 42 42 42 }}', "   42|42   |00042")
    check('{{ printf "%v %v" $value }}', "0.1234 %!v(MISSING)")
    check('{{ printf "x" 1 }}', "x%!(EXTRA int=1)")
    assert sprintf("%s", 1.5) == "%!s(float64=1.5)"


def test_conditions_loops_and_variables_work() -> None:
    check("{{ if gt $value 0.1 }}high{{ else }}low{{ end }}", "high")
    check("{{ if eq $labels.job `db` }}db{{ else if eq $labels.job `web` }}web{{ else }}other{{ end }}", "web")
    check("{{ with $labels.empty }}x{{ else }}none{{ end }}", "none")
    check("{{ range $k, $v := $externalLabels }}{{ $k }}={{ $v }};{{ end }}", "cluster=c1;")
    check("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2")
    check("{{ and $labels.job 5 }} {{ or $labels.empty `y` }} {{ not $labels.empty }}", "5 y true")
    check("{{ (index $labels `job`) | title }} {{ `HTTP down` | title }}", "Web HTTP Down")


def test_templates_may_have_names_and_loops_may_be_left() -> None:
    check('{{ define "x" }}<{{ . }}>{{ end }}{{ template "x" $labels.job }}{{ template "x" }}', "<web><<no value>>")
    check('{{ block "b" 5 }}{{ . }}{{ end }}|{{ template "b" 6 }}', "5|6")
    rows = [{"Labels": {"i": str(i)}, "Value": float(i)} for i in range(5)]
    text = (
        '{{ range query "x" }}{{ if eq .Value 1.0 }}{{ continue }}{{ end }}{{ if eq .Value 3.0 }}{{ break }}{{ end }}'
    )
    check(text + "{{ .Labels.i }}{{ end }}", "02", samples=rows)
    with pytest.raises(TemplateError, match="inside of each other"):
        expand('{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}')


def test_times_and_durations_have_fields_and_print_as_in_go() -> None:
    check("{{ 1435065584.128 | toTime }}", "2015-06-23 13:19:44.128 +0000 UTC")
    check("{{ (1435065584 | toTime).Year }} {{ (toTime 0).Weekday }}", "2015 Thursday")
    check("{{ toDuration 3723.5 }} {{ toDuration 0.0015 }} {{ toDuration 0 }}", "1h2m3.5s 1.5ms 0s")
    check("{{ humanizeDuration (toDuration 90) }} {{ (toDuration 90).Minutes }}", "1m 30s 1.5")
    check("{{ now }}", "0")
    check("{{ parseDuration `-1h` }}", "-3600")
    with pytest.raises(TemplateError, match="overflows int64"):
        expand("{{ toTime 1e30 }}")
    with pytest.raises(TemplateError, match="can't evaluate field Nope"):
        expand("{{ (toTime 0).Nope }}")


def test_a_template_may_ask_the_engine() -> None:
    rows = [{"Labels": {"i": "b"}, "Value": 2.0}, {"Labels": {"i": "a"}, "Value": 1.0}]
    check('{{ range query "up" | sortByLabel "i" }}{{ .Labels.i }}={{ .Value }} {{ end }}', "a=1 b=2 ", samples=rows)
    check('{{ with query "up" }}{{ . | first | value }}{{ end }}', "2", samples=rows)
    check('{{ query "up" | first | label "i" }}', "b", samples=rows)
    with pytest.raises(TemplateError, match="vector with no elements"):
        expand('{{ query "up" | first }}')


def test_text_functions_work_on_addresses_and_patterns() -> None:
    check("{{ $labels.instance | stripPort }}", "web-1.example.com")
    check("{{ $labels.instance | stripDomain }}", "web-1:9100")
    check('{{ reReplaceAll "(.*):(\\\\d+)" "$2 of $1" $labels.instance }}', "9100 of web-1.example.com")
    check('{{ reReplaceAll "a" "bb" "banana" }}', "bbbnbbnbb")
    check('{{ reReplaceAll "x*" "-" "abc" }}', "-a-b-c-")
    check('{{ reReplaceAll "^a" "z" "aaa" }}', "zaa")
    check('{{ match "^web" $labels.instance }} {{ match "xyz" $labels.instance }}', "true false")
    for address, port, domain in (
        ("a.b.c:1", "a.b.c", "a:1"), ("[::1]:80", "::1", "[::1]:80"), ("[::1]", "[::1]", "[::1]"),
        ("::1", "::1", "::1"), ("10.0.0.1:9", "10.0.0.1", "10.0.0.1:9"), ("host.x", "host.x", "host"),
        ("a:b:c", "a:b:c", "a:b:c"), ("[fe.d::1]:5", "fe.d::1", "fe:5"),
    ):  # fmt: skip
        check(f"{{{{ `{address}` | stripPort }}}} {{{{ `{address}` | stripDomain }}}}", f"{port} {domain}")
    check('{{ urlQueryEscape "a b/c" }} {{ slice "abcdef" 1 3 }}', "a+b%2Fc bc")
    check('{{ tableLink "up == 0" }}', "/graph?g0.expr=up+%3D%3D+0&g0.tab=1")
    check("{{ pathPrefix }} {{ externalURL }}", "/x http://buoy:9090/x")


def test_odd_cases_are_as_in_go() -> None:
    check('{{ reReplaceAll "a*" "-" "baac" }}', "-b-c-")
    check("""{{ html "<a&\\"'>" }} {{ js "a'b<c>" }}""", "&lt;a&amp;&#34;&#39;&gt; a\\'b\\u003Cc\\u003E")
    check('{{ title "it\'s a-b c_d 3x WWW" }}', "It's A-B C_d 3X WWW")
    check('{{ printf "%05.1f|%T|%T" $value $value 1 }}', "  NaN|float64|int", value=float("nan"))
    check(
        "{{ gt $value 10.0 }} {{ ge $value 10.0 }} {{ lt $value 10.0 }} {{ le $value 10.0 }}",
        "true true false false",
        value=float("nan"),
    )
    check("{{ humanizeTimestamp 0.0019 }}", "1970-01-01 00:00:00.001 +0000 UTC")


def test_values_print_as_go_prints_them() -> None:
    for value, want in (
        (1.0, "1"), (0.1, "0.1"), (1e21, "1e+21"), (123456789.0, "1.23456789e+08"), (1e-5, "1e-05"),
        (0.00012, "0.00012"), (1e20, "1e+20"), (999999.5, "999999.5"), (1e6, "1e+06"),
        (float("inf"), "+Inf"), (float("nan"), "NaN"),
        (-0.0, "-0"), (-2.5e-7, "-2.5e-07"),
    ):  # fmt: skip
        assert format_value(value) == want
    assert format_value({"b": 1, "a": [True, None]}) == "map[a:[true <nil>] b:1]"


def test_a_mistake_is_said_when_the_template_is_read() -> None:
    for text, want in (
        ("{{ frobnicate 1 }}", 'unknown function "frobnicate"'),
        ("{{ $nope }}", 'undefined variable "$nope"'),
        ("{{ if true }}x", "never closed; add {{ end }}"),
        ("{{ end }}", "closes nothing"),
        ("{{ $value", '"{{" is never closed'),
        ("{{ }}", "is empty"),
        ('{{ template "x" }}', 'template "x" is not defined; add {{ define "x" }}'),
        ("{{ break }}", "outside of a range"),
        ('{{ if true }}{{ define "x" }}{{ end }}{{ end }}', "inside of something else"),
        ("{{ block }}x{{ end }}", "name is missing"),
        ("{{ (1 }}", '"(" is never closed'),
        ("{{ 1 2 }}", "follows a value"),
        ("{{ 1 | 2 }}", "must be a function"),
        ("{{ ~ }}", "cannot read"),
        ("{{ if true }}" * 60, "levels"),
    ):
        with pytest.raises(TemplateError) as caught:
            Template(text, functions=KNOWN, variables=VARIABLES)
        assert want in str(caught.value), text


def test_an_expansion_cannot_reach_python_or_run_away() -> None:
    for text in ("{{ $labels.__class__ }}", "{{ .Labels.__class__.__mro__ }}"):
        try:
            assert "class" not in expand(text)
        except TemplateError:
            continue
    rows = [{"Labels": {}, "Value": 1.0}] * 30000
    with pytest.raises(TemplateError, match="steps"):
        expand('{{ range query "x" }}{{ end }}', samples=rows)
    with pytest.raises(TemplateError, match="characters"):
        expand('{{ range query "x" }}0123456789012345{{ end }}', samples=rows[:9000])
    assert len(expand('{{ printf "%999999999d" 1 }}')) == 1000
