"""What keeps data from being exported or imported; every text names file and place, and the cure."""

from bellbuoy.errors import CannotError


class ExportError(CannotError):
    """Data cannot be exported."""


class ImportDataError(CannotError):
    """Data cannot be imported."""


class InterruptedByUserError(CannotError):
    """It was told to stop halfway."""
