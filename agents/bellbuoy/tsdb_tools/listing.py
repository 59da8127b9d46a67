"""`bellbuoy tsdb list`: what lies in a data folder."""

from pathlib import Path
from typing import Any

from bellbuoy.tsdb_tools import files
from bellbuoy.tsdb_tools.files import DataFile
from bellbuoy.tsdb_tools.tables import Cell, size_text, table, time_text

Listing = dict[str, Any]


def listing(folder: Path) -> Listing:
    """The files by kind, each with its numbers; times in milliseconds."""
    found = list(files.read(folder))
    by_kind = {kind: [_described(file) for file in found if file.kind == kind] for kind in KINDS}
    aside = [{"path": str(path), "bytes": path.stat().st_size} for path in files.set_aside(folder)]
    return {"folder": str(folder), **{name: by_kind[kind] for kind, name in KINDS.items()}, "set_aside": aside}


KINDS = {
    "block": "blocks", "chunks": "chunk_files", "log": "log_segments", "catalog": "catalog", "tombstones": "tombstones",
}  # fmt: skip


def _described(file: DataFile) -> dict[str, Any]:
    out: dict[str, Any] = {"path": str(file.path), "bytes": file.bytes}
    if file.number:
        out["number"] = file.number
    if file.kind == "block" and file.facts:
        out["kind"] = "late" if file.late else "regular"
    facts = dict(file.facts)
    if file.late:
        # It answers for no span.
        del facts["start"], facts["end"]
    out |= facts
    out["damage"] = [{"at": one.at, "reason": one.reason} for one in file.damage]
    return out


def text(found: Listing) -> str:
    """The same for people."""
    out = f"blocks in {found['folder']}\n"
    head: tuple[str, ...] = (
        "NUMBER",
        "KIND",
        "START",
        "END",
        "START-UNIX",
        "END-UNIX",
        "SAMPLES",
        "SERIES",
        "BYTES",
        "INDEX",
    )
    out += table(head, [_row(one, ("samples", "series", "bytes", "index_bytes")) for one in found["blocks"]])
    out += "chunk files: what is in no block yet\n"
    head = ("NUMBER", "", "FIRST", "LAST", "FIRST-UNIX", "LAST-UNIX", "CHUNKS", "SAMPLES", "BYTES")
    out += table(head, [_row(one, ("chunks", "samples", "bytes")) for one in found["chunk_files"]])
    out += "log segments: what a restart replays\n"
    head = ("NUMBER", "", "FIRST", "LAST", "FIRST-UNIX", "LAST-UNIX", "ROWS", "SAMPLES", "BYTES")
    out += table(head, [_row(one, ("rows", "samples", "bytes")) for one in found["log_segments"]])
    for one in found["catalog"]:
        out += (
            f"catalog: {one.get('groups', 0):,} groups, {one.get('sets', 0):,} column sets, {one.get('series', 0):,} "
            f"series without rows, {size_text(one['bytes'])}{_mark(one)}\n"
        )
    for one in found["tombstones"]:
        out += f"deletions: of {one.get('series', 0):,} series, {size_text(one['bytes'])}{_mark(one)}\n"
    if found["set_aside"]:
        aside = found["set_aside"]
        out += f"set aside as damaged: {len(aside)} files, {size_text(sum(one['bytes'] for one in aside))}, such as "
        out += f"{aside[0]['path']}\n"
    every = [one for name in KINDS.values() for one in found[name]]
    samples = sum(one.get("samples", 0) for one in found["blocks"])
    out += f"in all {size_text(sum(one['bytes'] for one in every))}, {samples:,} samples in blocks\n"
    if any(one["damage"] for one in every):
        out += "Some files are damaged: bellbuoy tsdb verify says where, and what to do.\n"
    return out


def _row(one: dict[str, Any], numbers: tuple[str, ...]) -> list[Cell]:
    late = one.get("kind") != "regular"
    first, last = (one.get("first"), one.get("last")) if late else (one["start"], one["end"])
    times = [time_text(first), time_text(last)] if first is not None and last is not None else ["-", "-"]
    unix = [_unix(first), _unix(last)] if first is not None and last is not None else ["-", "-"]
    kind = one.get("kind", "") if one["damage"] == [] else "damaged"
    return [f"{one['number']:08}", kind, *times, *unix, *(int(one.get(name, 0)) for name in numbers)]


def _unix(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}".removesuffix(".000")


def _mark(one: dict[str, Any]) -> str:
    return ", damaged" if one["damage"] else ""
