"""Does what the flags say, on a thread of its own, so that a signal is heard meanwhile."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bellbuoy import optional
from bellbuoy.archive import Archiver
from bellbuoy.archive.errors import ArchiveError, ExportError
from bellbuoy.archive.progress import Progress, Steps
from bellbuoy.archive.source import Floats, Ints, Source, histograms_of, is_histogram, open_storage
from bellbuoy.printing import show, show_json
from bellbuoy.threads import until_stopped
from bellbuoy.tsdb import Histogram, LabelSets, Storage, StorageError, survey_series
from bellbuoy.tsdb_tools import analysis, blocks, files, listing, openmetrics, verification
from bellbuoy.tsdb_tools.block_reader import HISTOGRAM_WEIGHT
from bellbuoy.tsdb_tools.errors import DamagedError, ImportDataError
from bellbuoy.tsdb_tools.options import Options

# How many imported samples the storage holds unsealed.
TIDY_SAMPLES = 1_000_000


async def run(options: Options, stop: asyncio.Event, *, listening: Callable[[str], None] | None = None) -> None:
    """Do what the options say; ends early, with an error, when it is told to stop. Nothing listens anywhere."""
    await until_stopped(partial(perform, options), stop)


def perform(options: Options, stopped: Callable[[], bool] = lambda: False) -> None:
    """The work itself. Raises CannotError."""
    does = {
        "export": export, "import": import_, "list": list_, "analyze": analyze, "verify": verify, "archive": archive,
    }  # fmt: skip
    does[options.command](options, stopped)


def list_(options: Options, stopped: Callable[[], bool]) -> None:
    """Print what lies in the folder."""
    found = listing.listing(options.storage_path)
    _print(options, found, lambda: listing.text(found))


def analyze(options: Options, stopped: Callable[[], bool]) -> None:
    """Print what the folder's series are made of."""
    folder, said = options.storage_path, Steps("tsdb analyze", stopped)
    index_bytes = 0
    for kind, path in files.find(folder):
        if kind in ("block", "catalog") and (file := files.look(kind, path)) is not None:
            index_bytes += file.facts.get("index_bytes", file.bytes if kind == "catalog" else 0)
    first, last = options.start, options.end
    try:
        survey = survey_series(
            str(folder),
            [list(one) for one in options.selectors],
            -(2**63) if first is None else first,
            2**63 - 1 if last is None else last,
            progress=said.step,
        )
    except StorageError as e:
        raise DamagedError(str(e)) from e
    found = analysis.analyze(survey, index_bytes=index_bytes, top=options.top)
    _print(options, {**asdict(found), "losses": survey.losses}, lambda: analysis.text(found, survey.losses))


def verify(options: Options, stopped: Callable[[], bool]) -> None:
    """Print what is whole. Raises DamagedError when something is not."""
    folder, said = options.storage_path, Steps("tsdb verify", stopped)
    found = verification.verify(folder, step=said.step)
    _print(options, verification.report(folder, found), lambda: verification.text(folder, found))
    damaged = [file for file in found if file.damage]
    if damaged:
        raise DamagedError(f"{len(damaged)} of {len(found)} files of {folder} are damaged; what to do is said above")


def archive(options: Options, stopped: Callable[[], bool]) -> None:
    """Write the blocks that are not in the archive yet. Raises ArchiveError."""
    if options.archive is None:
        raise RuntimeError("BUG: there is nowhere to write to")
    files.find(options.storage_path)
    progress = Progress("tsdb archive", stopped=stopped, cure="what is in the archive stays, start it again")
    archiver = Archiver(options.archive, options.storage_path)
    try:
        with open_storage(options.storage_path) as storage:
            done = archiver.run(storage, progress)
    except StorageError as e:
        raise ArchiveError(str(e)) from e
    progress.end(f"{done.files} files, {done.bytes:,} bytes, {options.archive.url}")


def _print(options: Options, for_programs: Any, for_people: Callable[[], str]) -> None:
    if options.format == "json":
        show_json(for_programs)
    else:
        show(for_people())


def export(options: Options, stopped: Callable[[], bool]) -> None:
    """Write what the options say. Raises ExportError; then nothing is left behind."""
    out = options.path
    progress = Progress("tsdb export", stopped=stopped, cure="nothing was written, start it again")
    _check_out(options)
    if options.format == "parquet":
        _parquet()
    with Source.of_folder(
        options.storage_path,
        options.selectors,
        start=options.start,
        end=options.end,
        warn=lambda loss: progress.say(f"the folder is damaged: {loss}"),
    ) as source:
        try:
            if options.format == "openmetrics":
                what = _export_text(source, out, progress)
            elif options.format == "prometheus":
                what = f"{len(blocks.write(source, out, progress))} blocks in {out}"
            else:
                what = f"{len(_parquet().write(source, out, progress))} files, {out}"
        except OSError as e:
            raise ExportError(
                f"cannot write {e.filename or out}: {(e.strerror or str(e)).lower()}; free space there, or choose "
                "another --out"
            ) from e
    progress.end(what)


def _parquet() -> ModuleType:
    return optional.load("bellbuoy.archive.parquet", extra="parquet", otherwise=ExportError, cannot="write Parquet")


def _check_out(options: Options) -> None:
    out, one_file = options.path, options.format == "openmetrics" or options.path.suffix == ".parquet"
    if options.format == "prometheus":
        if out.exists() and not out.is_dir():
            raise ExportError(f"cannot write {out}: it is no folder; choose another --out")
    elif out.exists() and (one_file or not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"cannot write {out}: it is there already; remove it, or choose another --out")
    if one_file and not out.parent.is_dir():
        raise ExportError(f"cannot write {out}: its folder does not exist; make it, or choose another --out")


def _export_text(source: Source, out: Path, progress: Progress) -> str:
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            left_out = openmetrics.write(source, file, progress)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(out)
    finally:
        temporary.unlink(missing_ok=True)
    if left_out.nameless:
        progress.say(f"{left_out.nameless} series have no name, which the format cannot say: left out")
    if left_out.histograms:
        progress.say(
            f"{left_out.histograms:,} samples are native histograms, which the format cannot say: left out; "
            "--format prometheus and parquet have them"
        )
    return str(out)


def import_(options: Options, stopped: Callable[[], bool]) -> None:
    """Store what the options say. Raises ImportDataError; what was stored until then stays."""
    cure = "what was stored stays, start it again"
    progress = Progress("tsdb import", stopped=stopped, cure=cure)
    if not options.path.exists():
        raise ImportDataError(f"cannot import {options.path}: it does not exist; name what is to be imported")
    # Bad input is said before the folder is made.
    if options.format == "prometheus":
        blocks.find(options.path)
    try:
        with open_storage(options.storage_path) as storage:
            target = _Target(storage)
            if options.format == "openmetrics":
                for labels, times, values in openmetrics.read(options.path):
                    target.append(labels, times, values)
                    progress.done(len(times), str(options.path))
            else:
                for samples in blocks.read(options.path, progress):
                    owners = np.repeat(np.arange(len(samples.labels)), np.diff(samples.offsets))
                    labels, native = samples.labels.take(owners), is_histogram(samples.values)
                    if native.any():
                        at, numbers = np.flatnonzero(native), np.flatnonzero(~native)
                        target.append_histograms(labels.take(at), samples.timestamps[at], histograms_of(samples, at))
                        target.append(labels.take(numbers), samples.timestamps[numbers], samples.values[numbers])
                    else:
                        target.append(labels, samples.timestamps, samples.values)
            target.finish()
    except StorageError as e:
        raise ImportDataError(f"{e}; {cure}") from e
    except OSError as e:
        raise ImportDataError(
            f"cannot import {e.filename or options.path}: {(e.strerror or str(e)).lower()}; see that we may read it"
        ) from e
    progress.end(f"{target.new:,} of them new, {options.storage_path}")


class _Target:
    """The storage that is filled: what was appended is sealed now and then, so that memory stays what it was."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._open = storage, 0
        self.new = 0

    def append(self, labels: LabelSets, times: Ints, values: Floats) -> None:
        self.new += self._storage.append(labels, times, values)
        self._tidy(len(times))

    def append_histograms(self, labels: LabelSets, times: Ints, histograms: list[Histogram]) -> None:
        self.new += self._storage.append_histograms(labels, times, histograms)
        self._tidy(len(times) * HISTOGRAM_WEIGHT)

    def _tidy(self, samples: int) -> None:
        self._open += samples
        if self._open >= TIDY_SAMPLES:
            self._open = 0
            self._storage.flush()
            self._storage.tidy()

    def finish(self) -> None:
        self._storage.seal()
        self._storage.flush()
        self._storage.tidy()
