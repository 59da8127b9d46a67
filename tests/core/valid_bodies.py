"""Bodies that every reader of a format takes, made by chance: to compare ours with `prometheus_client`'s and Prometheus.

They are narrower than `formats.bodies`: others refuse what ours reads (families out of order, a counter without `_total`),
and read some odd spellings in their own way (`-0` is 0 to `prometheus_client`). Each series stands once, so that what a
server stores can be compared, too.
"""

import random

_PIECES = ("a", "B", "7", " ", "ä", "⚓", ",", "=", "/", "-", "{", "}", "#", "'", "\\", '"', "\n", "le", "\t")
_ODD = ("NaN", "+Inf", "-Inf", "0", "1e3", "1E-7", "0.10", "00012", "5e-324", "1.7976931348623157e308")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _number(chance: random.Random, *, least: float = float("-inf")) -> str:
    """Of any spelling; with a least value, a plain one."""
    plain = (
        str(chance.randrange(1, 10 ** chance.randrange(1, 18))),
        repr(chance.random() * 10 ** chance.randrange(-8, 20)),
        f"{chance.randrange(10**6) / 100:.2f}",
    )
    if least >= 0:
        return chance.choice(plain)
    return chance.choice((*plain, "-" + chance.choice(plain), chance.choice(_ODD)))


def _labels(chance: random.Random, number: int) -> list[str]:
    """Pairs of which no other series of the family has all."""
    value = "".join(chance.choice(_PIECES) for _ in range(chance.randrange(8)))
    pairs = [f"{name}={_quoted(value + str(number))}" for name in chance.sample(("a", "b_2", "Cc", "_d"), chance.randrange(1, 4))]
    return [f'n="{number}"', *pairs]


def _exemplar(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return ""
    labels = f'trace_id="{chance.randrange(10**9):x}"' if chance.random() < 0.8 else ""
    time = f" {1_700_000_000 + chance.randrange(10**6)}.{chance.randrange(1000):03}" if chance.random() < 0.5 else ""
    return f" # {{{labels}}} {_number(chance, least=0)}{time}"


def _histogram(chance: random.Random, name: str, number: int, *, openmetrics: bool) -> list[str]:
    labels = _labels(chance, number)
    bounds = sorted({chance.choice((0.005, 0.1, 1.0, 2.5, 1e3, 1e6, 1.5e7)) for _ in range(3)})
    counts = sorted(chance.randrange(1000) for _ in range(len(bounds) + 1))
    lines = []
    for bound, count in zip([*bounds, None], counts, strict=True):
        spelled = "+Inf" if bound is None else repr(bound) if openmetrics else f"{bound:g}"
        pairs = ",".join([*labels, f'le="{spelled}"'])
        lines.append(f"{name}_bucket{{{pairs}}} {count}{_exemplar(chance) if openmetrics else ''}")
    joined = ",".join(labels)
    return [*lines, f"{name}_count{{{joined}}} {counts[-1]}", f"{name}_sum{{{joined}}} {_number(chance, least=0)}"]


def valid_body(chance: random.Random, *, openmetrics: bool, families: int = 8) -> str:
    """A body of a format, with names of the old kind."""
    lines: list[str] = []
    for family in range(families):
        name = f"{chance.choice(('up', 'http_requests', 'x:y', '_'))}_{family}"
        kind = chance.choice(("gauge", "counter", "histogram", "unknown" if openmetrics else "untyped"))
        lines += [f"# HELP {name} Some \\\\ text.", f"# TYPE {name}{'_total' * (kind == 'counter' and not openmetrics)} {kind}"]
        for number in range(chance.randrange(1, 5)):
            if kind == "histogram":
                lines += _histogram(chance, name, number, openmetrics=openmetrics)
                continue
            pairs = ",".join(_labels(chance, number))
            if kind == "counter":
                more = _exemplar(chance) if openmetrics else ""
                lines.append(f"{name}_total{{{pairs}}} {_number(chance, least=0)}{more}")
            else:
                blank = "" if openmetrics else chance.choice(("", "", " "))
                lines.append(f"{name}{blank}{{{pairs}{chance.choice(('', ',')) if not openmetrics else ''}}} {_number(chance)}")
        if not openmetrics and chance.random() < 0.3:
            lines += ["", "# a remark"]
    return "".join(line + "\n" for line in lines) + ("# EOF\n" if openmetrics else "")
