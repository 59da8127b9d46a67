"""The cluster's authority: what it signs can be verified, says who it is, and is nobody else's to read."""

import datetime
import json
import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from deploy.local.certificates import Authority, create_control_plane, create_node


def load(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_a_server_is_verified_by_its_names_against_the_authority(tmp_path: Path) -> None:
    authority = create_control_plane(tmp_path / "pki", hosts=["10.1.2.3"])
    store = Store([authority.certificate])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("kubernetes.default.svc"))
    chain = verifier.verify(load(authority.folder, "apiserver"), [])
    assert chain[-1] == authority.certificate


def test_a_kubelet_is_a_node_and_serves_under_its_address(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki")
    create_node(authority, name="node-1", address="10.1.2.3")
    assert load(authority.folder, "kubelet-node-1").subject.rfc4514_string() == "CN=system:node:node-1,O=system:nodes"
    served = load(authority.folder, "kubelet-node-1-server")
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == ["node-1", "10.1.2.3"]
    assert served.not_valid_before_utc < datetime.datetime.now(datetime.UTC)


def test_keys_and_kubeconfigs_are_for_their_owner_alone(tmp_path: Path) -> None:
    authority = create_control_plane(tmp_path / "pki", hosts=["127.0.0.1"])
    config = tmp_path / "admin.conf"
    authority.kubeconfig(config, client="admin", server="https://127.0.0.1:1", name="test")
    for file in [*authority.folder.glob("*.key"), config]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert json.loads(config.read_text())["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
