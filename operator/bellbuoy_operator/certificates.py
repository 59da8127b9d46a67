"""The operator's own certificate authority: made once, kept in a Secret, published in each stack's namespace.

The CA's key stays in the Secret of the operator's namespace, which all replicas read. Each replica signs a short-lived
certificate for itself at its start and again before that ends, so that nothing has to be rotated by hand.
"""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bellbuoy_operator.cluster import SECRETS, Cluster, ClusterError

SECRET_NAME = "bellbuoy-operator-ca"  # noqa: S105 - a name
CA_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=30)
# A certificate is replaced when a third of its life is left.
RENEW_SECONDS = CERTIFICATE_LIFETIME.total_seconds() * 2 / 3
# Clocks of two machines differ.
_SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate, and the key that signs. The key is never printed."""

    certificate_pem: str
    key_pem: str = field(repr=False)


def make_authority() -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bellbuoy-operator-ca")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(name, name, key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_pem(certificate), _key_pem(key))


def sign(authority: Authority, names: Sequence[str]) -> tuple[str, str]:
    """A server certificate for these DNS names and addresses: `(certificate, key)`, both PEM."""
    ca = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
    ca_key = serialization.load_pem_private_key(authority.key_pem.encode(), None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ClusterError(f"cannot sign with the key in Secret {SECRET_NAME}: it is no EC key; delete the Secret")
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    certificate = (
        _builder(x509.Name([]), ca.subject, key.public_key(), CERTIFICATE_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


async def cluster_authority(cluster: Cluster, *, namespace: str) -> Authority:
    """The authority that is in the cluster; made and stored when there is none yet."""
    made = make_authority()
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": namespace, "name": SECRET_NAME},
        "type": "Opaque",
        "stringData": {"ca.crt": made.certificate_pem, "ca.key": made.key_pem},
    }
    try:
        # Creating first decides between replicas that start at once; who loses reads the winner's.
        await cluster.create(SECRETS, body, namespace=namespace)
    except ClusterError as e:
        if e.status != 409:
            raise
    else:
        return made
    secret = await cluster.get(SECRETS, namespace=namespace, name=SECRET_NAME)
    data = (secret or {}).get("data") or {}
    if "ca.crt" not in data or "ca.key" not in data:
        raise ClusterError(
            f"cannot use Secret {namespace}/{SECRET_NAME}: it lacks ca.crt or ca.key; delete it, a new one is made"
        )
    return Authority(base64.b64decode(data["ca.crt"]).decode(), base64.b64decode(data["ca.key"]).decode())


class ServingCertificate:
    """A TLS context that always has a fresh certificate: connections made after a renewal get the new one."""

    def __init__(self, authority: Authority, names: Sequence[str]) -> None:
        self._authority, self._names = authority, tuple(names)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load()

    async def run(self) -> None:
        """Renew in time until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self._load()

    def _load(self) -> None:
        certificate, key = sign(self._authority, self._names)
        # ssl reads certificates from files only; this one is ours alone and gone at once.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tls.pem"
            path.touch(mode=0o600)
            path.write_text(certificate + key)
            self.context.load_cert_chain(path)
