"""Structured logs: one line an event, a constant message and `key=value` pairs, on standard error.

`log.info("target is down", extra=fields(target=url, error=e))`. As logfmt for people and machines, or as JSON.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("logfmt", "json")


def fields(**pairs: Any) -> dict[str, Any]:
    """What `extra=` takes: pairs that the formatter prints behind the message."""
    return {"fields": pairs}


def timestamp(seconds: float) -> str:
    """RFC 3339 with milliseconds, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Formatter(logging.Formatter):
    def pairs(self, record: logging.LogRecord) -> dict[str, Any]:
        out: dict[str, Any] = {"ts": timestamp(record.created), "level": record.levelname.lower()}
        out |= {"logger": record.name, "msg": record.getMessage()}
        out.update(getattr(record, "fields", {}))
        if record.exc_info:
            out["trace"] = self.formatException(record.exc_info)
        return out


class LogfmtFormatter(_Formatter):
    """`ts=… level=info logger=bellbuoy.server msg="listening" address=:9090`."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quote(str(value))}" for key, value in self.pairs(record).items())


class JsonFormatter(_Formatter):
    """The same pairs as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.pairs(record), default=str)


def _quote(text: str) -> str:
    plain = text and all(c.isprintable() and c not in ' "=' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def set_up(*, level: str = "info", form: str = "logfmt") -> None:
    """Send all logs of this process to standard error. Called once, by the command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
