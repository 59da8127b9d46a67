"""Times as the API prints them: RFC 3339 in UTC, Go's zero time for never."""

from datetime import UTC, datetime

NEVER = "0001-01-01T00:00:00Z"


def rfc3339(seconds: float) -> str:
    """Seconds since 1970; 0 is never."""
    if not seconds:
        return NEVER
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    return text.rstrip("0").removesuffix(".") + "Z"


def rfc3339_ms(milliseconds: int) -> str:
    """Milliseconds since 1970; 0 is never."""
    return rfc3339(milliseconds / 1000)
