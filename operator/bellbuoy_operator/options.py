"""The operator's settings, and the flags that they come from."""

import argparse
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """All settings of the operator. Each has its default, and its reason, in the flag's help."""

    kubeconfig: Path | None = None
    namespace: str = "bellbuoy-system"
    identity: str = "bellbuoy-operator"
    config_listen: str = ":8443"
    metrics_listen: str = ":8080"
    service_name: str = "bellbuoy-operator"
    service_url: str = ""
    names: tuple[str, ...] = ()
    image_prefix: str = "bellbuoy.io/"
    image_tag: str = "dev"
    status_seconds: float = 3.0
    resync_seconds: float = 60.0

    @property
    def stack_service_url(self) -> str:
        """The address under which pods reach us."""
        return self.service_url or f"https://{self.service_name}.{self.namespace}.svc:8443"

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names that our certificate is for."""
        base = f"{self.service_name}.{self.namespace}"
        return (f"{base}.svc", base, f"{base}.svc.cluster.local", "localhost", "127.0.0.1", *self.names)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the operator's flags."""
    defaults = Options()
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="how to reach the API server (default: the service account of the pod that the operator runs in)",
    )
    parser.add_argument(
        "--namespace",
        default=defaults.namespace,
        help="namespace of the operator's lease and of its CA's Secret (default: %(default)s)",
    )
    parser.add_argument(
        "--identity",
        default=socket.gethostname(),
        help="name of this replica in the lease; must differ among replicas (default: the host's name)",
    )
    parser.add_argument(
        "--web.config-listen-address",
        dest="config_listen",
        default=defaults.config_listen,
        metavar="ADDRESS",
        help="host:port of the configuration service, TLS (default: %(default)s)",
    )
    parser.add_argument(
        "--web.listen-address",
        dest="metrics_listen",
        default=defaults.metrics_listen,
        metavar="ADDRESS",
        help="host:port of /metrics and of the health pages (default: %(default)s)",
    )
    parser.add_argument(
        "--service-name",
        default=defaults.service_name,
        metavar="NAME",
        help="Service under which pods reach the configuration service (default: %(default)s)",
    )
    parser.add_argument(
        "--service-url",
        default=defaults.service_url,
        metavar="URL",
        help="address under which pods reach the configuration service, where it is not that Service's (default: "
        "https://SERVICE.NAMESPACE.svc:8443)",
    )
    parser.add_argument(
        "--certificate-name",
        dest="names",
        action="append",
        default=[],
        metavar="NAME",
        help="one more DNS name or address that the certificate is for; repeatable (default: none)",
    )
    parser.add_argument(
        "--image-prefix",
        default=defaults.image_prefix,
        metavar="PREFIX",
        help="what stands before a part's name in its image, such as registry.example.org/bellbuoy/ (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--image-tag", default=defaults.image_tag, metavar="TAG", help="tag of the parts' images (default: %(default)s)"
    )
    parser.add_argument(
        "--status-interval-seconds",
        dest="status_seconds",
        type=float,
        default=defaults.status_seconds,
        metavar="SECONDS",
        help="time between two looks at servers and alertmanagers for the resources' status (default: %(default)s)",
    )
    parser.add_argument(
        "--resync-seconds",
        type=float,
        default=defaults.resync_seconds,
        metavar="SECONDS",
        help="time after which objects are applied again, and secrets read again, without any change; secrets are not "
        "watched, so a new value takes this long at most (default: %(default)s)",
    )


def options(args: argparse.Namespace) -> Options:
    """The settings of parsed flags."""
    return Options(
        kubeconfig=args.kubeconfig,
        namespace=args.namespace,
        identity=args.identity,
        config_listen=args.config_listen,
        metrics_listen=args.metrics_listen,
        service_name=args.service_name,
        service_url=args.service_url,
        names=tuple(args.names),
        image_prefix=args.image_prefix,
        image_tag=args.image_tag,
        status_seconds=args.status_seconds,
        resync_seconds=args.resync_seconds,
    )
