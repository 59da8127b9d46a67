"""How a benchmark says that it cannot be done."""


class BenchmarkError(Exception):
    """What went wrong and what helps, for the user; the command line prints it without a trace."""
