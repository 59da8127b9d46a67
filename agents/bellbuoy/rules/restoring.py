"""`for` after a restart: what the storage knows of alerts that were active before, and since when they count.

Each active alert's start is stored as `ALERTS_FOR_STATE`. It says when the alert began; the time of its last sample
says when the server went away. What lies between that and now does not count.
"""

from dataclasses import dataclass

import numpy as np

from bellbuoy.labels import NAME
from bellbuoy.tsdb import STALE_BITS, Storage

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Restored:
    """What the storage knows of an alert from before a restart."""

    active_at: float
    down_at: float


def restored_start(known: Restored, *, at: float, hold_seconds: float, grace_seconds: float) -> float:
    """When the alert counts as active since: the outage does not count, and at least the grace period is left.

    An alert that was firing goes on firing. Rules with a `for` up to the grace period go on without one.
    """
    remaining = hold_seconds - (known.down_at - known.active_at)
    if remaining <= 0:
        return known.active_at
    if hold_seconds > grace_seconds > remaining:
        return at + grace_seconds - hold_seconds
    return known.active_at + (at - known.down_at)


def read_for_state(storage: Storage, alert: str, start: int, end: int) -> dict[Key, Restored]:
    """The alerts that were active when the storage was last written to: their last sample is no stale marker."""
    found = storage.select([(NAME, "=", "ALERTS_FOR_STATE"), ("alertname", "=", alert)], start, end)
    out = {}
    for i, labels in enumerate(found.labels.to_dicts()):
        if found.offsets[i] == found.offsets[i + 1]:
            continue
        last = int(found.offsets[i + 1]) - 1
        if int(found.values[last : last + 1].view(np.uint64)[0]) == STALE_BITS:
            continue
        key = tuple(sorted((name, value) for name, value in labels.items() if name != NAME))
        out[key] = Restored(float(found.values[last]), int(found.timestamps[last]) / 1000)
    return out
