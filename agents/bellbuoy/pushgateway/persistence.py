"""The groups on disk: one file, written whole beside the old one, then put in its place.

    bellbuoy-pushgateway 1 CRC32 LENGTH\\n   the format's version; checksum and length of what follows
    {"groups": [...]}                        JSON; numbers as text, since JSON has no NaN

A file that is cut off or changed is kept under another name, for someone to look at, and the pushgateway begins empty:
a job's next push matters more than its last one. A file of a newer version is not touched: that is somebody's
downgrade.
"""

import logging
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import orjson

from bellbuoy.errors import CannotError
from bellbuoy.exposition import Sample
from bellbuoy.logs import fields
from bellbuoy.pushgateway.families import stored
from bellbuoy.pushgateway.store import Group

log = logging.getLogger(__name__)
MAGIC = b"bellbuoy-pushgateway"
VERSION = 1


class PersistenceError(CannotError):
    """The file cannot be used or written, and someone has to see to it."""


class _Corrupt(ValueError):
    pass


def encode(groups: list[Group]) -> bytes:
    """The file's content."""
    body = orjson.dumps({"groups": [_group_out(group) for group in groups]})
    return b"%s %d %08x %d\n" % (MAGIC, VERSION, zlib.crc32(body), len(body)) + body


def _group_out(group: Group) -> dict[str, Any]:
    return {
        "labels": group.labels,
        "push_time": group.push_time,
        "failure_time": group.failure_time,
        "families": [
            {
                "name": family.name,
                "type": family.type,
                "help": family.help,
                "pushed_at": family.pushed_at,
                "samples": [(sample.name, sample.labels, repr(sample.value)) for sample in family.samples],
            }
            for family in group.families.values()
        ],
    }


def decode(data: bytes) -> list[Group]:
    """The groups of a file's content. Raises PersistenceError for a newer version, ValueError for a corrupt content."""
    header, _, body = data.partition(b"\n")
    words = header.split(b" ")
    if len(words) != 4 or words[0] != MAGIC or not words[1].isdigit():
        raise _Corrupt("it does not begin as a file of the pushgateway does")
    if int(words[1]) > VERSION:
        raise PersistenceError(
            f"it is of version {int(words[1])}, this program reads up to {VERSION}: use the newer one, or move it away"
        )
    if len(body) != int(words[3]):
        raise _Corrupt(f"it has {len(body)} bytes where {int(words[3])} were written")
    if zlib.crc32(body) != int(words[2], 16):
        raise _Corrupt("its checksum is wrong")
    return [_group_in(group) for group in orjson.loads(body)["groups"]]


def _labels(pairs: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in pairs)


def _group_in(data: dict[str, Any]) -> Group:
    group = Group(_labels(data["labels"]), push_time=data["push_time"], failure_time=data["failure_time"])
    for family in data["families"]:
        samples = [Sample(name, _labels(labels), float(value)) for name, labels, value in family["samples"]]
        name = family["name"]
        group.families[name] = stored(name, family["type"], family["help"], samples, pushed_at=family["pushed_at"])
    return group


def load(path: Path, *, now: float) -> list[Group]:
    """The groups of the file; none if there is no file. A corrupt file is moved to `PATH.corrupt-SECONDS`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        if not path.parent.is_dir():
            raise PersistenceError(f"cannot keep groups in {path}: its folder does not exist; make it") from e
        return []
    except OSError as e:
        raise PersistenceError(f"cannot read {path}: {e.strerror}; mend its permissions or give another file") from e
    try:
        return decode(data)
    except PersistenceError as e:
        raise PersistenceError(f"cannot use {path}: {e}") from e
    except (ValueError, KeyError, TypeError) as e:
        aside = path.with_name(f"{path.name}.corrupt-{int(now)}")
        path.rename(aside)
        log.error(  # noqa: TRY400 - the reason says all; a stack would not say more
            "persistence file is corrupt, it is kept aside and nothing is restored",
            extra=fields(file=path, kept_as=aside, error=e),
        )
        return []


def save(path: Path, data: bytes) -> None:
    """Replace the file's content, durably: after this returns, a crash finds the new one, and before, the old one."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.in_progress.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as e:
        raise PersistenceError(f"cannot write {path}: {e.strerror}; see to the disk or its permissions") from e
