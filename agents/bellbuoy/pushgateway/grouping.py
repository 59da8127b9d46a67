"""Which group a URL means: `/metrics/job/NAME/LABEL/VALUE…`, each name with `@base64` if its value is encoded so.

A value with a slash, or an empty one, can only be written in base64 (URL-safe, padding or not; `=` alone is empty).
"""

import base64
import binascii
import re
from urllib.parse import unquote

BASE64 = "@base64"
Labels = tuple[tuple[str, str], ...]
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_ALPHABET = re.compile(r"[A-Za-z0-9_-]*\Z")
_ESCAPED = re.compile(r"_([0-9a-fA-F]{1,6})_|__")


class GroupingError(ValueError):
    """A URL that names no group; the text says why."""


def parse_grouping(raw_path: str, *, utf8_names: bool = False) -> Labels:
    """The labels of a group, sorted, from the URL's path behind `/metrics/`, still percent-encoded."""
    parts = raw_path.split("/")
    if len(parts) % 2:
        raise GroupingError(f"odd number of components in label string {raw_path[:200]!r}: give each label a value")
    labels: dict[str, str] = {}
    for at in range(0, len(parts), 2):
        name, value = _decode(parts[at]), _decode(parts[at + 1])
        encoded = name.endswith(BASE64)
        name = name.removesuffix(BASE64)
        if encoded:
            value = _from_base64(name, value)
        if at == 0:
            if name != "job":
                raise GroupingError(f"the path begins with {name[:100]!r}: it must be /metrics/job/NAME")
            if not value:
                raise GroupingError("job name is required")
            job = value
            continue
        label = _unescape(name) if utf8_names else name
        if not label or (not utf8_names and not _LABEL.match(label)) or name.startswith("__"):
            raise GroupingError(f'improper label name "{name[:100]}"')
        labels[label] = value
    # The last word on job is the path's beginning, as a label of that name further on would be another job.
    labels["job"] = job
    return tuple(sorted(labels.items()))


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as e:
        raise GroupingError(f"{text[:100]!r} in the path is not UTF-8: encode it so, or in base64") from e


def _from_base64(name: str, text: str) -> str:
    bare = text.rstrip("=")
    try:
        if not _ALPHABET.match(bare):
            raise GroupingError(f"invalid base64 encoding for label {name}={text[:100]!r}: use the URL-safe alphabet")
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as e:
        raise GroupingError(f"invalid base64 encoding for label {name}={text[:100]!r}: {e}") from e


def _unescape(name: str) -> str:
    """A name in Prometheus's value encoding, `U__my_2e_label`, as it is meant; any other as it stands."""
    if not name.startswith("U__"):
        return name

    def one(match: re.Match[str]) -> str:
        return "_" if match[1] is None else chr(int(match[1], 16))

    try:
        return _ESCAPED.sub(one, name[3:])
    except ValueError as e:
        raise GroupingError(f"{name[:100]!r} encodes a character that there is not") from e


def path_of(labels: Labels) -> str:
    """The URL path of a group, below the root: what the status page's buttons call."""

    def pair(name: str, value: str) -> str:
        return f"{name}{BASE64}/{base64.urlsafe_b64encode(value.encode()).decode().rstrip('=') or '='}"

    rest = [pair(name, value) for name, value in labels if name != "job"]
    return "metrics/" + "/".join([pair("job", dict(labels)["job"]), *rest])
