"""Appends rows to Bellbuoy's storage as its server would, and says what that took.

The counterpart of bench/tsdb/main.go: same input, same order, same timestamps, same lines of JSON on standard output.
`load` appends, compacts, queries, and waits to be killed. `log` only appends, so that all is in the log, and waits to
be killed; `reopen` opens what is left and asks for all last values. `write` leaves a folder for a server, with all in
its log or all in blocks.
"""

import argparse
import json
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bellbuoy._core import ABSENT_BITS, LabelSets, Storage, Writer
from bench.storage_input import INTERVAL_MILLISECONDS, STALE_BITS, STRIDE, Recording, read

_BLOCK = 2 * 3600 * 1000
# The server's own thread does it each 30 s.
_TIDY_EVERY = 2
# Where only what it leaves counts, every ten minutes of samples will do.
_TIDY_OFTEN = 40
_ABSENT = np.uint64(ABSENT_BITS).view(np.float64)


class _Target:
    """What a scrape loop keeps of one."""

    def __init__(self, i: int, count: int, writer: Writer, recording: Recording, labels: LabelSets, each: int) -> None:
        self._writer = writer
        self._rows = recording.rows
        self._labels = labels
        self._phase = i // each * STRIDE
        self._offset = i * INTERVAL_MILLISECONDS // count
        self._present = np.zeros(recording.rows.shape[1], bool)

    def time(self, scrape: int, start: int) -> int:
        """When it is scraped."""
        return start + scrape * INTERVAL_MILLISECONDS + self._offset

    def scrape(self, scrape: int, start: int) -> int:
        """Append one row; returns how many samples, markers of what has gone included."""
        row = self._rows[(self._phase + scrape * INTERVAL_MILLISECONDS // 1000) % len(self._rows)]
        present = row.view(np.uint64) != STALE_BITS
        gone = int(np.count_nonzero(self._present & ~present))
        self._present = present
        # As the scraper does it: the columns stay, and what a scrape does not have is absent.
        values = row if present.all() else np.where(present, row, _ABSENT)
        return gone + self._writer.append(self.time(scrape, start), self._labels, values)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory() -> dict[str, int]:
    """What the kernel says, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines if len(fields) == 3 and fields[2] == "kB"}


def _say(phase: str, **line: object) -> None:
    print(json.dumps({"phase": phase, **line}), flush=True)


def _ask(
    storage: Storage, matchers: Sequence[tuple[str, str, str]], start: int, end: int
) -> tuple[float, dict[str, object]]:
    """How long it took, and what was found."""
    began = time.perf_counter()
    found = storage.select(matchers, start, end)
    seconds = time.perf_counter() - began
    checksum = int(np.add.reduce(found.timestamps.view(np.uint64) ^ found.values.view(np.uint64), dtype=np.uint64))
    return seconds, {"samples": len(found.values), "checksum": f"{checksum:x}"}


def _ask_often(phase: str, storage: Storage, arguments: argparse.Namespace, start: int, end: int) -> None:
    answers = [_ask(storage, [("__name__", "=", arguments.metric)], start, end) for _ in range(arguments.repeat)]
    seconds = [one for one, _ in answers]
    _say(phase, first_seconds=seconds[0], seconds=statistics.median_high(seconds), **answers[-1][1])


def _targets(storage: Storage, recordings: Sequence[Recording], *, count: int, shared: bool) -> list[_Target]:
    """Where columns are shared the instance is the target's label; else it is one of each series."""
    columns = [LabelSets.from_dicts(one.columns) for one in recordings] if shared else []
    targets = []
    for i in range(count):
        of, instance = i % len(recordings), {"instance": f"target-{i:05}:9100"}
        if shared:
            labels, writer = columns[of], storage.writer("bench", instance)
        else:
            labels = LabelSets.from_dicts([one | instance for one in recordings[of].columns])
            writer = storage.writer(instance["instance"])
        targets.append(_Target(i, count, writer, recordings[of], labels, each=len(recordings)))
    return targets


def _open(arguments: argparse.Namespace) -> tuple[int, Storage, list[_Target]]:
    """Memory before it, the empty storage, and its targets."""
    recordings = read(arguments.input)
    # Pages of the input count for both from the start.
    for one in recordings:
        one.rows.sum()
    at_start = _memory()["VmRSS"]
    storage = Storage(arguments.data, retention_seconds=arguments.retention)
    return at_start, storage, _targets(storage, recordings, count=arguments.targets, shared=arguments.shared)


def _log(arguments: argparse.Namespace) -> None:
    _, storage, targets = _open(arguments)
    samples = second = 0
    for scrape in range(arguments.scrapes):
        for target in targets:
            at = target.time(scrape, arguments.start)
            if at // 1000 != second:
                second = at // 1000
                storage.flush()
            samples += target.scrape(scrape, arguments.start)
    storage.flush()
    if error := storage.last_error():
        raise RuntimeError(error)
    _say("logged", samples=samples)
    signal.pause()


def _load(arguments: argparse.Namespace) -> None:
    at_start, storage, targets = _open(arguments)
    samples = block_samples = 0
    asking = compacting = 0.0
    second = 0
    began, began_processor = time.perf_counter(), _processor()
    for scrape in range(arguments.scrapes):
        at = arguments.start + scrape * INTERVAL_MILLISECONDS
        if scrape == (_BLOCK + _BLOCK // 6) // INTERVAL_MILLISECONDS:
            before = _processor()
            _ask_often("select_head", storage, arguments, at - _BLOCK, at - 1)
            asking = _processor() - before
        for target in targets:
            at = target.time(scrape, arguments.start)
            # The server commits each second, so each second of samples is one.
            if at // 1000 != second:
                second = at // 1000
                storage.flush()
            count = target.scrape(scrape, arguments.start)
            samples += count
            if at < arguments.start + _BLOCK:
                block_samples += count
        if scrape % _TIDY_EVERY == 0:
            before = _processor()
            storage.tidy()
            storage.compact()
            compacting += _processor() - before
    storage.flush()
    used_processor = _processor() - began_processor - asking
    seconds = time.perf_counter() - began
    used, counts = _memory(), storage.stats()
    if error := storage.last_error():
        raise RuntimeError(error)
    _say(
        "loaded",
        samples=samples,
        processor_seconds=used_processor,
        compacting_seconds=compacting,
        seconds=seconds,
        # What the ids in the log mean stands in the catalog.
        wal_bytes=counts["wal_bytes_written"] + counts["catalog_bytes"],
        wal_samples=samples,
        start_bytes=at_start,
        series=counts["series"],
        peak_bytes=used["VmHWM"],
        anonymous_bytes=used["RssAnon"],
        mapped_bytes=used["RssFile"],
        block_bytes=counts["block_bytes"],
        block_samples=block_samples if counts["blocks"] else 0,
    )
    _ask_often("select_blocks", storage, arguments, arguments.start, arguments.start + _BLOCK - 1)
    signal.pause()


def _reopen(arguments: argparse.Namespace) -> None:
    began, began_processor = time.perf_counter(), _processor()
    storage = Storage(arguments.data)
    start = arguments.start + (arguments.scrapes - 1) * INTERVAL_MILLISECONDS
    _, found = _ask(storage, [("__name__", "=~", ".+")], start, start + INTERVAL_MILLISECONDS - 1)
    seconds, processor = time.perf_counter() - began, _processor() - began_processor
    _say("reopened", seconds=seconds, processor_seconds=processor, peak_bytes=_memory()["VmHWM"], **found)
    storage.close()


def _write(arguments: argparse.Namespace) -> None:
    _, storage, targets = _open(arguments)
    samples = 0
    for scrape in range(arguments.scrapes):
        for target in targets:
            samples += target.scrape(scrape, arguments.start)
        if scrape % _TIDY_OFTEN == 0:
            storage.flush()
            storage.tidy()
            if arguments.blocks:
                storage.compact()
    storage.flush()
    if arguments.blocks:
        storage.compact(everything=True)
    if error := storage.last_error():
        raise RuntimeError(error)
    _say("written", samples=samples, blocks=storage.stats()["blocks"])
    storage.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; `python -m bench.storage` calls it."""
    actions: dict[str, Callable[[argparse.Namespace], None]] = {
        "load": _load, "log": _log, "reopen": _reopen, "write": _write,
    }  # fmt: skip
    parser = argparse.ArgumentParser(prog="python -m bench.storage_ours")
    parser.add_argument("action", choices=actions)
    parser.add_argument("--data", required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--metric", default="")
    parser.add_argument("--targets", type=int, required=True)
    parser.add_argument("--scrapes", type=int, required=True)
    parser.add_argument("--start", type=int, required=True)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--retention", type=float, default=15 * 86400, help="seconds that samples are kept")
    parser.add_argument(
        "--blocks", action="store_true", help="write: all goes into blocks, and nothing stays in the log"
    )
    parser.add_argument("--shared", action="store_true", help="all targets have the same columns")
    args = parser.parse_args(arguments)
    actions[args.action](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
