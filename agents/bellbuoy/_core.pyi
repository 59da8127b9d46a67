"""The core in Rust: the loops that run once a sample. It releases the GIL, and raises only what stands here.

Times are integer milliseconds since 1970 (they may be negative), values float64. A stale marker is the NaN with bits
0x7ff0000000000002. Matchers are `(name, operator, value)`, operators `=`, `!=`, `=~`, `!~`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Matchers: TypeAlias = Sequence[tuple[str, str, str]]

STALE_BITS: int
ABSENT_BITS: int
"""In a row that is written: no sample."""
HISTOGRAM_MARK: int
"""The upper 32 bits of a NaN that stands for a native histogram in an array of values; the lower 32 are its number."""

class StorageError(Exception):
    """The data folder cannot be used, or a write failed. The text names the file, the reason and what to do."""

@final
class Regex:
    """A fully anchored regular expression in RE2's language; `.` matches newlines, as in Prometheus."""

    def __init__(self, pattern: str) -> None:
        """Raises ValueError with the reason when the pattern cannot be read."""

    def matches(self, value: str) -> bool:
        """Whether the whole value matches."""

    def expand(self, value: str, template: str) -> str | None:
        """The template with `$1`, `${name}` filled from the match of the whole value; None when it does not match."""

@final
class LabelSets:
    """An immutable list of label sets, held as interned handles. Every method gives a new one."""

    @staticmethod
    def from_dicts(sets: Sequence[Mapping[str, str]]) -> LabelSets: ...
    @staticmethod
    def concat(parts: Sequence[LabelSets]) -> LabelSets: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, str]: ...
    def to_dicts(self) -> list[dict[str, str]]: ...
    def take(self, indexes: NDArray[np.int64]) -> LabelSets: ...
    def keep(self, names: Sequence[str]) -> LabelSets:
        """Each set with these names only."""

    def drop(self, names: Sequence[str]) -> LabelSets:
        """Each set without these names."""

    def get(self, name: str) -> list[str]:
        """The value of the label in each set; empty where absent."""

    def set(self, name: str, values: Sequence[str]) -> LabelSets:
        """Each set with the label set to its value, one value for each; an empty value removes the label."""

    def group(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`(group of each set, index of the first set of each group)`; groups are numbered as they first appear."""

    def order(self) -> NDArray[np.int64]:
        """Indexes that sort the sets as Prometheus sorts labels."""

@final
class Selection:
    """Series and their samples in flat arrays: series i has samples `offsets[i]:offsets[i+1]`, ascending in time.

    Values hold stale markers as they were stored. Series without a sample in the range are left out. Native histograms
    lie among the other samples: the value of one is a NaN whose upper 32 bits are HISTOGRAM_MARK, and whose lower 32
    are its number in `histograms`; however values are gathered, what they stand for goes with them. No other value
    looks like that, and without any, `histograms` is empty.
    """

    labels: LabelSets
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    histograms: Histograms

@final
class Histogram:
    """A native histogram, immutable. Counts are floats; those of integer histograms are exact up to 2**53.

    A span is `(offset, length)`: so many neighbouring buckets, from the end of the span before; the first one's offset
    is the index of its first bucket. Equal if all of it is, bit by bit.
    """

    def __init__(
        self,
        *,
        schema: int,
        count: float,
        sum: float,
        zero_threshold: float = 0.0,
        zero_count: float = 0.0,
        positive_spans: Sequence[tuple[int, int]] = (),
        positive_buckets: Sequence[float] = (),
        negative_spans: Sequence[tuple[int, int]] = (),
        negative_buckets: Sequence[float] = (),
        custom_values: Sequence[float] = (),
        counter_reset_hint: str = "unknown",
        is_float: bool = False,
    ) -> None:
        """Raises ValueError for what Prometheus would not store either."""

    @property
    def schema(self) -> int:
        """-4 to 8, or -53 for custom buckets."""

    @property
    def zero_threshold(self) -> float: ...
    @property
    def zero_count(self) -> float: ...
    @property
    def count(self) -> float: ...
    @property
    def sum(self) -> float: ...
    @property
    def positive_spans(self) -> list[tuple[int, int]]: ...
    @property
    def positive_buckets(self) -> NDArray[np.float64]:
        """Absolute counts, one for each bucket of the spans."""

    @property
    def negative_spans(self) -> list[tuple[int, int]]: ...
    @property
    def negative_buckets(self) -> NDArray[np.float64]: ...
    @property
    def custom_values(self) -> NDArray[np.float64]:
        """Upper bounds of custom buckets but the last one's, which is infinity; else empty."""

    @property
    def counter_reset_hint(self) -> str:
        """`unknown`, `reset`, `not_reset` or `gauge`."""

    @property
    def is_float(self) -> bool:
        """Whether its counts need not be whole."""

    def buckets(self) -> list[tuple[float, float, bool, bool, float]]:
        """`(lower, upper, lower inclusive, upper inclusive, count)` of all that are not empty, ascending."""

@final
class Histograms:
    """A list of histograms that does not change.

    `numbers` says which of them an operation is about, in which order and how often; where there is no `numbers` it is
    about all. What comes out is as long as what went in, in its order. Arithmetic is on float histograms, as
    Prometheus's FloatHistogram defines it: schemas are reduced to the coarser one, zero buckets widened to the wider
    one, custom bounds cut down to those that both have. A result is not compacted, except where that is said. Arrays
    of different lengths, and a number that there is not, raise ValueError.
    """

    # Flags, of which an operation sets those that it names; combined with `|`.
    INCOMPATIBLE: int
    """Exponential and custom buckets met: there is no result, what stands for it is the first operand."""
    COLLISION: int
    """One says that its counter was reset, another that its was not."""
    RECONCILED: int
    """Custom bounds differed; in rates: where one was subtracted."""
    RECONCILED_SUM: int
    """Custom bounds differed where one was added; of rates only."""
    GAUGE: int
    """A rate of counters met a gauge."""
    NOT_GAUGE: int
    """A delta of gauges met what is none."""
    NONE: int
    """An extended rate has no sample to start from or to end at: there is no result."""
    NAN: int
    """A quantile lies among NaN observations, and is NaN; a fraction does not count some."""
    SKEWED: int
    """There are NaN observations, which a quantile takes to be above all others."""

    def __init__(self, histograms: Sequence[Histogram]) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Histogram: ...
    @staticmethod
    def concat(parts: Sequence[Histograms]) -> Histograms:
        """One after the other: a number of the second is greater by the length of the first, and so on."""

    def take(self, numbers: NDArray[np.int64]) -> Histograms:
        """These; no bucket is copied."""

    def counts(self) -> NDArray[np.float64]: ...
    def sums(self) -> NDArray[np.float64]: ...
    def schemas(self) -> NDArray[np.int8]: ...
    def hints(self) -> NDArray[np.uint8]:
        """0: unknown, 1: reset, 2: not_reset, 3: gauge."""

    def weights(self) -> NDArray[np.int64]:
        """As many samples as each counts for, where samples are limited."""

    def with_hints(self, hints: NDArray[np.uint8]) -> Histograms:
        """All, with other hints."""

    def stats(self, numbers: NDArray[np.int64]) -> Histograms:
        """Their counts, sums, schemas and hints, without buckets, zero threshold and bounds."""

    def compact(self) -> Histograms:
        """All, without empty buckets. One that has none is not copied."""

    def texts(self, numbers: NDArray[np.int64]) -> list[str]:
        """`{count:3, sum:1.5, [-0.001,0.001]:1, (1,2]:2}`"""

    def scale(self, numbers: NDArray[np.int64], factors: NDArray[np.float64]) -> Histograms:
        """Each by its factor; one below 0 makes a gauge."""

    def divide(self, numbers: NDArray[np.int64], divisors: NDArray[np.float64]) -> Histograms:
        """Each by its divisor; one below 0 makes a gauge, 0 leaves no buckets."""

    def add(
        self, numbers: NDArray[np.int64], other: Histograms, other_numbers: NDArray[np.int64]
    ) -> tuple[Histograms, NDArray[np.uint16]]:
        """Sums in pairs. Flags: INCOMPATIBLE, COLLISION, RECONCILED."""

    def subtract(
        self, numbers: NDArray[np.int64], other: Histograms, other_numbers: NDArray[np.int64]
    ) -> tuple[Histograms, NDArray[np.uint16]]:
        """Differences in pairs, with the hints that sums have; who wants gauges calls `with_hints`. Flags as above."""

    def equal(
        self, numbers: NDArray[np.int64], other: Histograms, other_numbers: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether pairs are bit for bit the same but for hints. Empty buckets count: compare what was compacted."""

    def resets(self, numbers: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the counter was reset between each and the one that was previous; hints are believed."""

    def interpolate(
        self,
        earlier: NDArray[np.int64],
        later: NDArray[np.int64],
        fractions: NDArray[np.float64],
        is_counter: NDArray[np.bool_],
    ) -> tuple[Histograms, NDArray[np.uint16]]:
        """What lies between two at a fraction of the way, neither 0 nor 1; a counter that was reset comes from 0.

        Flags: INCOMPATIBLE, RECONCILED (in the difference), RECONCILED_SUM (in the sum).
        """

    def total(
        self, numbers: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[Histograms, NDArray[np.uint16], NDArray[np.int64]]:
        """For each window `numbers[low[i]:high[i]]`, which is not empty, the compensated sum in this order.

        `sum` and `sum_over_time`. Windows may overlap. Flags: INCOMPATIBLE, COLLISION (any two of them), RECONCILED.
        The last array has where in `numbers` the incompatible one was, -1 where there is none.
        """

    def mean(
        self, numbers: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[Histograms, NDArray[np.uint16], NDArray[np.int64]]:
        """As `total`, the mean: of `avg` and `avg_over_time`. It is made step by step once the sum would overflow."""

    def rate(
        self,
        numbers: NDArray[np.int64],
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        resets: NDArray[np.bool_],
        *,
        is_counter: bool,
    ) -> tuple[Histograms, NDArray[np.uint16]]:
        """For each window `numbers[low[i]:high[i]]` of at least two, how much it grew; of `rate`, `increase`, `delta`.

        Without extrapolation: that is for `scale`. A gauge, compacted. `resets[j]` says that there was a reset between
        `numbers[j - 1]` and `numbers[j]`. Flags: INCOMPATIBLE, RECONCILED, RECONCILED_SUM, GAUGE, NOT_GAUGE.
        """

    def extended_rate(
        self,
        numbers: NDArray[np.int64],
        times: NDArray[np.int64],
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        *,
        is_counter: bool,
        smoothed: bool,
    ) -> tuple[Histograms, NDArray[np.uint16]]:
        """As `rate`, of selectors that are `anchored`, or `smoothed`.

        A window of at least one sample reaches past its bounds, the times `starts[i]` and `ends[i]`, as far as such a
        selector looks; `times[j]` is that of `numbers[j]`. Not extrapolated, not divided by seconds. Flags: NONE,
        INCOMPATIBLE, RECONCILED, RECONCILED_SUM, GAUGE, NOT_GAUGE.
        """

    def trim(self, numbers: NDArray[np.int64], bounds: NDArray[np.float64], *, upper: bool) -> Histograms:
        """Without the observations above the bound if `upper`, as `</` does, else without those below: `>/`. Compacted
        where any were cut off."""

    def quantile(
        self, numbers: NDArray[np.int64], quantiles: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Flags: NAN, SKEWED."""

    def fraction(
        self, numbers: NDArray[np.int64], lower: NDArray[np.float64], upper: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Of all observations, those between the two. Flag: NAN."""

    def variance(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Estimated from the buckets' middles; its square root is the deviation."""

def encode_histogram_chunks(
    timestamps: NDArray[np.int64], values: NDArray[np.float64], histograms: Histograms, max_samples: int
) -> list[tuple[int, int, bytes]]:
    """A series' histograms as Prometheus's chunks of at most so many: `(encoding, samples, data)` of each.

    Values are those of a Selection: marks of histograms, and stale markers. Raises ValueError when one is neither.
    """

def decode_histogram_chunk(encoding: int, data: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64], Histograms]:
    """Timestamps, values and histograms of one of Prometheus's chunks, as a Selection has them.

    A counter's histograms say that none behind the first is a reset, and whether the first is known to be one. Raises
    ValueError with the reason; no bytes make it fail otherwise.
    """

def histogram_columns(histograms: Histograms, values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """The histograms that these values stand for, as arrays: count, sum, schema, zero_threshold, zero_count, is_float,
    hint (0 unknown, 1 reset, 2 not_reset, 3 gauge), and lists behind each other: those of histogram i are
    `custom_offsets[i]:custom_offsets[i + 1]` of custom_values; so, too, positive_indexes and positive_counts, and
    negative ones, of the buckets that are not empty.
    """

@final
class Writer:
    """A group that rules write to: each append is one evaluation's whole result, and is atomic."""

    def append(self, timestamp: int, labels: LabelSets, values: NDArray[np.float64]) -> int:
        """Store one sample for each label set; a series of the append before that is missing gets a stale marker.

        Where a value has the bits ABSENT_BITS it is as if its label set were not given; whoever gives the same
        LabelSets each time pays for no comparing. Returns how many were stored. Of equal label sets the first wins. An
        append that is not later than the last stores nothing.
        """

@final
class Storage:
    """The time-series database in one folder. Thread-safe."""

    def __init__(
        self,
        path: str,
        *,
        retention_seconds: float = 15 * 86400,
        retention_bytes: int = 0,
        commit_seconds: float = 1.0,
        chunk_rows: int = 120,
        exemplars: int = 100_000,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        """Open or create the folder and replay its log. Raises StorageError; another process that holds it is one.

        `progress` is told what is being read ("block", "chunk file", "log segment"), how many of them are done and how
        many there are (0: not known). `exemplars` is how many of them are held, of all series; 0 takes none.
        """

    def select(self, matchers: Matchers, start: int, end: int, *, max_samples: int = 0) -> Selection:
        """All samples with start <= t <= end of the series that match.

        Raises OverflowError past max_samples (0: no limit), ValueError for a pattern or operator that cannot be read.
        """

    def series(self, selectors: Sequence[Matchers], start: int, end: int) -> LabelSets:
        """The series with a sample in the range that match any of the selectors, each once, sorted."""

    def label_names(self, selectors: Sequence[Matchers], start: int, end: int) -> list[str]: ...
    def label_values(self, name: str, selectors: Sequence[Matchers], start: int, end: int) -> list[str]: ...
    def exemplars(
        self, selectors: Sequence[Matchers], start: int, end: int
    ) -> list[tuple[dict[str, str], list[tuple[dict[str, str], float, int]]]]:
        """Exemplars with start <= t <= end of the series that match any of the selectors.

        By series, sorted by labels: `(labels, value, time)` of each, oldest first.
        """

    def append(self, labels: LabelSets, timestamps: NDArray[np.int64], values: NDArray[np.float64]) -> int:
        """Store samples one by one, at any time and in any order: the general path. Returns how many were new."""

    def append_histograms(
        self, labels: LabelSets, timestamps: NDArray[np.int64], histograms: Sequence[Histogram]
    ) -> int:
        """As `append`, of histograms. Of equal times the first sample wins, whatever it is."""

    def writer(self, name: str, labels: Mapping[str, str] | None = None) -> Writer:
        """The group of this name that rules write to; the same name and labels are the same group, after a restart too.

        `labels` are a target's: each series that is appended has them, where it has none of that name. They are stored
        once and not with each series, so that writers of equal label sets share these.
        """

    def flush(self) -> None:
        """Write and fsync all that has been appended; returns when it is durable."""

    def seal(self) -> None:
        """Seal every open chunk now (tests, snapshots)."""

    def tidy(self) -> None:
        """What a background pass does, now: seal what is idle, cut the log, retire what is past its time."""

    def compact(self, *, everything: bool = False) -> int:
        """Move to blocks what is settled, or all there is, and merge blocks; returns how many were written."""

    def delete(self, selectors: Sequence[Matchers], start: int, end: int) -> int:
        """Hide the samples with start <= t <= end of the series that match any of the selectors.

        Samples that come later are there to be seen. Returns how many series; ValueError without a selector.
        """

    def clean(self) -> int:
        """Write the blocks that hold deleted samples anew, without them; returns how many."""

    def snapshot(self, target: str) -> None:
        """Make all that was appended until now a data folder of its own, of links, on the same disk."""

    def losses(self) -> list[str]:
        """What was damaged or left out when the folder was opened, in words."""

    def last_error(self) -> str | None:
        """Why the last background commit failed; None when it did not."""

    def stats(self) -> dict[str, int]:
        """Counts and sizes, by name: series, groups, column_sets, chunks, samples_appended, wal_bytes and so on."""

    def blocks(self) -> list[dict[str, Any]]:
        """Each block: number, start and end of its span (both -2**63: late samples), first and last time, samples, and
        sources, the numbers of the blocks that it replaced."""

    def block_metrics(self, number: int) -> list[str]:
        """The names of the metrics of one block, sorted. Raises KeyError when it is there no more."""

    def block_label_names(self, number: int) -> list[str]:
        """The names of the labels of one block, sorted; __name__ is one. Raises KeyError when it is there no more."""

    def block_select(self, number: int, name: str, start: int, end: int, *, max_samples: int = 0) -> Selection:
        """What one block has of a metric with start <= t <= end, sorted by series; what others have is not in it.

        Raises KeyError when the block is there no more, OverflowError past max_samples (0: no limit).
        """

    def time_range(self) -> tuple[int, int] | None:
        """The times of the first and the last sample, in milliseconds; None when there is none."""

    def close(self) -> None:
        """Flush and release the folder."""

def inspect_file(kind: str, path: str, *, deep: bool = False) -> dict[str, Any]:
    """What a data folder's file has and what of it is whole. Nothing is written, and no lock is taken.

    kind: block, chunks, log, catalog or tombstones. `deep` reads every sample and not just indexes and heads.
    Numbers as far as the kind has them: samples (of chunks, unless `deep`, absent ones are counted, too), series,
    metrics, packs, start, end, first, last (ms), index_bytes, chunks, frames, rows, groups, sets. ids: groups, sets and
    series that it refers to, or, of a catalog, that it knows. damage: `(byte, reason)` of each place that is not whole.
    Raises StorageError when the file cannot be opened.
    """

@final
class Survey:
    """The series of a data folder, sorted, and what each takes. Series without a target have -1 for it."""

    labels: LabelSets
    label_names: list[str]
    target: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    samples: NDArray[np.int64]
    bytes: NDArray[np.float64]
    recent: NDArray[np.bool_]
    """Whether some of its samples are in no block yet; a server holds these in memory."""
    pools: list[str]
    targets: LabelSets
    """Pool and labels of each target."""
    losses: list[str]
    """What could not be read, in words."""

def survey_series(
    path: str,
    selectors: Sequence[Matchers],
    start: int,
    end: int,
    /,
    *,
    progress: Callable[[str, int, int], object] | None = None,
) -> Survey:
    """The series with a sample in start <= t <= end that match any of the selectors (none: all), from the files.

    Nothing is written, and no lock is taken: a server may be at work there. Raises StorageError, and what `progress`
    (told what is read, how many files are done, how many there are) raises.
    """

@final
class Relabeler:
    """A list of relabel rules, as in `relabel_configs`, compiled."""

    def __init__(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Rules with the keys source_labels, separator, regex, modulus, target_label, replacement, action.

        Defaults are Prometheus's. Raises ValueError that names the rule's index, the key and the cure.
        """

    def apply(self, labels: Mapping[str, str]) -> dict[str, str] | None:
        """The labels after all rules; None when a rule dropped them."""

    def steps(self, labels: Mapping[str, str]) -> list[dict[str, str] | None]:
        """The labels after each rule in turn, up to the one that drops them."""

@final
class Scraper:
    """Scrapes targets on threads of its own and appends to a storage.

    Pools are set whole; what stays the same goes on.
    """

    def __init__(self, storage: Storage, *, threads: int = 2) -> None: ...
    def set_pool(self, name: str, settings: Mapping[str, Any], targets: Sequence[Mapping[str, Any]]) -> None:
        """Make the pool's targets exactly these. Settings that differ restart its targets, the others go on untouched.

        settings: interval_seconds, timeout_seconds, honor_labels, honor_timestamps, track_timestamps_staleness,
        metric_relabel_configs (as Relabeler takes them), legacy_names, body_size_limit, sample_limit, series_budget,
        label_limit, label_name_length_limit, label_value_length_limit (0: none), extra_scrape_metrics,
        scrape_failure_log_file, headers (list of pairs), authorization (type, credentials_file or credentials),
        basic_auth (username or username_file, password or password_file) or oauth2 (client_id, client_secret or
        client_secret_file, token_url, scopes, endpoint_params, tls, proxy), tls (ca_file, cert_file, key_file,
        server_name, insecure_skip_verify, min_version, max_version, http2), proxy (http and https: url and
        authorization; no_proxy, None to spare nothing; connect_headers), follow_redirects, enable_compression, accept,
        fallback_format (text, openmetrics or protobuf: of bodies whose Content-Type says none),
        scrape_native_histograms, always_scrape_classic_histograms, convert_classic_histograms_to_nhcb,
        native_histogram_bucket_limit (0: none), native_histogram_min_bucket_factor (as Prometheus has them),
        start_timestamps (a counter that says when it began gets a zero there).
        targets: url (with params), labels (final), interval_seconds and timeout_seconds (optional overrides),
        scrape_native_histograms, always_scrape_classic_histograms, convert_classic_histograms_to_nhcb (so, too),
        every_second (bool: scrape each second, as pods of Jobs), terminating (bool: scrape at once and each second
        until refused), not_ready (bool: failures are not `up 0`).
        Raises ValueError that names the key and the cure.
        """

    def remove_pool(self, name: str) -> None:
        """Stop the pool's targets; their series end in stale markers."""

    def targets(self) -> list[dict[str, Any]]:
        """Each target: pool, url, labels, health (unknown, up, down), last_error, last_scrape (ms), duration_seconds,
        samples, series, series_dropped (for want of budget), interval_seconds, timeout_seconds."""

    def metadata(self) -> list[tuple[str, str, str, str, str, str]]:
        """`(pool, url, metric, type, help, unit)` as the last bodies declared them."""

    def look(self, pool: str, url: str, labels: Mapping[str, str], *, limit: int) -> dict[str, Any]:
        """Ask a target as its scrape does, and give the answer whatever it is: status, version, content_type,
        encoding, wire_bytes, body (inflated, up to the limit) and truncated. Nothing is stored.

        Raises KeyError when there is no such target, ConnectionError when it does not answer.
        """

    def stats(self) -> dict[str, int]: ...
    def close(self) -> None: ...

def read_exposition(
    body: bytes, content_type: str
) -> list[
    tuple[list[tuple[str, str]], float | Histogram, int | None, tuple[list[tuple[str, str]], float, int | None] | None]
]:
    """The samples of a scrape's body: `(labels, value, time in ms, exemplar as (labels, value, time))`.

    Of protobuf, native histograms are read, and beside them the classic ones that they also are. Raises ValueError with
    the reason, and of text with the line and its text.
    """

def spared_by_no_proxy(no_proxy: str, host: str, port: int) -> bool:
    """Whether `no_proxy` says to reach the host without a proxy; this machine always is."""

def window_function(
    function: str,
    offsets: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    values: NDArray[np.float64],
    ends: NDArray[np.int64],
    range_ms: int,
    first: int,
    out: NDArray[np.float64],
    present: NDArray[np.bool_],
) -> None:
    """A function of each window `end - range_ms < t <= end`, by its name in PromQL; "" is the newest fresh value.

    Of the series from `first` on, as many as `out` and `present` [series, steps] have rows; both must be zeros.
    """

def aggregate_groups(
    operator: str, groups: NDArray[np.int64], count: int, values: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """sum, avg, count, min, max or group of the rows of each group, of which there are `count`; [groups, steps]."""

def matrix_json(
    labels: LabelSets,
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    present: NDArray[np.bool_],
    histograms: Histograms | None = None,
    *,
    kind: str = "",
) -> bytes:
    """`[{"metric":{…},"values":[[t,"v"],…],"histograms":[[t,{…}],…]},…]` of a range query.

    Values and present are [series, steps]. Empty series are left out, and so is each list that is empty. With a `kind`
    it is the whole result, `{"resultType":"KIND","result":[…]}`.
    """

def vector_json(
    labels: LabelSets, time: int, values: NDArray[np.float64], histograms: Histograms | None = None
) -> bytes:
    """`[{"metric":{…},"value":[t,"v"]},…]` of an instant query, `"histogram":[t,{…}]` where it is one."""

def samples_json(
    labels: LabelSets,
    offsets: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    values: NDArray[np.float64],
    histograms: Histograms | None = None,
    *,
    kind: str = "",
) -> bytes:
    """The same as `matrix_json` of a range vector, as a Selection holds it."""
