"""Modules that need pyarrow, which is larger than all other packages together: loaded when they are asked for."""

import importlib
from types import ModuleType

from bellbuoy.errors import CannotError


def load(module: str, *, otherwise: type[CannotError], cannot: str) -> ModuleType:
    """The module. Raises `otherwise`, which says what cannot be done, when a package that it needs is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("bellbuoy"):
            raise
        raise otherwise(
            f"cannot {cannot}: the package {e.name} is not installed; pip install 'bellbuoy[parquet]'"
        ) from e
