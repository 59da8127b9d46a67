"""What keeps samples from being read out, or an archive from being written; every text names the place and the cure."""

from bellbuoy.errors import CannotError


class ExportError(CannotError):
    """Data cannot be exported."""


class ArchiveError(CannotError):
    """The archive cannot be used."""


class InterruptedByUserError(CannotError):
    """It was told to stop halfway."""
