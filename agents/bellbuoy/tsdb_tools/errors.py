"""What keeps a data folder from being imported to or looked at; every text names file and place, and the cure."""

from bellbuoy.errors import CannotError


class ImportDataError(CannotError):
    """Data cannot be imported."""


class DamagedError(CannotError):
    """A data folder is not whole, or is none."""
