"""What a backtest found, for people: a line that says it all, a small plot, and each firing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bellbuoy.durations import format_duration
from bellbuoy.labels import format_labels

BLOCKS = " ▁▂▃▄▅▆▇█"
FIRINGS_SHOWN = 20


def plot(values: Sequence[int], *, width: int) -> str:
    """The largest of each part of the values as a block: one line, as wide as there is room, or as there are values."""
    count = min(width, len(values))
    if count == 0:
        return ""
    parts = [values[at * len(values) // count : (at + 1) * len(values) // count] for at in range(count)]
    highest = max(1, max(values))
    # What is there at all shall be seen.
    return "".join(BLOCKS[-(-max(part) * (len(BLOCKS) - 1) // highest)] for part in parts)


def report(found: dict[str, Any], *, width: int) -> str:
    """The text of one rule's backtest (`as_json` of it)."""
    rule = found["rule"]
    kind = "alert" if "alert" in rule else "record"
    spans = f"from {_when(found['start'])} to {_when(found['end'])}, each {format_duration(found['interval'])}"
    lines = [f"{kind} {rule[kind]}: {rule['expr']}", f"  {spans}, {found['evaluations']} evaluations"]
    lines.append("  " + (_fired(found) if kind == "alert" else _recorded(found)))
    highest = max(found["firing"], default=0)
    room = max(10, width - 20)
    if highest:
        name = "firing" if kind == "alert" else "series"
        lines.append(f"  {name} │{plot(found['firing'], width=room)}│ {highest}")
    if any(found["pending"]):
        lines.append(f"  pending│{plot(found['pending'], width=room)}│ {max(found['pending'])}")
    for one in found["firings"][:FIRINGS_SHOWN]:
        end = f"to {_when(one['endedAt'])}" if one["endedAt"] else "to the end"
        lines.append(f"  {_when(one['firedAt'])} {end}, value {one['value']}: {format_labels(one['labels'])}")
        lines += [f"      {name}: {text}" for name, text in one["annotations"].items()]
    if (more := found["fired"] - FIRINGS_SHOWN) > 0:
        lines.append(f"  and {more} more")
    lines += [f"  {one['evaluations']} evaluations would have failed: {one['error']}" for one in found["errors"]]
    lines += [f"  {warning}" for warning in found["warnings"]]
    return "\n".join(lines) + "\n"


def _fired(found: dict[str, Any]) -> str:
    if not found["fired"]:
        waited = ", though it was pending" if any(found["pending"]) else ""
        return f"would never have fired{waited}"
    times = "once" if found["fired"] == 1 else f"{found['fired']} times"
    return f"would have fired {times}, for {format_duration(found['firingSeconds'])} in all"


def _recorded(found: dict[str, Any]) -> str:
    series = found["firing"]
    there = sum(one > 0 for one in series)
    return f"would have written up to {max(series, default=0)} series, at {there} of {len(series)} evaluations"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
