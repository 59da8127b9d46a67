"""The query log: one line of JSON for each query, in the form that Prometheus writes, with its cost beside it.

A line is written by one `write` to a file that is appended to, so lines of two servers do not mix, and a file that was
moved away is made anew at the next reload. A disk that is full costs lines, no queries.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from bellbuoy.configuration import ConfigError
from bellbuoy.logs import fields

log = logging.getLogger(__name__)


class QueryLog:
    """The file that lines go to, if there is one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._failing = False
        self._failures = Counter(
            "bellbuoy_query_log_failures", "Lines of the query log that could not be written.", registry=registry
        )

    def open(self, path: Path | None) -> None:
        """Write to this file from now on; None writes nothing. Raises ConfigError, and then goes on as before."""
        descriptor = None
        if path is not None:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            except OSError as e:
                raise ConfigError(f"cannot open the query log {path}: {e.strerror}; mend query_log_file") from e
        self.close()
        self._descriptor, self._path, self._failing = descriptor, path, False

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        if self._descriptor is None:
            return
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
        try:
            os.write(self._descriptor, text.encode("utf-8", "replace"))
            self._failing = False
        except OSError as e:
            self._failures.inc()
            if not self._failing:
                self._failing = True
                log.warning("cannot write the query log", extra=fields(path=self._path, error=str(e)))

    def close(self) -> None:
        """Write no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._path = None, None
