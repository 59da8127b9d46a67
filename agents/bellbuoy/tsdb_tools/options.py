"""The flags of `bellbuoy tsdb`: a command, its folder, its file."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bellbuoy import promql
from bellbuoy.errors import OptionsError

EXPORT_FORMATS = ("parquet", "openmetrics", "prometheus")
IMPORT_FORMATS = ("openmetrics", "prometheus")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Options:
    """What to do with which data folder."""

    command: str
    """export or import."""
    storage_path: Path
    format: str
    path: Path
    """Where an export goes, where an import comes from."""
    selectors: tuple[Sequence[tuple[str, str, str]], ...] = ()
    """Matchers of what is exported; none: everything."""
    start: int | None = None
    end: int | None = None
    """The first and the last time that are exported, in milliseconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bellbuoy tsdb`."""
    parser.description = (
        "Exports a data folder that no server uses, and imports into one. Stop the server first, or\n"
        "take a snapshot of its data."
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
    add("--start", metavar="TIME", help="first time, RFC 3339 or seconds since 1970 (default: the first sample's)")
    add("--end", metavar="TIME", help="last time, RFC 3339 or seconds since 1970 (default: the last sample's)")

    add = command(
        "import",
        "stores samples of OpenMetrics text, or of blocks of Prometheus",
        "Stores samples of OpenMetrics text with timestamps, or of blocks that a Prometheus wrote. What\n"
        "is there already stays as it is, so an import that was cut off can be started again.",
    ).add_argument
    add("format", choices=IMPORT_FORMATS, metavar="FORMAT", help=f"form of what is read: {', '.join(IMPORT_FORMATS)}")
    add("path", metavar="PATH", type=Path, help="the file; a block, or a folder of blocks")


def options(args: argparse.Namespace) -> Options:
    """The options that the flags say. Raises OptionsError."""
    if args.command == "import":
        return Options("import", args.storage_path, args.format, args.path)
    start, end = _time("--start", args.start), _time("--end", args.end)
    if start is not None and end is not None and end < start:
        raise OptionsError("cannot use --end: it is before --start; exchange them")
    selectors = tuple(_selector(text) for text in args.match)
    return Options("export", args.storage_path, args.format, args.out, selectors, start, end)


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
