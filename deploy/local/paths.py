"""Where things lie: what is built once, under the cache; what a cluster owns, under the state folder.

The only module that reads the environment. Both folders are outside the checkout, so that a fresh clone finds what an
older one built.
"""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = Path(__file__).resolve().parent / "modules"
MANIFESTS = Path(__file__).resolve().parent / "manifests"


def _base(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "bellbuoy"


def cache() -> Path:
    """What can be made again: binaries, root file systems, layers of images."""
    return _base("XDG_CACHE_HOME", ".cache")


def clusters() -> Path:
    """A folder for each cluster that is up, by its name."""
    return _base("XDG_STATE_HOME", ".local/state") / "clusters"
