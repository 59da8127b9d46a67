"""The server's settings, and the command line's flags for them."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from bellbuoy._core import Regex
from bellbuoy.archive import ArchiveOptions, add_archive_arguments, archive_options
from bellbuoy.configuration import parse_size
from bellbuoy.durations import format_duration, parse_duration
from bellbuoy.errors import OptionsError
from bellbuoy.rules import RuleOptions

# What may be turned on, by the names that Prometheus has for it.
START_TIMESTAMPS = "created-timestamp-zero-ingestion"
FEATURES = (START_TIMESTAMPS,)


@dataclass(frozen=True)
class QueryOptions:
    """How much a query may take."""

    concurrency: int = 8
    timeout_seconds: float = 120.0
    lookback_seconds: float = 300.0
    max_samples: int = 50_000_000
    max_result_bytes: int = 256 << 20


@dataclass(frozen=True)
class FollowOptions:
    """Which operator to follow, instead of a file."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class Options:
    """All settings of a server."""

    listen: str = ":9090"
    storage_path: Path = Path("data")
    retention_seconds: float = 15 * 86400.0
    retention_bytes: int = 0
    # As many as Prometheus holds: about 30 MB.
    max_exemplars: int = 100_000
    config_file: Path | None = Path("prometheus.yml")
    follow: FollowOptions | None = None
    lifecycle: bool = False
    admin: bool = False
    target_response: bool = False
    cors_origin: str = ".*"
    # As Prometheus: each keeps a connection.
    notification_listeners: int = 16
    query_log_file: Path | None = None
    external_url: str = ""
    features: frozenset[str] = frozenset()
    """Of FEATURES, those that are on."""
    scrape_threads: int = 2
    query: QueryOptions = field(default_factory=QueryOptions)
    rules: RuleOptions = field(default_factory=RuleOptions)
    notify_queue: int = 10_000
    archive: ArchiveOptions | None = None
    flags: dict[str, str] = field(default_factory=dict)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _bytes(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _regex(text: str) -> str:
    try:
        Regex(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number above 0')
    return int(text)


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server's flags."""
    add = parser.add_argument
    default = Options()
    add("--config.file", dest="config_file", metavar="FILE", help="prometheus.yml (default: prometheus.yml)")
    add(
        "--config-url",
        metavar="URL",
        help="follow the operator at this address of a stack, such as https://operator:8443/v1/stacks/NS/NAME, "
        "instead of a file (default: none)",
    )
    add(
        "--config-token-file",
        metavar="FILE",
        help="token for --config-url, read again for each request (default: none)",
    )
    add("--config-ca-file", metavar="FILE", help="certificates to trust at --config-url (default: the system's)")
    add(
        "--web.listen-address",
        dest="listen",
        default=default.listen,
        metavar="HOST:PORT",
        help="where to listen; no host is every address, port 0 any free one (default: %(default)s)",
    )
    add(
        "--web.external-url",
        dest="external_url",
        default="",
        metavar="URL",
        help="how people reach this server, for links in alerts (default: http://HOSTNAME:PORT)",
    )
    add(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="let POST /-/reload read the configuration again (default: off)",
    )
    add(
        "--web.enable-admin-api",
        dest="admin",
        action="store_true",
        help="let the admin API delete series, clean up behind it and make snapshots (default: off)",
    )
    add(
        "--web.enable-target-response",
        dest="target_response",
        action="store_true",
        help="let /api/v1/targets/response show what a target answers to its scrape right now (default: off)",
    )
    add(
        "--web.cors.origin",
        dest="cors_origin",
        type=_regex,
        default=default.cors_origin,
        metavar="REGEX",
        help="pages of which origins may read the API, the whole of it matched, such as https?://(a|b)\\.example "
        "(default: %(default)s)",
    )
    add(
        "--web.max-notifications-subscribers",
        dest="notification_listeners",
        type=_count,
        default=default.notification_listeners,
        metavar="N",
        help="who may listen to /api/v1/notifications/live at the same time (default: %(default)s)",
    )
    add(
        "--storage.path",
        dest="storage_path",
        default=str(default.storage_path),
        metavar="FOLDER",
        help="folder of the time series (default: %(default)s)",
    )
    add(
        "--storage.retention",
        dest="retention",
        type=_seconds,
        default=default.retention_seconds,
        metavar="DURATION",
        help=f"how long samples are kept (default: {format_duration(default.retention_seconds)})",
    )
    add(
        "--storage.retention-size",
        dest="retention_size",
        type=_bytes,
        default=0,
        metavar="SIZE",
        help="bytes that are kept, such as 50GB; 0 is no limit (default: 0)",
    )
    add_archive_arguments(add, prefix="--storage.archive.", required=False)
    add(
        "--storage.max-exemplars",
        dest="max_exemplars",
        type=_count_or_none,
        default=default.max_exemplars,
        metavar="N",
        help="exemplars that are held, of all series; the oldest make room; 0 takes none (default: %(default)s)",
    )
    add(
        "--enable-feature",
        dest="features",
        action="append",
        default=[],
        metavar="NAME",
        help=f"features to turn on, with commas between, or given several times: {', '.join(FEATURES)} (default: none)",
    )
    add(
        "--scrape.threads",
        dest="scrape_threads",
        type=_count,
        default=default.scrape_threads,
        metavar="N",
        help="threads that scrape (default: %(default)s)",
    )
    query = default.query
    add(
        "--query.max-concurrency",
        dest="query_concurrency",
        type=_count,
        default=query.concurrency,
        metavar="N",
        help="queries that run at the same time; others wait (default: %(default)s)",
    )
    add(
        "--query.timeout",
        dest="query_timeout",
        type=_seconds,
        default=query.timeout_seconds,
        metavar="DURATION",
        help=f"how long a query may take, waiting included (default: {format_duration(query.timeout_seconds)})",
    )
    add(
        "--query.lookback-delta",
        dest="query_lookback",
        type=_seconds,
        default=query.lookback_seconds,
        metavar="DURATION",
        help=f"how old a sample may be and still count as current (default: {format_duration(query.lookback_seconds)})",
    )
    add(
        "--query.max-samples",
        dest="query_max_samples",
        type=_count,
        default=query.max_samples,
        metavar="N",
        help="samples that one query may load (default: %(default)s)",
    )
    add(
        "--query.max-result-size",
        dest="query_max_result",
        type=_bytes,
        default=query.max_result_bytes,
        metavar="SIZE",
        help="bytes of JSON that one query may answer with (default: 256MB)",
    )
    add(
        "--query.log-file",
        dest="query_log_file",
        metavar="FILE",
        help="log each query with its cost, as JSON; query_log_file of the configuration goes first (default: none)",
    )
    rules = default.rules
    add(
        "--rules.max-concurrency",
        dest="rules_concurrency",
        type=_count,
        default=rules.concurrency,
        metavar="N",
        help="rule groups that are evaluated at the same time (default: %(default)s)",
    )
    add(
        "--rules.max-concurrent-evals",
        dest="rules_beside",
        type=_count_or_none,
        default=rules.concurrent_evaluations,
        metavar="N",
        help="rules of one group that do not need each other and are evaluated beside it, of all groups together; "
        "0 is one after the other (default: %(default)s)",
    )
    add(
        "--rules.shared-samples",
        dest="rules_shared",
        type=_count_or_none,
        default=rules.shared_samples,
        metavar="N",
        help="samples that the rules of a group may hold in common in an evaluation, so that equal parts of their "
        "expressions are evaluated once; 0 is none (default: %(default)s)",
    )
    add(
        "--rules.alert.resend-delay",
        dest="rules_resend",
        type=_seconds,
        default=rules.resend_seconds,
        metavar="DURATION",
        help=f"the least time before an alert is sent again (default: {format_duration(rules.resend_seconds)})",
    )
    add(
        "--rules.alert.for-outage-tolerance",
        dest="rules_tolerance",
        type=_seconds,
        default=rules.for_outage_tolerance_seconds,
        metavar="DURATION",
        help="the longest outage after which an alert's `for` goes on "
        f"(default: {format_duration(rules.for_outage_tolerance_seconds)})",
    )
    add(
        "--rules.alert.for-grace-period",
        dest="rules_grace",
        type=_seconds,
        default=rules.for_grace_seconds,
        metavar="DURATION",
        help="what is at least left of a longer `for` after an outage; shorter ones just go on "
        f"(default: {format_duration(rules.for_grace_seconds)})",
    )
    add(
        "--alertmanager.notification-queue-capacity",
        dest="notify_queue",
        type=_count,
        default=default.notify_queue,
        metavar="N",
        help="alerts that wait for one alertmanager; past it the oldest are dropped (default: %(default)s)",
    )


def options(args: argparse.Namespace) -> Options:
    """The settings that these arguments say. Raises OptionsError when they contradict each other."""
    if args.config_url and args.config_file:
        raise OptionsError("cannot use --config.file with --config-url: keep one of them")
    follow = None
    if args.config_url:
        follow = FollowOptions(
            args.config_url,
            Path(args.config_token_file) if args.config_token_file else None,
            Path(args.config_ca_file) if args.config_ca_file else None,
        )
    elif args.config_token_file or args.config_ca_file:
        raise OptionsError("cannot use --config-token-file or --config-ca-file without --config-url: add it")
    features = frozenset(name for given in args.features for name in given.split(",") if name)
    for name in sorted(features - {*FEATURES}):
        raise OptionsError(f'cannot enable the feature "{name}": it is none of {", ".join(FEATURES)}; remove it')
    return Options(
        listen=args.listen,
        storage_path=Path(args.storage_path),
        retention_seconds=args.retention,
        retention_bytes=args.retention_size,
        max_exemplars=args.max_exemplars,
        config_file=None if follow else Path(args.config_file or "prometheus.yml"),
        follow=follow,
        lifecycle=args.lifecycle,
        admin=args.admin,
        target_response=args.target_response,
        cors_origin=args.cors_origin,
        notification_listeners=args.notification_listeners,
        query_log_file=Path(args.query_log_file) if args.query_log_file else None,
        external_url=args.external_url.rstrip("/"),
        features=features,
        scrape_threads=args.scrape_threads,
        query=QueryOptions(
            concurrency=args.query_concurrency,
            timeout_seconds=args.query_timeout,
            lookback_seconds=args.query_lookback,
            max_samples=args.query_max_samples,
            max_result_bytes=args.query_max_result,
        ),
        rules=RuleOptions(
            resend_seconds=args.rules_resend,
            for_outage_tolerance_seconds=args.rules_tolerance,
            for_grace_seconds=args.rules_grace,
            concurrency=args.rules_concurrency,
            concurrent_evaluations=args.rules_beside,
            shared_samples=args.rules_shared,
            external_url=args.external_url.rstrip("/"),
        ),
        notify_queue=args.notify_queue,
        archive=archive_options(args),
        flags=_flags(args),
    )


# Which flag a setting comes from, for /api/v1/status/flags.
_FLAG_NAMES = {
    "config_file": "config.file", "config_url": "config-url", "config_token_file": "config-token-file",
    "config_ca_file": "config-ca-file", "listen": "web.listen-address", "external_url": "web.external-url",
    "lifecycle": "web.enable-lifecycle", "admin": "web.enable-admin-api",
    "target_response": "web.enable-target-response", "cors_origin": "web.cors.origin",
    "notification_listeners": "web.max-notifications-subscribers", "query_log_file": "query.log-file",
    "storage_path": "storage.path", "retention": "storage.retention",
    "retention_size": "storage.retention-size", "max_exemplars": "storage.max-exemplars",
    "archive_url": "storage.archive.url",
    "archive_endpoint": "storage.archive.endpoint", "archive_region": "storage.archive.region",
    "archive_credentials_file": "storage.archive.credentials-file", "archive_interval": "storage.archive.interval",
    "archive_retry_delay": "storage.archive.retry-delay", "archive_retry_max_delay": "storage.archive.retry-max-delay",
    "features": "enable-feature", "scrape_threads": "scrape.threads",
    "query_concurrency": "query.max-concurrency", "query_timeout": "query.timeout",
    "query_lookback": "query.lookback-delta", "query_max_samples": "query.max-samples",
    "query_max_result": "query.max-result-size", "rules_concurrency": "rules.max-concurrency",
    "rules_beside": "rules.max-concurrent-evals", "rules_shared": "rules.shared-samples",
    "rules_resend": "rules.alert.resend-delay", "rules_tolerance": "rules.alert.for-outage-tolerance",
    "rules_grace": "rules.alert.for-grace-period", "notify_queue": "alertmanager.notification-queue-capacity",
}  # fmt: skip
_DURATIONS = (
    "retention", "archive_interval", "archive_retry_delay", "archive_retry_max_delay", "query_timeout",
    "query_lookback", "rules_resend", "rules_tolerance", "rules_grace",
)  # fmt: skip


def _flags(args: argparse.Namespace) -> dict[str, str]:
    out = {}
    for name, flag in _FLAG_NAMES.items():
        value = getattr(args, name)
        text = format_duration(value) if name in _DURATIONS else str(value if value is not None else "")
        text = ",".join(value) if isinstance(value, list) else text
        out[flag] = text.lower() if isinstance(value, bool) else text
    return out
