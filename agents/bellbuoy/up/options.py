"""The flags of `bellbuoy up`, and where its parts listen and are reached."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bellbuoy.errors import OptionsError
from bellbuoy.resources import PART_PORTS


@dataclass(frozen=True)
class Options:
    """Where the manifests lie, where data goes, and at which host and ports the parts listen."""

    manifests: tuple[Path, ...]
    data: Path = Path("data")
    host: str = "127.0.0.1"
    ports: Mapping[str, int] = field(default_factory=lambda: dict(PART_PORTS))
    slack_webhook_url: str = field(default="", repr=False)

    def listen(self, part: str) -> str:
        """Where a part listens."""
        return f"{self.host}:{self.ports[part]}"

    def address(self, part: str) -> str:
        """Where this machine reaches a part: a part that listens everywhere, at loopback."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host  # noqa: S104 - compared, not listened at
        return f"{host}:{self.ports[part]}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bellbuoy up`."""
    parser.description = (
        "Runs all agents in one process on this machine, without Kubernetes: the server with its\n"
        "web UI, a node exporter of this machine, an alertmanager, a pushgateway. What to scrape,\n"
        "compute and ring for is read from manifests, the same YAML that kubectl apply takes; a\n"
        "change of them takes effect at once."
    )
    parser.epilog = (
        "environment:\n"
        "  SLACK_WEBHOOK_URL         an incoming webhook of Slack that gets the alerts\n"
        "                            (default: none, they are printed as Slack would show them)\n"
        "\n"
        "From a checkout:  bellbuoy up --manifests examples/\n"
        "Then open http://127.0.0.1:9090; the first alert is printed within a minute. Ctrl-C ends it."
    )
    add = parser.add_argument
    add(
        "--manifests",
        metavar="PATH",
        type=Path,
        nargs="+",
        required=True,
        help="files or folders with resources, such as examples/ (required)",
    )
    add(
        "--data",
        metavar="FOLDER",
        type=Path,
        default=Path("data"),
        help="where metrics and state are kept; made if it is missing (default: data)",
    )
    add(
        "--web.host",
        dest="host",
        default="127.0.0.1",
        metavar="HOST",
        help="address that the parts listen at; 0.0.0.0 lets other machines in (default: 127.0.0.1)",
    )
    for part, port in PART_PORTS.items():
        add(
            f"--{part}.port",
            dest=f"port_{part}",
            type=_port,
            default=port,
            metavar="PORT",
            help=f"port of the {part.replace('-', ' ')} (default: {port})",
        )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f'"{text}" is no port: choose 1 to 65535')
    return int(text)


def options(args: argparse.Namespace) -> Options:
    """The settings that these arguments say. Raises OptionsError."""
    ports = {part: getattr(args, f"port_{part}") for part in PART_PORTS}
    by_port: dict[int, str] = {}
    for part, port in ports.items():
        if port in by_port:
            raise OptionsError(f"cannot use port {port} for {by_port[port]} and {part}: give --{part}.port another")
        by_port[port] = part
    parts = urlsplit(args.slack_webhook_url)
    if args.slack_webhook_url and (parts.scheme not in ("http", "https") or not parts.hostname):
        # Not quoted: it is a secret, even where it is mistyped.
        raise OptionsError(
            "cannot use SLACK_WEBHOOK_URL of the environment: it is no http or https URL; copy the webhook's whole URL"
        )
    return Options(tuple(args.manifests), args.data, args.host, ports, args.slack_webhook_url)
