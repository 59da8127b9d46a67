"""A data folder as blocks of Prometheus's, and back."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from bellbuoy.archive.progress import Progress
from bellbuoy.archive.source import Samples, Source
from bellbuoy.tsdb_tools import block_format as form
from bellbuoy.tsdb_tools.block_reader import BlockReader, read_meta
from bellbuoy.tsdb_tools.block_writer import BlockWriter
from bellbuoy.tsdb_tools.errors import ImportDataError

# The span of Prometheus's own youngest blocks: it merges them as it does those.
BLOCK_MS = 2 * 3_600_000


def write(source: Source, out: Path, progress: Progress) -> list[Path]:
    """A block for each two hours that have samples; when it fails, none. Returns their folders."""
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    windows = -(-(source.end + 1) // BLOCK_MS) - source.start // BLOCK_MS
    for number, (start, end) in enumerate(source.windows(BLOCK_MS), start=1):
        writer = BlockWriter(out)
        try:
            for samples in (one for name in source.metrics(start, end) for one in source.metric(name, start, end)):
                writer.add(samples)
                progress.done(len(samples.timestamps), f"block {number} of {windows}")
            block = writer.finish()
        except BaseException:
            writer.abandon()
            for one in written:
                shutil.rmtree(one)
            raise
        if block is not None:
            written.append(block)
    return written


def find(path: Path) -> list[Path]:
    """The blocks in a folder, by time; or the folder itself, if it is one. Raises ImportDataError."""
    if (path / form.META).is_file():
        return [path]
    if not path.is_dir():
        raise ImportDataError(
            f"cannot import {path}: it is no folder; name one with blocks, such as Prometheus's data folder"
        )
    found = [one for one in path.iterdir() if (one / form.META).is_file()]
    if not found:
        raise ImportDataError(
            f"cannot import {path}: no folder in it has a {form.META}; name one with blocks, such as Prometheus's data "
            "folder (what a Prometheus has not yet written to blocks, POST /api/v1/admin/tsdb/snapshot writes)"
        )
    return sorted(found, key=lambda one: (int(str(read_meta(one)["minTime"])), one.name))


def read(path: Path, progress: Progress) -> Iterator[Samples]:
    """All samples of all blocks."""
    blocks = find(path)
    for number, one in enumerate(blocks, start=1):
        reader = BlockReader(one)
        for samples in reader.samples():
            yield samples
            progress.done(len(samples.timestamps), f"block {number} of {len(blocks)}")
