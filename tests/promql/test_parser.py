"""What the parser takes, what it refuses and where, and that the printer gives back what it read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bellbuoy.promql import ParseError, format_expr, parse, selectors
from bellbuoy.promql.nodes import Binary, NumberLiteral, Unary


def check_error(query: str, place: str, reason: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(query)
    assert str(caught.value) == f"{place}: parse error: {reason}"


def test_mistakes_are_named_with_their_place() -> None:
    check_error("", "1:1", "no expression found in input")
    check_error("# only a comment", "1:1", "no expression found in input")
    check_error("1+", "1:3", "unexpected end of input")
    check_error("(1))", "1:5", "unexpected right parenthesis ')'")
    check_error("sum(abs(a b))", "1:11", 'unexpected identifier "b" in aggregation')
    check_error("a >= on(x) group_left(x) b", "1:3", 'label "x" must not occur in ON and GROUP clause at once')
    check_error("(foo", "1:5", "unclosed left parenthesis")
    check_error("foo{", "1:5", "unexpected end of input inside braces")
    check_error("foo[5m", "1:7", "unexpected end of input in duration expression")
    check_error("foo{bar}", "1:8", 'unexpected "}" in label matching, expected label matching operator')
    check_error('foo{a="b" c="d"}', "1:11", 'unexpected identifier "c" in label matching, expected "," or "}"')
    check_error("sum(foo[5m])", "1:5", "expected type instant vector in aggregation expression, got range vector")
    check_error("nothing(1)", "1:1", 'unknown function with name "nothing"')
    check_error("rate(foo)", "1:6", 'expected type range vector in call to function "rate", got instant vector')
    check_error("time(1)", "1:1", 'expected 0 argument(s) in call to "time", got 1')
    check_error("1 == 1", "1:3", "comparisons between scalars must use BOOL modifier")
    check_error("a + bool b", "1:3", "bool modifier can only be used on comparison operators")
    check_error('{a=~".*"}', "1:1", "vector selector must contain at least one non-empty matcher")
    check_error('foo{__name__="bar"}', "1:1", 'metric name must not be set twice: "foo" or "bar"')
    check_error("foo offset 1m offset 2m", "1:1", "offset may not be set multiple times")
    check_error("foo[0s]", "1:5", "duration must be greater than 0")
    check_error("'open", "1:1", "unterminated quoted string")
    check_error("foo bar 'open", "1:5", 'unexpected identifier "bar"')
    check_error("5q", "1:1", 'bad number or duration syntax: "5q"')
    check_error("sum by (a,\n b) (\n  1 +)", "3:6", 'unexpected ")" in aggregation')
    check_error("a and on(x) group_left(y) b", "1:1", 'no grouping allowed for "and" operation')
    check_error('foo == "bar"', "1:8", "binary expression must contain only scalar and instant vector types")


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ParseError, match=r"1:5: parse error: error parsing regexp"):
        parse('foo{a=~"("}')


def test_operators_bind_as_in_prometheus() -> None:
    power = parse("-2 ^ 2")
    assert isinstance(power, Unary)
    assert isinstance(power.expr, Binary)
    assert parse("1 + 2 * 3 ^ 2 ^ 2") == parse("1 + 2 * 3 ^ 2 ^ 2")
    right = parse("2 ^ 3 ^ 2")
    assert isinstance(right, Binary)
    assert right.left == NumberLiteral(2.0)
    left = parse("2 - 3 - 4")
    assert isinstance(left, Binary)
    assert left.right == NumberLiteral(4.0)


def test_keywords_are_names_where_a_name_may_stand() -> None:
    assert [selector.name for selector in selectors(parse("sum + offset + by + (bool)"))] == [
        "sum",
        "offset",
        "by",
        "bool",
    ]


def test_nesting_has_a_limit_and_no_stack_overflow() -> None:
    with pytest.raises(ParseError, match="nested deeper than"):
        parse("(" * 5000 + "1" + ")" * 5000)
    with pytest.raises(ParseError, match="nested deeper than"):
        parse("-" * 5000 + "a")
    with pytest.raises(ParseError, match="nested deeper than"):
        parse("a[" + "(" * 5000 + "1" + ")" * 5000 + "]")


def test_long_chains_are_no_nesting() -> None:
    assert len(selectors(parse(" or ".join(["a"] * 150)))) == 150


def test_printing_uses_prometheus_forms() -> None:
    def check(query: str, want: str) -> None:
        assert format_expr(parse(query)) == want

    check('sum(rate(http_total{code=~"5.."}[5m])) by (job)', 'sum by (job) (rate(http_total{code=~"5.."}[5m]))')
    check("a/ignoring(b)group_left c", "a / ignoring (b) group_left () c")
    check("foo[300] @ 1.5 offset -1h", "foo[5m] @ 1.500 offset -1h")
    check("foo[1h:]", "foo[1h:]")
    check('{"a.b", "c.d"="e"}', '{"a.b","c.d"="e"}')
    check("1e21 + NaN - Inf", "1000000000000000000000 + NaN - +Inf")
    check("5m * x", "5m * x")
    check("x > bool on () y", "x > bool on () y")
    check("a + fill(0) b", "a + fill (0) b")


def test_pretty_printing_breaks_only_what_is_too_wide() -> None:
    query = (
        "sum by (job) (rate(" + "a" * 60 + "[5m])) / on (job) group_left () sum by (job) (rate(" + "b" * 60 + "[5m]))"
    )
    text = format_expr(parse(query), pretty=True)
    assert text.count("\n") == 2
    assert parse(text) == parse(query)
    assert format_expr(parse("sum(a)"), pretty=True) == "sum(a)"


NAMES = st.sampled_from(["up", "a:b", "http_total", "sum", "offset", "http.server", "Björn", "and", "inf", "x y"])
LABELS = st.sampled_from(["job", "le", "service.name", "on", "équipe", "by"])
TEXTS = st.text(max_size=6).filter(lambda text: "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text))
DURATIONS = st.sampled_from(
    ["5m", "1h30m", "90", "1.5", "step()", "2 * 1m", "range() / 4", "min_of(step(), 1h)", "(7)"]
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@st.composite
def selector_texts(draw: st.DrawFn) -> str:
    matchers = [quoted(draw(NAMES))]
    for _ in range(draw(st.integers(0, 2))):
        operator = draw(st.sampled_from(["=", "!=", "=~", "!~"]))
        value = draw(st.sampled_from(["a.*", "b|c", ""])) if "~" in operator else draw(TEXTS)
        matchers.append(quoted(draw(LABELS)) + operator + quoted(value))
    return "{" + ",".join(matchers) + "}"


def modified(text: str) -> st.SearchStrategy[str]:
    at = st.sampled_from(["", " @ 12.5", " @ start()", " @ -3"])
    offset = st.sampled_from(["", " offset 5m", " offset -1h", " offset (2 * step())", " offset -min_of(1, 2)"])
    return st.tuples(at, offset).map(lambda parts: text + "".join(parts))


@st.composite
def combined(draw: st.DrawFn, children: st.SearchStrategy[str]) -> str:
    operator = draw(st.sampled_from(["+", "*", "^", "%", "atan2", "> bool", "==", "and", "or", "unless", "</"]))
    matching = draw(st.sampled_from(["", "on (job)", 'ignoring ("x y")', "on ()"]))
    if operator not in ("and", "or", "unless") and matching and draw(st.booleans()):
        matching += draw(st.sampled_from([" group_left (le)", " group_right ()", " group_left", ""]))
    if operator not in ("and", "or", "unless"):
        matching += draw(st.sampled_from(["", " fill (0)", " fill_left (1)", " fill_right (-2.5) fill_left (NaN)"]))
    return f"{draw(children)} {operator} {matching} {draw(children)}"


def grow(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    by = st.sampled_from(["", "by (job)", 'without ("service.name", le)', "by ()"])
    return st.one_of(
        children.map(lambda text: f"({text})"),
        children.map(lambda text: f"-({text})"),
        children.map(lambda text: f"abs({text})"),
        st.tuples(by, children).map(lambda parts: f"sum {parts[0]} ({parts[1]})"),
        st.tuples(by, children).map(lambda parts: f"topk {parts[0]} (5, {parts[1]})"),
        st.tuples(children, DURATIONS, DURATIONS)
        .flatmap(lambda p: modified(f"({p[0]})[{p[1]}:{p[2]}]"))
        .map(lambda text: f"sum_over_time({text})"),
        combined(children),
    )


LEAVES = st.one_of(
    selector_texts().flatmap(modified),
    st.tuples(selector_texts(), DURATIONS).flatmap(lambda p: modified(f"{p[0]}[{p[1]}]")).map(lambda t: f"rate({t})"),
    st.sampled_from(["vector(1)", "vector(-0.5e-7)", "vector(5m)", "vector(Inf)", "vector(NaN)", "vector(0x1F)"]),
    TEXTS.map(lambda text: f'label_replace(up, "a", {quoted(text)}, "b", ".*")'),
)
QUERIES = st.recursive(LEAVES, grow, max_leaves=8)


@settings(max_examples=200, deadline=None)
@given(QUERIES, st.booleans())
def test_what_is_printed_parses_to_the_same(query: str, pretty: bool) -> None:
    tree = parse(query)
    text = format_expr(tree, pretty=pretty)
    assert parse(text) == tree
    assert format_expr(parse(text), pretty=pretty) == text


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abz_:.05 ()[]{}\"'\\`=~!<>+-*/%^,@#\n\tmsé", max_size=30))
def test_any_text_parses_or_says_where_it_does_not(text: str) -> None:
    mistake = None
    try:
        tree = parse(text)
    except ParseError as e:
        mistake = e
    if mistake is None:
        assert parse(format_expr(tree)) == tree
    else:
        assert 0 <= mistake.start <= mistake.end <= len(text)
