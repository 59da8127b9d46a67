"""Modules that need packages which may be missing: each part's image holds that part's only, and pyarrow is in few.

They are loaded when they are asked for; what is said when they cannot be names the package and how to get it.
"""

import importlib
from types import ModuleType

from bellbuoy.errors import CannotError


def load(module: str, *, extra: str, cannot: str, otherwise: type[CannotError] = CannotError) -> ModuleType:
    """The module. Raises `otherwise`, which says what cannot be done, when a package of the extra is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("bellbuoy"):
            raise
        raise otherwise(
            f"cannot {cannot}: the package {e.name} is not installed; pip install 'bellbuoy[{extra}]'"
        ) from e
