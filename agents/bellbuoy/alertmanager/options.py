"""The alertmanager's flags and what they become."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from bellbuoy.durations import DurationError, parse_duration
from bellbuoy.errors import OptionsError

DEFAULT_LISTEN = ":9093"
# How long an expired silence is kept, as a history.
DEFAULT_RETENTION = "120h"


@dataclass(frozen=True)
class Options:
    """Where the configuration comes from (a file, or an operator's URL), where state lies, where to listen."""

    config_file: Path | None = None
    config_url: str = ""
    config_token_file: Path | None = None
    config_ca_file: Path | None = None
    storage_path: Path = Path("data")
    retention_seconds: float = 120 * 3600.0
    listen: str = DEFAULT_LISTEN
    external_url: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `bellbuoy alertmanager`."""
    add = parser.add_argument
    add(
        "--config.file", dest="config_file", metavar="FILE", help="alertmanager.yml to read (default: alertmanager.yml)"
    )
    add(
        "--config-url",
        metavar="URL",
        default="",
        help="follow the configuration of an operator's stack, https://HOST/v1/stacks/NAMESPACE/NAME, "
        "in place of a file (default: none)",
    )
    add(
        "--config-token-file",
        metavar="FILE",
        help="bearer token for --config-url, read at each request (default: none)",
    )
    add(
        "--config-ca-file",
        metavar="FILE",
        help="certificates to trust for --config-url, PEM (default: the machine's own)",
    )
    add(
        "--storage.path", dest="storage_path", metavar="FOLDER", default="data", help="folder for state (default: data)"
    )
    add(
        "--data.retention",
        dest="data_retention",
        metavar="DURATION",
        default=DEFAULT_RETENTION,
        help=f"how long expired silences are kept (default: {DEFAULT_RETENTION})",
    )
    add(
        "--web.listen-address",
        dest="listen",
        metavar="HOST:PORT",
        default=DEFAULT_LISTEN,
        help=f"where to listen; port 0 is any free one (default: {DEFAULT_LISTEN})",
    )
    add(
        "--web.external-url",
        dest="external_url",
        metavar="URL",
        default="",
        help="how people reach this alertmanager, for links in messages (default: none, messages have no such links)",
    )


def options(args: argparse.Namespace) -> Options:
    """The options of parsed arguments. Raises OptionsError."""
    if args.config_url and args.config_file:
        raise OptionsError("cannot use --config.file with --config-url: keep one of them")
    if not args.config_url and (args.config_token_file or args.config_ca_file):
        raise OptionsError("cannot use --config-token-file or --config-ca-file without --config-url: add it")
    try:
        retention = parse_duration(args.data_retention)
    except DurationError as e:
        raise OptionsError(f"cannot use --data.retention: {e}") from e
    return Options(
        config_file=None if args.config_url else Path(args.config_file or "alertmanager.yml"),
        config_url=args.config_url,
        config_token_file=Path(args.config_token_file) if args.config_token_file else None,
        config_ca_file=Path(args.config_ca_file) if args.config_ca_file else None,
        storage_path=Path(args.storage_path),
        retention_seconds=retention,
        listen=args.listen,
        external_url=args.external_url.rstrip("/"),
    )
