"""A throw-away authority and the certificates of one cluster, made in a fraction of a second with elliptic keys.

One authority signs all: API server, kubelets (serving and client), controllers and the admin. So pods, which are given
its certificate with their token, can verify a kubelet when they read its metrics.
"""

import base64
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _name(common_name: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


@dataclass(frozen=True)
class Authority:
    """Signs into its folder: NAME.crt and NAME.key for each, beside its own `ca.crt`."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, folder: Path) -> "Authority":
        folder.mkdir(parents=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("bellbuoy-local-ca", "")
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _draft(subject=name, issuer=name, key=key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        authority = cls(folder, key, certificate)
        authority._save("ca", key, certificate)
        return authority

    def client(self, name: str, *, common_name: str, group: str = "") -> None:
        """What a program shows to the API server: its user and group."""
        self._sign(name, common_name=common_name, group=group, usage=ExtendedKeyUsageOID.CLIENT_AUTH, hosts=())

    def server(self, name: str, *, common_name: str, hosts: Sequence[str], group: str = "") -> None:
        """What a server shows: the names and addresses by which it is reached."""
        self._sign(name, common_name=common_name, group=group, usage=ExtendedKeyUsageOID.SERVER_AUTH, hosts=hosts)

    def token_keys(self) -> None:
        """The pair that signs and verifies service account tokens: sa.key and sa.pub."""
        key = ec.generate_private_key(ec.SECP256R1())
        _write_private(self.folder / "sa.key", _pem(key))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (self.folder / "sa.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))

    def kubeconfig(self, path: Path, *, client: str, server: str, name: str) -> None:
        """A kubeconfig that holds all it needs; JSON is YAML, and needs no library."""

        def data(file: str) -> str:
            return base64.b64encode((self.folder / file).read_bytes()).decode()

        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}],
            "users": [
                {
                    "name": client,
                    "user": {
                        "client-certificate-data": data(f"{client}.crt"),
                        "client-key-data": data(f"{client}.key"),
                    },
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": client}}],
        }
        _write_private(path, json.dumps(config, indent=1).encode() + b"\n")

    def _sign(
        self, name: str, *, common_name: str, group: str, usage: x509.ObjectIdentifier, hosts: Sequence[str]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        draft = (
            _draft(subject=_name(common_name, group), issuer=self.certificate.subject, key=key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if hosts:
            draft = draft.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        self._save(name, key, draft.sign(self.key, hashes.SHA256()))

    def _save(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        _write_private(self.folder / f"{name}.key", _pem(key))
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _draft(*, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


SERVICE_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def create_control_plane(folder: Path, *, hosts: Sequence[str]) -> Authority:
    """The authority and what the API server needs; `hosts` are its addresses."""
    authority = Authority.create(folder)
    authority.token_keys()
    authority.server("apiserver", common_name="kube-apiserver", hosts=[*SERVICE_NAMES, *hosts])
    authority.client("apiserver-kubelet", common_name="kube-apiserver-kubelet-client", group="system:masters")
    authority.client("front-proxy", common_name="front-proxy-client")
    authority.client("admin", common_name="admin", group="system:masters")
    return authority


def create_controllers(authority: Authority) -> None:
    """What the controller manager, the scheduler and kube-proxy show to the API server."""
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        authority.client(name, common_name=f"system:{name}")


def create_node(authority: Authority, *, name: str, address: str) -> None:
    """A kubelet's two certificates: as a client, and as the server of logs, exec and metrics."""
    user = f"system:node:{name}"
    authority.client(f"kubelet-{name}", common_name=user, group="system:nodes")
    authority.server(f"kubelet-{name}-server", common_name=user, group="system:nodes", hosts=[name, address])
