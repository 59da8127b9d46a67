"""What keeps rules from being checked, tested or tried on history; every text names file and place, and the cure."""

from bellbuoy.errors import CannotError


class RulesFailedError(CannotError):
    """Rules have mistakes, or tests of them failed; each was said before."""


class BacktestDataError(CannotError):
    """There is no history to try a rule on."""
