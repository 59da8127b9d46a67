"""What a command prints for who called it, who may stop reading at any time."""

import os
import sys
from typing import Any

import orjson


def show(text: str) -> None:
    """The text on standard output."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads it has seen enough, as `head` does; nothing may be written at the program's end, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_json(data: Any) -> None:
    """The same of data, as JSON that people can read, too."""
    show(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode() + "\n")
