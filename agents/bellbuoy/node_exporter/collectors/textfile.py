"""Metrics that others write into files, such as a cron job's last success: `*.prom` in the folders of the options.

Files are read at each scrape. One that cannot be read, is no text format, has timestamps, or says otherwise than
another what a metric is, is left out whole and counted in `node_textfile_scrape_error`; the others are shown.
"""

import glob
import logging
import os
from collections.abc import Callable

from bellbuoy.exposition import Page, ParsedFamily, ParseError, labels, number, parse, series
from bellbuoy.logs import fields
from bellbuoy.node_exporter.machine import Machine, read
from bellbuoy.node_exporter.options import Options

log = logging.getLogger(__name__)


class _Unusable(ValueError):
    pass


def _families(path: str) -> list[ParsedFamily]:
    try:
        families = list(parse(read(path)).values())
    except ParseError as e:
        raise _Unusable(str(e)) from e
    except OSError as e:
        raise _Unusable(f"cannot read it: {e.strerror}") from e
    for family in families:
        if any(sample.timestamp_ms is not None for sample in family.samples):
            raise _Unusable(f"metric {family.name} has timestamps; write it without, it is as old as its file")
    return families


def textfile(_: Machine, options: Options) -> Callable[[Page], None]:
    """The metrics of the files, their ages, and whether any was bad."""
    reported: dict[str, str] = {}

    def folder_files(folder: str, errors: dict[str, str]) -> list[str]:
        try:
            return sorted(entry.path for entry in os.scandir(folder) if entry.name.endswith(".prom"))
        except OSError as e:
            errors[folder] = f"cannot list it: {e.strerror}"
            return []

    def collect(page: Page) -> None:
        errors: dict[str, str] = {}
        ages: list[tuple[str, int]] = []
        kinds: dict[str, tuple[str, str]] = {}
        lines: set[tuple[str, object]] = set()

        def check(families: list[ParsedFamily], page: Page) -> None:
            for family in families:
                kind = kinds.get(family.name, (family.type, path))
                if kind[0] != family.type or (family.name not in kinds and family.name in page.families):
                    raise _Unusable(f"metric {family.name} is another type in {kind[1]} or one of our own")
                for sample in family.samples:
                    if (sample.name, sample.labels) in lines:
                        raise _Unusable(f"series {sample.name} is in another file with the same labels")

        for pattern in options.textfile_directories:
            for folder in sorted(glob.glob(pattern)) or [pattern]:
                for path in folder_files(folder, errors):
                    try:
                        families = _families(path)
                        check(families, page)
                    except _Unusable as e:
                        errors[path] = str(e)
                        continue
                    ages.append((path, int(os.stat(path).st_mtime)))
                    for family in families:
                        kinds.setdefault(family.name, (family.type, path))
                        about = family.help if family.help is not None else f"Metric read from {path}"
                        target = page.family(family.name, family.type, about)
                        for sample in family.samples:
                            lines.add((sample.name, sample.labels))
                            target.lines.append(f"{series(sample.name, sample.labels)} {number(sample.value)}")
        for path, mtime in ages:
            about = "Unixtime mtime of textfiles successfully read."
            page.gauge("node_textfile_mtime_seconds", about, mtime, labels(file=path))
        about = "1 if there was an error opening or reading a file, 0 otherwise"
        page.gauge("node_textfile_scrape_error", about, int(bool(errors)))
        for path, reason in errors.items():
            if reported.get(path) != reason:
                log.warning("cannot use metrics of a file", extra=fields(path=path, error=reason))
        reported.clear()
        reported.update(errors)

    return collect
