"""`bellbuoy tsdb verify`: reads all files of a data folder wholly, and says what is whole, what is not, and what to do.

Nothing is changed: what a server would set aside at its next start lies there afterwards as before. Beside a server
it is safe, too; what a server was writing just then is looked at twice.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bellbuoy.tsdb_tools import files
from bellbuoy.tsdb_tools.files import Damage, DataFile
from bellbuoy.tsdb_tools.tables import size_text, time_text

CURES = {
    "block": "put back a whole copy from a snapshot; or move the file away: queries of what is damaged fail as long as "
    "it is there (one whose index or tail is damaged a server sets aside itself at its next start)",
    "chunks": "put back a whole copy; or start the server: it leaves out what is damaged, and says so",
    "log": "start the server: it takes all whole records, keeps a copy of the segment, and each target goes on with "
    "its next full row",
    "catalog": "put back a whole copy; or start the server: it keeps a copy, and leaves out the series that the "
    "damaged entries described",
    "tombstones": "start the server: it keeps a copy; then delete anew what can be seen again",
}


def verify(folder: Path, *, step: Callable[[str, int, int], None]) -> list[DataFile]:
    """All files, read wholly; `step` is told of each. Raises DamagedError when it is no data folder."""
    found: list[DataFile] = []
    todo = files.find(folder)
    for done, (kind, path) in enumerate(todo):
        step(str(path), done, len(todo))
        if (file := files.look(kind, path, deep=True)) is not None:
            found.append(file)
    found = files.settle(found)
    return _with_unknown_ids(folder, found)


def _with_unknown_ids(folder: Path, found: list[DataFile]) -> list[DataFile]:
    """With the damage of a catalog that does not know what others refer to."""
    referring = [file for file in found if file.kind in ("chunks", "log")]
    catalogs = [file for file in found if file.kind == "catalog"]
    used = {
        name: frozenset[int]().union(*(file.ids.get(name, frozenset()) for file in referring)) for name in files.IDS
    }
    if not any(used.values()):
        return found
    catalog = (
        catalogs[0]
        if catalogs
        else DataFile("catalog", folder / "catalog", 0, 0, {}, {}, (Damage(0, "it is missing"),))
    )
    missing = [
        f"{len(lost):,} {name}" for name, of in used.items() if (lost := of - catalog.ids.get(name, frozenset()))
    ]
    if not missing:
        return found
    reason = f"it does not know {', '.join(missing)} that chunk files and the log refer to"
    told = replace(catalog, damage=(*catalog.damage, Damage(catalog.bytes, reason)))
    return [*(file for file in found if file.kind != "catalog"), told]


def report(folder: Path, found: list[DataFile]) -> dict[str, Any]:
    """For programs."""
    return {
        "folder": str(folder),
        "whole": not any(file.damage for file in found),
        "files": [
            {
                "path": str(file.path),
                "kind": file.kind,
                "bytes": file.bytes,
                "samples": file.facts.get("samples", 0),
                "damage": [{"at": one.at, "reason": one.reason} for one in file.damage],
                **({"cure": CURES[file.kind]} if file.damage else {}),
            }
            for file in found
        ],
    }


def text(folder: Path, found: list[DataFile]) -> str:
    """For people: a line for each whole file, and for each damage its place; then what to do."""
    width = max(len(str(file.path.relative_to(folder))) for file in found)
    out = ""
    for file in found:
        name = str(file.path.relative_to(folder)).ljust(width)
        times = file.times()
        span = f", {time_text(times[0])} to {time_text(times[1])}" if times else ""
        samples = f", {file.facts['samples']:,} samples" if "samples" in file.facts else ""
        state = "DAMAGED" if file.damage else "whole  "
        out += f"{state}  {name}  {size_text(file.bytes)}{samples}{span}\n"
        out += "".join(f"         {' ' * width}  at byte {one.at}: {one.reason}\n" for one in file.damage)
    for kind in dict.fromkeys(file.kind for file in found if file.damage):
        names = ", ".join(str(file.path) for file in found if file.damage and file.kind == kind)
        out += f"What to do about {names}: {CURES[kind]}.\n"
    return out
