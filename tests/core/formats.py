"""The text formats said plainly, to hold the core's reader against: what a body's lines mean, and bodies to try.

`read()` is slow and refuses nothing: it is for bodies that `bodies()` made.
"""

import math
import re
from typing import Any

from hypothesis import strategies as st

Labels = dict[str, str]
Exemplar = tuple[Labels, float, int | None]
Sample = tuple[Labels, float, int | None, Exemplar | None]

TEXT = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
_QUOTED = r'"(?:\\.|[^"\\])*"'
_PAIR = rf"(?:({_QUOTED}|[a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*)?({_QUOTED})"
_LINE = re.compile(
    rf"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)?[ \t]*(\{{(?:[^\"}}]|{_QUOTED})*\}})?[ \t]*(\S+)(?:[ \t]+([^\s#]+))?"
    rf"(?:[ \t]+#[ \t]+(\{{(?:[^\"}}]|{_QUOTED})*\}})[ \t]+(\S+)(?:[ \t]+(\S+))?)?[ \t]*"
)
_TYPE = re.compile(rf"#[ \t]+TYPE[ \t]+(?:{_QUOTED}|\S+)[ \t]+(\S+)")


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    known = {"n": "\n", '"': '"', "\\": "\\"}
    return re.sub(r"\\(.)", lambda found: known.get(found[1], found[0]), text[1:-1], flags=re.DOTALL)


def go_number(value: float) -> str:
    """As Prometheus stores the values of `le` and `quantile`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    digits, _, exponent = f"{value!r}".partition("e")
    if value == 0:
        return digits
    power = math.floor(math.log10(abs(float(f"{value:.17e}".partition("e")[0])))) + int(f"{value:.17e}".partition("e")[2])
    if -4 <= power < 6:
        plain = f"{value:.20f}" if exponent else digits
        return plain.rstrip("0") + ("0" if plain.rstrip("0").endswith(".") else "") if exponent else plain
    for precision in range(18):
        shortest = f"{value:.{precision}e}"
        if float(shortest) == value:
            return shortest
    raise AssertionError(value)


def _labels(name: str | None, braces: str | None, kind: str) -> Labels:
    out = {} if name is None else {"__name__": name}
    for label, value in re.findall(_PAIR, braces or ""):
        out[_unquoted(label) or "__name__"] = _unquoted(value)
    number = {"histogram": "le", "summary": "quantile"}.get(kind)
    if number in out:
        try:
            out[number] = go_number(float(out[number]))
        except ValueError:
            pass
    return out


def read(body: str, *, openmetrics: bool) -> list[Sample]:
    """The samples of a body: labels, value, time in milliseconds, exemplar."""
    out: list[Sample] = []
    kind = ""
    for line in body.split("\n"):
        if found := _TYPE.match(line):
            kind = found[1]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        assert parts is not None, line
        name, braces, value, time, exemplar, its_value, its_time = parts.groups()

        def time_ms(text: str | None) -> int | None:
            return None if text is None else int(float(text) * 1000) if openmetrics else int(text)

        about = None if exemplar is None else (_labels(None, exemplar, ""), float(its_value), time_ms(its_time))
        out.append((_labels(name, braces, kind), float(value), time_ms(time), about))
    return out


_legacy = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True)
_any_text = st.text(st.characters(codec="utf-8"), max_size=8)
_name = st.one_of(_legacy, _any_text.filter(bool))
_number = st.one_of(
    st.integers(-(10**17), 10**17).map(str),
    st.floats().map(lambda f: "NaN" if f != f else repr(f).replace("inf", "Inf")),
    st.sampled_from(["+Inf", "1e3", "0.10", "-0", "NaN", "1E-7", "00012"]),
)
_blank = st.sampled_from(["", "", " "])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _is_legacy(name: str) -> bool:
    return re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) is not None


@st.composite
def _braces(draw: st.DrawFn, labels: dict[str, str], metric: str | None) -> str:
    """Labels in braces, and before them a metric's name that has to stand there."""
    pairs = [] if metric is None else [_quoted(metric)]
    for name, value in labels.items():
        quote = not _is_legacy(name) or draw(st.booleans())
        pairs.append(f"{_quoted(name) if quote else name}={_quoted(value)}")
    return "{" + f",{draw(_blank)}".join(pairs) + draw(st.sampled_from(["", ","]) if pairs else st.just("")) + "}"


@st.composite
def _family(draw: st.DrawFn, openmetrics: bool) -> str:  # noqa: FBT001 - hypothesis passes it on
    name = draw(_name)
    kind = draw(st.sampled_from(["counter", "gauge", "histogram", "summary", "unknown"]))
    shown = name if _is_legacy(name) else _quoted(name)
    lines = [f"# TYPE {shown} {kind}"] if draw(st.booleans()) else []
    number = {"histogram": "le", "summary": "quantile"}.get(kind)
    for _ in range(draw(st.integers(0, 3))):
        labels = draw(st.dictionaries(_name.filter(lambda name: name != "__name__"), _any_text, max_size=3))
        if number:
            labels[number] = draw(st.one_of(_number, _any_text))
        # A name of the old kind may stand in the braces, too.
        inside = not _is_legacy(name) or draw(st.booleans())
        key = draw(_braces(labels, name)) if inside else name + (draw(_braces(labels, None)) if labels else "")
        line = f"{key} {draw(_number)}"
        if draw(st.booleans()):
            time = draw(st.integers(-(10**12), 10**13))
            line += f" {time / 1000!r}" if openmetrics else f" {time}"
        if openmetrics and draw(st.booleans()):
            about = draw(st.dictionaries(_name.filter(lambda name: name != "__name__"), _any_text, max_size=2))
            line += f" # {draw(_braces(about, None))} {draw(_number)}"
            line += f" {draw(st.integers(0, 10**12)) / 1000!r}" if draw(st.booleans()) else ""
        lines.append(line)
    return "".join(line + "\n" for line in lines)


def bodies(*, openmetrics: bool) -> Any:
    """Bodies of a format."""
    end = "# EOF\n" if openmetrics else ""
    return st.lists(_family(openmetrics), max_size=4).map(lambda families: "".join(families) + end)
