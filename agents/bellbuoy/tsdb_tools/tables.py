"""Columns that stand below each other, times and sizes as people read them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

Cell = str | int
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Lines of a table, numbers to the right; a line of its own says that there are no rows."""
    if not rows:
        return "  none\n"
    texts = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *texts]) for i in range(len(head))]
    right = [isinstance(rows[0][i], int) for i in range(len(head))]
    lines = (
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in [list(head), *texts]
    )
    return "".join(f"  {line.rstrip()}\n" for line in lines)


def time_text(milliseconds: int) -> str:
    """RFC 3339, in UTC; the number itself where the calendar ends."""
    try:
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return at.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds").replace("+00:00", "Z")


def size_text(size: float) -> str:
    """Bytes with three digits."""
    power = min(len(_UNITS) - 1, int(math.log(size, 1024))) if size >= 1 else 0
    value = size / 1024**power
    return f"{value:.0f} {_UNITS[power]}" if power == 0 or value >= 100 else f"{value:.1f} {_UNITS[power]}"
