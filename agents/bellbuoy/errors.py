"""Errors that are the world's and not the program's: a wrong file, a port that is taken, a folder that is held.

Their text says all that a person needs, "cannot <verb> <object>: <reason>; <what to do>", so that the command line
prints it as one line and without a trace. What is not among them is a mistake of ours, and keeps its trace. Each part
derives its own from these.
"""

from collections.abc import Iterator


class CannotError(Exception):
    """A part cannot start or go on; the text names what is in the way, and the cure."""


class OptionsError(CannotError, ValueError):
    """Flags, or the environment, that cannot be; the text says which and what to do."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of a group; the error itself where it is none."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from causes(one)
    else:
        yield error


def explain(error: BaseException) -> str | None:
    """The one line that says it all; None for an error that does not explain itself."""
    if isinstance(error, CannotError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        if isinstance(error, FileExistsError | NotADirectoryError):
            return f"cannot use {error.filename}: it, or what it lies in, is no folder; name another"
        reason = (error.strerror or type(error).__name__).lower()
        return f"cannot use {error.filename}: {reason}; see that it exists, and that we may read and write it"
    return None
