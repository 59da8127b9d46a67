"""The pushgateway's flags: the reference's own names where it has them."""

import argparse
from dataclasses import dataclass

from bellbuoy.durations import DurationError, parse_duration
from bellbuoy.errors import OptionsError

BODY_LIMIT_BYTES = 16 << 20
GROUP_LIMIT = 10_000
SERIES_LIMIT = 500_000


@dataclass(frozen=True)
class Options:
    """Where it listens, what it keeps, and how much."""

    listen: str = ":9091"
    telemetry_path: str = "/metrics"
    persistence_file: str = ""
    # The reference writes every five minutes, and forgets that much in a crash.
    persistence_interval_seconds: float = 5.0
    enable_admin_api: bool = False
    enable_lifecycle: bool = False
    utf8_names: bool = False
    group_ttl_seconds: float = 0.0
    body_limit_bytes: int = BODY_LIMIT_BYTES
    group_limit: int = GROUP_LIMIT
    series_limit: int = SERIES_LIMIT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""

    def text(flag: str, default: str, meaning: str, metavar: str) -> None:
        parser.add_argument(
            flag, dest=_dest(flag), default=default, metavar=metavar, help=f"{meaning} (default: {default or 'none'})"
        )

    def number(flag: str, default: int, meaning: str) -> None:
        parser.add_argument(
            flag, dest=_dest(flag), type=int, default=default, metavar="N", help=f"{meaning} (default: {default})"
        )

    def switch(flag: str, meaning: str) -> None:
        parser.add_argument(
            flag,
            dest=_dest(flag),
            default=False,
            action=argparse.BooleanOptionalAction,
            help=f"{meaning} (default: off)",
        )

    text("--web.listen-address", ":9091", "host:port to listen at", "ADDRESS")
    text("--web.telemetry-path", "/metrics", "the path of the metrics", "PATH")
    switch("--web.enable-admin-api", "PUT /api/v1/admin/wipe, which deletes every group")
    switch("--web.enable-lifecycle", "PUT or POST /-/quit, which stops the pushgateway")
    text("--persistence.file", "", "the file that keeps the groups over a restart; without it they are lost", "FILE")
    text("--persistence.interval", "5s", "how long after a push the file is written at the latest", "DURATION")
    switch("--push.enable-utf8-names", "names of metrics and labels may be any UTF-8 text")
    text(
        "--group-ttl",
        "0s",
        "a group is deleted this long after its last push; 0s keeps it until it is deleted",
        "DURATION",
    )
    number("--limit.body-bytes", BODY_LIMIT_BYTES, "the largest push, unpacked; a larger one gets 413")
    number("--limit.groups", GROUP_LIMIT, "the most groups; a push that would make one more gets 429")
    number("--limit.series", SERIES_LIMIT, "the most series in all groups together; a push above it gets 429")


def _dest(flag: str) -> str:
    return flag.lstrip("-").replace(".", "_").replace("-", "_")


def options(args: argparse.Namespace) -> Options:
    """The options that these arguments say. Raises OptionsError."""

    def duration(flag: str) -> float:
        try:
            return parse_duration(getattr(args, _dest(flag)))
        except DurationError as e:
            raise OptionsError(f"cannot use {flag}: {e}") from e

    for flag in ("--limit.body-bytes", "--limit.groups", "--limit.series"):
        if getattr(args, _dest(flag)) < 1:
            raise OptionsError(f"cannot use {flag} below 1: give the largest number that is still fine")
    if not args.web_telemetry_path.startswith("/"):
        raise OptionsError(f"cannot use --web.telemetry-path {args.web_telemetry_path!r}: begin it with a slash")
    return Options(
        listen=args.web_listen_address,
        telemetry_path=args.web_telemetry_path,
        persistence_file=args.persistence_file,
        persistence_interval_seconds=duration("--persistence.interval"),
        enable_admin_api=args.web_enable_admin_api,
        enable_lifecycle=args.web_enable_lifecycle,
        utf8_names=args.push_enable_utf8_names,
        group_ttl_seconds=duration("--group-ttl"),
        body_limit_bytes=args.limit_body_bytes,
        group_limit=args.limit_groups,
        series_limit=args.limit_series,
    )
