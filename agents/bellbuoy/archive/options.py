"""Where an archive is, and the flags that say so.

Keys to a bucket are never in a flag or in the URL, since flags are shown: they stand in a file, or where the AWS SDK
looks for them by itself (`AWS_ACCESS_KEY_ID` and its like, `~/.aws`, the role of a pod or a machine).
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bellbuoy.durations import format_duration, parse_duration
from bellbuoy.errors import OptionsError

SCHEMES = ("file", "s3")


@dataclass(frozen=True)
class ArchiveOptions:
    """Where to, and how persistently."""

    url: str
    """file:///FOLDER or s3://BUCKET/PREFIX; of one server alone."""
    endpoint: str = ""
    """Of an S3-compatible service that is not Amazon's: http://HOST:PORT or https://HOST."""
    region: str = ""
    credentials_file: Path | None = None
    """As the AWS SDK has it: [default], aws_access_key_id, aws_secret_access_key. Read for each pass."""
    interval_seconds: float = 60.0
    """Blocks come every two hours: often enough to be soon, seldom enough to cost nothing."""
    retry_seconds: float = 10.0
    """Before the first try after a failure; doubled each time."""
    retry_max_seconds: float = 600.0
    """Long enough not to press a service that is down, short enough to be done before retention deletes a block."""


def add_archive_arguments(add: Callable[..., argparse.Action], *, prefix: str, required: bool) -> None:
    """The flags, after the prefix; what only a server needs is left out where the URL is required."""
    flag = f"{prefix}url"
    add(
        flag,
        dest="archive_url",
        default="",
        required=required,
        metavar="URL",
        help="where finished blocks are written as Parquet: file:///FOLDER or s3://BUCKET/PREFIX, of one server alone "
        + ("(required)" if required else "(default: none)"),
    )
    add(
        f"{prefix}endpoint",
        dest="archive_endpoint",
        default="",
        metavar="URL",
        help="S3-compatible service, such as https://minio:9000 (default: Amazon's)",
    )
    add(
        f"{prefix}region",
        dest="archive_region",
        default="",
        metavar="NAME",
        help="region of the bucket (default: as the AWS SDK finds it)",
    )
    add(
        f"{prefix}credentials-file",
        dest="archive_credentials_file",
        type=Path,
        metavar="FILE",
        help="keys to the bucket, as in ~/.aws/credentials, read for each pass (default: as the AWS SDK finds them)",
    )
    if required:
        return
    for name, default, meaning in (
        ("interval", ArchiveOptions.interval_seconds, "how often to look for finished blocks"),
        ("retry-delay", ArchiveOptions.retry_seconds, "wait after a failure, doubled after each"),
        ("retry-max-delay", ArchiveOptions.retry_max_seconds, "longest wait after a failure"),
    ):
        add(
            f"{prefix}{name}",
            dest=f"archive_{name.replace('-', '_')}",
            type=_seconds,
            default=default,
            metavar="DURATION",
            help=f"{meaning} (default: {format_duration(default)})",
        )


def archive_options(args: argparse.Namespace) -> ArchiveOptions | None:
    """What the flags say; None without a URL. Raises OptionsError."""
    if not args.archive_url:
        if args.archive_endpoint or args.archive_region or args.archive_credentials_file:
            raise OptionsError("cannot use the flags of an archive without its URL: add --storage.archive.url")
        return None
    _check_url("the archive's URL", args.archive_url, SCHEMES)
    split = urlsplit(args.archive_url)
    if split.scheme == "file" and (split.netloc or len(split.path) < 2):
        raise OptionsError("cannot use the archive's URL: write file:///FOLDER, with the folder's whole path")
    if split.scheme == "s3" and not split.netloc:
        raise OptionsError("cannot use the archive's URL: it names no bucket; write s3://BUCKET/PREFIX")
    if args.archive_endpoint:
        _check_url("the archive's endpoint", args.archive_endpoint, ("http", "https"))
    default = ArchiveOptions("")
    return ArchiveOptions(
        args.archive_url.rstrip("/"),
        args.archive_endpoint,
        args.archive_region,
        args.archive_credentials_file,
        getattr(args, "archive_interval", default.interval_seconds),
        getattr(args, "archive_retry_delay", default.retry_seconds),
        getattr(args, "archive_retry_max_delay", default.retry_max_seconds),
    )


def _check_url(what: str, url: str, schemes: tuple[str, ...]) -> None:
    # The URL itself is not quoted: a key may be in it.
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as e:
        raise OptionsError(f"cannot use {what}: {e}; mend it") from e
    if split.scheme not in schemes:
        raise OptionsError(f"cannot use {what}: it begins with none of {', '.join(f'{one}://' for one in schemes)}")
    if "@" in split.netloc or split.query or split.fragment or port == 0:
        raise OptionsError(
            f"cannot use {what}: nothing but host and path may stand in it; keys stand in a file, see credentials-file"
        )


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
    if not seconds:
        raise argparse.ArgumentTypeError("it must be longer than nothing")
    return seconds
