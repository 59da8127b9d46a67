"""What a query gives: to the HTTP API as JSON, to rules and other callers in Python as rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import orjson

from bellbuoy import _core
from bellbuoy._core import Histograms, LabelSets
from bellbuoy.exposition import go_decimal
from bellbuoy.promql.values import Floats, Ints, Mask, is_histogram

Kind = Literal["scalar", "vector", "matrix", "string"]


@dataclass(frozen=True)
class QueryResult:
    """A query's result.

    `values` and `present` are [series, steps] over `times`; a vector has one step, a scalar one series and one step.
    A range vector (`metric[5m]` as an instant query) is a matrix whose samples have times of their own: `offsets` is
    then set, series i has `timestamps[offsets[i]:offsets[i + 1]]` and `values` flat. A string has only `text`. With
    `histograms`, a value may be the mark of one of them.
    """

    kind: Kind
    labels: LabelSets
    times: Ints
    values: Floats
    present: Mask
    text: str = ""
    offsets: Ints | None = None
    timestamps: Ints | None = None
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    histograms: Histograms | None = None

    @property
    def marked(self) -> Mask:
        """Which values are histograms and no floats; the same shape as the values."""
        if self.histograms is None:
            return np.zeros(self.values.shape, np.bool_)
        return is_histogram(self.values)

    def to_json(self) -> bytes:
        """`{"resultType":…,"result":…}` as in the HTTP API."""
        if self.offsets is not None and self.timestamps is not None:
            flat = self.offsets, self.timestamps, self.values
            return _core.samples_json(self.labels, *flat, self.histograms, kind=self.kind)
        if self.kind == "matrix":
            grid = self.times, self.values, self.present
            return _core.matrix_json(self.labels, *grid, self.histograms, kind=self.kind)
        return b'{"resultType":"' + self.kind.encode() + b'","result":' + self._result() + b"}"

    def _result(self) -> bytes:
        if self.kind == "vector":
            values = np.ascontiguousarray(self.values[:, 0])
            return _core.vector_json(self.labels, int(self.times[0]), values, self.histograms)
        if self.kind == "scalar":
            value = go_decimal(float(self.values[0, 0]))
        else:
            value = self.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        seconds = int(self.times[0]) / 1000
        return orjson.dumps([int(seconds) if seconds.is_integer() else seconds, value])

    def samples(self) -> Iterator[tuple[dict[str, str], int, float]]:
        """Every sample as `(labels, milliseconds, value)`, series by series."""
        for row, labels in enumerate(self.labels.to_dicts()):
            if self.offsets is not None and self.timestamps is not None:
                part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
                pairs = zip(self.timestamps[part].tolist(), self.values[part].tolist(), strict=True)
            else:
                there = self.present[row]
                pairs = zip(self.times[there].tolist(), self.values[row][there].tolist(), strict=True)
            for time, value in pairs:
                yield labels, time, value
