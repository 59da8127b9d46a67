"""OpenMetrics text with timestamps, as `promtool tsdb create-blocks-from openmetrics` reads it, written and read.

The text has no stale markers and no native histograms: they are left out where it is written. Types are unknown to the
storage, and said to be.
A line is read as strictly as its samples matter; comments are passed over, but for the end, without which the text may
have been cut off anywhere.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from bellbuoy.archive.progress import Progress
from bellbuoy.archive.source import Floats, Ints, Samples, Source, is_histogram
from bellbuoy.labels import NAME, is_legacy_label_name, is_legacy_metric_name, quote
from bellbuoy.tsdb import STALE_BITS, LabelSets
from bellbuoy.tsdb_tools.errors import ImportDataError

# How many lines are handed over at once.
BATCH_LINES = 200_000
NAN_BITS = 0x7FF8000000000001
_END = b"# EOF"

_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_BRACES = r'\{[^"{}]*(?:' + _QUOTED + r'[^"{}]*)*\}'
_LINE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*(?:"
    + _BRACES
    + r")?|"
    + _BRACES
    + r")[ \t]+(\S+)(?:[ \t]+([^\s#]\S*))?(?:[ \t]+#[ \t].*)?"
)
_PAIR = re.compile(r"\s*(?:(" + _QUOTED + r")|([a-zA-Z_][a-zA-Z0-9_]*))\s*(?:=\s*(" + _QUOTED + r"))?\s*(,|\Z)")
_ESCAPES = {"n": "\n", "\\": "\\", '"': '"'}


class LeftOut(NamedTuple):
    """What the text cannot say."""

    nameless: int
    """Series without a name."""
    histograms: int
    """Samples that are native histograms."""


def write(source: Source, out: IO[str], progress: Progress) -> LeftOut:
    """Write all of it, metric by metric; returns how much was left out."""
    nameless = histograms = 0
    for name in source.metrics(source.start, source.end):
        heading = f"# TYPE {name if is_legacy_metric_name(name) else quote(name)} unknown\n"
        for samples in source.metric(name, source.start, source.end):
            if not name:
                nameless += len(samples.labels)
                continue
            native = is_histogram(samples.values)
            histograms += int(native.sum())
            kept = samples.at((samples.values.view(np.uint64) != STALE_BITS) & ~native)
            if len(kept.timestamps):
                out.write(heading)
                heading = ""
                out.writelines(lines(kept))
            progress.done(len(kept.timestamps), f"metric {name}")
    out.write("# EOF\n")
    return LeftOut(nameless, histograms)


def lines(samples: Samples) -> Iterator[str]:
    """A text for each series, a line for each of its samples."""
    times, values = seconds(samples.timestamps).tolist(), samples.values.tolist()
    offsets, finite = samples.offsets.tolist(), np.isfinite(samples.values)
    for i, labels in enumerate(samples.labels.to_dicts()):
        start, end = offsets[i], offsets[i + 1]
        series, its_times, its_values = series_text(labels), times[start:end], values[start:end]
        if finite[start:end].all():
            texts = [f"{series} {v!r} {t!r}\n" for v, t in zip(its_values, its_times, strict=True)]
        else:
            texts = [f"{series} {_number(v)} {t!r}\n" for v, t in zip(its_values, its_times, strict=True)]
        yield "".join(texts)


def seconds(milliseconds: Ints) -> Floats:
    """Times in seconds that give the same milliseconds whether a reader rounds them or, as Go's does, cuts them off."""
    out = milliseconds / 1000.0
    off = (out * 1000).astype(np.int64) != milliseconds
    out[off] = np.nextafter(out[off], np.copysign(np.inf, out[off]))
    return out


def series_text(labels: dict[str, str]) -> str:
    """`name{a="b",c="d"}`, without blanks; UTF-8 names quoted."""
    name = labels.get(NAME, "")
    pairs = [
        f"{key if is_legacy_label_name(key) else quote(key)}={quote(value)}"
        for key, value in sorted(labels.items())
        if key != NAME
    ]
    if not is_legacy_metric_name(name):
        return "{" + ",".join([quote(name), *pairs]) + "}"
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def _number(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))


def read(path: Path) -> Iterator[tuple[LabelSets, Ints, Floats]]:
    """A file's samples in batches: label set, time and value of each. Raises ImportDataError, which says the line."""
    try:
        with path.open("rb") as file:
            yield from _read(path, file)
    except OSError as e:
        raise ImportDataError(
            f"cannot import {path}: {(e.strerror or str(e)).lower()}; see that it is a file that we may read"
        ) from e


def _read(path: Path, file: IO[bytes]) -> Iterator[tuple[LabelSets, Ints, Floats]]:
    file.seek(max(0, file.seek(0, 2) - 64))
    if not file.read().rstrip(b"\r\n").endswith(_END):
        raise ImportDataError(
            f"cannot import {path}: its last line is not # EOF, so it was cut off or is no OpenMetrics text; "
            "get the whole file, or add the line if you know it to be whole"
        )
    file.seek(0)
    batch = _Batch()
    ended = False
    for number, raw in enumerate(file, start=1):
        if ended:
            raise _at(
                path, number, "there is more behind # EOF: cut it off, or join files without the # EOF of the first"
            )
        try:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("#"):
                ended = line.rstrip() == _END.decode()
            elif line:
                batch.add(line)
        except UnicodeDecodeError as e:
            raise _at(path, number, f"its byte {e.start + 1} is not UTF-8: write the file in UTF-8") from e
        except ValueError as e:
            raise _at(path, number, str(e)) from e
        if len(batch.times) >= BATCH_LINES:
            yield batch.out()
            batch = _Batch()
    if batch.times:
        yield batch.out()


def _at(path: Path, line: int, reason: str) -> ImportDataError:
    return ImportDataError(f"cannot import {path}: line {line}: {reason}")


class _Batch:
    """Samples that are handed over together. Lines of one series follow each other, mostly: its text is read once."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.labels: list[dict[str, str]] = []
        self.last, self.at = "", -1
        self.series: list[int] = []
        self.times: list[int] = []
        self.values: list[float] = []

    def add(self, line: str) -> None:
        """One line. Raises ValueError with the reason."""
        words = line[len(self.last) :].split() if self.last and line.startswith(self.last) else ()
        if len(words) != 2:
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"expected name{{labels}}, a value and a time in seconds, found {line[:100]!r}")
            text, value, time = match.groups()
            self.at = self._series(text)
            self.last = f"{text} "
        else:
            value, time = words
        if time is None:
            raise ValueError(f"{self.last[:80]}has no timestamp: add one, in seconds, to each line")
        when = _float(time, "timestamp")
        if not abs(when) < 9e15:
            raise ValueError(f"the timestamp {time[:40]!r} is no number of seconds")
        self.values.append(_float(value, "value"))
        self.times.append(round(when * 1000))
        self.series.append(self.at)

    def _series(self, text: str) -> int:
        at = self.known.get(text)
        if at is None:
            labels = read_series(text)
            at = self.known[text] = len(self.labels)
            self.labels.append(labels)
        return at

    def out(self) -> tuple[LabelSets, Ints, Floats]:
        """All of it, as the storage takes it."""
        labels = LabelSets.from_dicts(self.labels).take(np.array(self.series, np.int64))
        values = np.array(self.values, np.float64)
        # Python's NaN has other bits than the one that stands for every NaN of a text in Prometheus.
        values.view(np.uint64)[np.isnan(values)] = NAN_BITS
        return labels, np.array(self.times, np.int64), values


def read_series(text: str) -> dict[str, str]:
    """The labels of `name{a="b"}` or `{"name","a"="b"}`. Raises ValueError with the reason."""
    name, brace, inside = text.partition("{")
    labels = {NAME: name} if name else {}
    inside, at = inside.removesuffix("}"), 0
    while brace and at < len(inside):
        match = _PAIR.match(inside, at)
        if match is None:
            raise ValueError(f'expected label="value" in {text[:80]!r}, found {inside[at : at + 40]!r}')
        quoted, plain, value = match.group(1), match.group(2), match.group(3)
        key = plain or _unquote(quoted)
        if value is None and quoted and NAME not in labels:
            key, value = NAME, quoted
        if value is None:
            raise ValueError(f'label {key!r} of {text[:80]} has no value: write {key}="value"')
        if key in labels:
            raise ValueError(f"{text[:80]} has label {key!r} twice")
        labels[key] = _unquote(value)
        at = match.end()
    if not labels.get(NAME):
        raise ValueError(f"{text[:80]} has no metric name")
    return {key: value for key, value in labels.items() if value}


def _float(text: str, what: str) -> float:
    # Python reads 1_000, and digits of other scripts.
    try:
        if text.isascii() and "_" not in text:
            return float(text)
    except ValueError:
        pass  # said below, as for all others
    raise ValueError(f"the {what} {text[:40]!r} is no number")


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), text[1:-1], flags=re.DOTALL)
