"""The flags of `bellbuoy tsdb`: a command, its folder, its file."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bellbuoy import promql
from bellbuoy.archive.options import ArchiveOptions, add_archive_arguments, archive_options
from bellbuoy.errors import OptionsError

EXPORT_FORMATS = ("parquet", "openmetrics", "prometheus")
IMPORT_FORMATS = ("openmetrics", "prometheus")
OUTPUTS = ("text", "json")
TOP_LIMIT = 10_000
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Options:
    """What to do with which data folder."""

    command: str
    """export, import, list, analyze, verify or archive."""
    storage_path: Path
    format: str = ""
    """What is written or read; of what only tells, text or json."""
    path: Path = Path()
    """Where an export goes, where an import comes from."""
    selectors: tuple[Sequence[tuple[str, str, str]], ...] = ()
    """Matchers of what is exported; none: everything."""
    start: int | None = None
    end: int | None = None
    """The first and the last time that are exported or analyzed, in milliseconds."""
    top: int = 20
    """Rows of each table of an analysis."""
    archive: ArchiveOptions | None = None
    """Where an archive is written to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bellbuoy tsdb`."""
    parser.description = (
        "Looks into a data folder, exports and archives it, and imports into one. list, analyze and\n"
        "verify work beside a server; for the others stop it first, or take a snapshot of its data."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")

    def command(name: str, meaning: str, description: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=meaning, description=description, formatter_class=parser.formatter_class)
        one.add_argument(
            "--storage.path",
            dest="storage_path",
            type=Path,
            default=Path("data"),
            metavar="FOLDER",
            help="folder of the time series (default: %(default)s)",
        )
        return one

    add = command(
        "export",
        "writes samples as Parquet, as OpenMetrics text, or as blocks of Prometheus",
        "Writes samples as Parquet (for DuckDB, Polars, pandas, Spark), as OpenMetrics text with\n"
        "timestamps, or as blocks that a Prometheus reads from its own data folder.",
    ).add_argument
    add("--format", choices=EXPORT_FORMATS, required=True, help="form of what is written (required)")
    add(
        "--out",
        metavar="PATH",
        type=Path,
        required=True,
        help="where to write: a file; a folder for blocks; for Parquet a name that ends in .parquet is one file, any "
        "other a folder with a file a day (required)",
    )
    add(
        "--match",
        metavar="SELECTOR",
        action="append",
        default=[],
        help='series to export, such as up{job="node"}; may be repeated (default: all)',
    )
    _add_window(add)

    add = command(
        "import",
        "stores samples of OpenMetrics text, or of blocks of Prometheus",
        "Stores samples of OpenMetrics text with timestamps, or of blocks that a Prometheus wrote. What\n"
        "is there already stays as it is, so an import that was cut off can be started again.",
    ).add_argument
    add("format", choices=IMPORT_FORMATS, metavar="FORMAT", help=f"form of what is read: {', '.join(IMPORT_FORMATS)}")
    add("path", metavar="PATH", type=Path, help="the file; a block, or a folder of blocks")

    add = command(
        "list",
        "shows the files of a data folder: blocks, chunk files, log, catalog",
        "Shows what lies in a data folder: blocks with their times, samples, series and bytes, and what\n"
        "is not in blocks yet. It changes nothing and works beside a server.",
    ).add_argument
    _add_output(add)

    add = command(
        "analyze",
        "shows which metrics, labels and targets make the series, and which come and go",
        "Shows what a data folder's series are made of: metrics, targets, labels and pairs with most of\n"
        "them, and which come and go. It changes nothing and works beside a server.",
    ).add_argument
    add(
        "--match",
        metavar="SELECTOR",
        action="append",
        default=[],
        help='series to look at, such as {job="node"}; may be repeated (default: all)',
    )
    _add_window(add)
    add("--top", metavar="N", type=_count, default=20, help="rows of each table (default: %(default)s)")
    _add_output(add)

    add = command(
        "verify",
        "reads every file wholly; exit status 1 when something is damaged",
        "Reads every file of a data folder wholly, and says what is whole, what is damaged, where, and\n"
        "what to do. It changes nothing and works beside a server. Exit status 1: something is damaged.",
    ).add_argument
    _add_output(add)

    add = command(
        "archive",
        "writes the blocks of a stopped server as Parquet to a folder or bucket",
        "Writes each block that is not in the archive yet as Parquet to a folder or to a bucket, as a\n"
        "server with --storage.archive.url does.",
    ).add_argument
    add_archive_arguments(add, prefix="--", required=True)


def options(args: argparse.Namespace) -> Options:
    """The options that the flags say. Raises OptionsError."""
    folder = args.storage_path
    if args.command == "import":
        return Options("import", folder, args.format, args.path)
    if args.command in ("list", "verify"):
        return Options(args.command, folder, args.output)
    if args.command == "archive":
        return Options("archive", folder, archive=archive_options(args))
    start, end = _time("--start", args.start), _time("--end", args.end)
    if start is not None and end is not None and end < start:
        raise OptionsError("cannot use --end: it is before --start; exchange them")
    selectors = tuple(_selector(text) for text in args.match)
    if args.command == "analyze":
        return Options("analyze", folder, args.output, selectors=selectors, start=start, end=end, top=args.top)
    return Options("export", folder, args.format, args.out, selectors, start, end)


def _add_window(add: Callable[..., argparse.Action]) -> None:
    add("--start", metavar="TIME", help="first time, RFC 3339 or seconds since 1970 (default: the first sample's)")
    add("--end", metavar="TIME", help="last time, RFC 3339 or seconds since 1970 (default: the last sample's)")


def _add_output(add: Callable[..., argparse.Action]) -> None:
    add("--output", choices=OUTPUTS, default="text", help="form of what is printed (default: %(default)s)")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= TOP_LIMIT:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number from 1 to {TOP_LIMIT}')
    return int(text)


def _selector(text: str) -> Sequence[tuple[str, str, str]]:
    try:
        tree = promql.parse(text)
    except promql.QueryError as e:
        raise OptionsError(f"cannot use --match {text!r}: {e}") from e
    if not isinstance(tree, promql.VectorSelector) or tree.offset is not None or tree.at is not None:
        raise OptionsError(f'cannot use --match {text!r}: it is no series selector; write name{{label="value"}}')
    return tree.all_matchers


def _time(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        if _TIME.fullmatch(text):
            return round(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        return round(float(text) * 1000)
    except (ValueError, OverflowError) as e:
        raise OptionsError(
            f"cannot use {flag} {text!r}: write seconds since 1970, or a time such as 2026-01-31T12:00:00Z"
        ) from e
