"""How each program of the cluster is started: its command line and its configuration. Pure functions.

What deviates from a usual cluster does so for one of two reasons, said where it stands: nodes share one kernel with the
machine, and may not change it; and a cluster of tests is thrown away, so that speed goes before durability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.addresses import API_PORT, Addresses, node_name

PAUSE_IMAGE = "bellbuoy.io/local/pause:v1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_PATIENT_CLIENT = ["--kube-api-qps=200", "--kube-api-burst=400"]


@dataclass(frozen=True)
class Component:
    """A program that runs as long as its node does."""

    name: str
    command: Sequence[str]


@dataclass(frozen=True)
class Layout:
    """Where a node finds things, in its own mount namespace."""

    programs: Mapping[str, str]
    """Program -> its path."""
    cluster: Path = Path("/run/bellbuoy/cluster")
    node: Path = Path("/run/bellbuoy/node")

    @property
    def pki(self) -> Path:
        return self.cluster / "pki"


def etcd(program: str, *, data: Path, client_port: int, peer_port: int) -> Component:
    """One member, on loopback; without fsync, since a crash of the machine ends the cluster anyway."""
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    arguments = [
        "--name=only", f"--data-dir={data}", "--unsafe-no-fsync", "--log-level=warn",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=only={peer}",
    ]  # fmt: skip
    return Component("etcd", [program, *arguments])


def api_server(
    program: str,
    *,
    pki: Path,
    etcd_port: int,
    address: str,
    advertise: str,
    port: int,
    services: str,
    extra: Sequence[str],
) -> Component:
    """The API server; `extra` is what differs between a cluster with nodes and the quick mode."""
    arguments = [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--bind-address={address}", f"--advertise-address={advertise}", f"--secure-port={port}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-cluster-ip-range={services}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key",
        f"--requestheader-client-ca-file={pki}/ca.crt", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt", f"--proxy-client-key-file={pki}/front-proxy.key",
        "--enable-aggregator-routing=true",
        # Tests of many pods at once should not meet the limits of a busy production server.
        "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
        *extra,
    ]  # fmt: skip
    return Component("kube-apiserver", [program, *arguments])


def quick_control_plane(
    *, etcd_program: str, api_server_program: str, folder: Path, ports: tuple[int, int, int]
) -> list[Component]:
    """etcd and API server on loopback; `ports` are those of etcd's clients, etcd's peers and the API server."""
    client_port, peer_port, port = ports
    server = api_server(
        api_server_program,
        pki=folder / "pki",
        etcd_port=client_port,
        address="127.0.0.1",
        # Never written, since there is no reconciler of endpoints; but loopback is refused, and without a default
        # route the server finds none by itself. An address of the documentation's range harms nobody.
        advertise="192.0.2.1",
        port=port,
        services="10.96.0.0/16",
        extra=[
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            # No controller makes the `default` accounts, and without them this plugin refuses every pod.
            "--disable-admission-plugins=ServiceAccount",
        ],
    )
    return [etcd(etcd_program, data=folder / "etcd", client_port=client_port, peer_port=peer_port), server]


def control_plane(layout: Layout, addresses: Addresses) -> list[Component]:
    """etcd and API server of the first node."""
    pki = layout.pki
    server = api_server(
        layout.programs["kube-apiserver"],
        pki=pki,
        etcd_port=2379,
        address="0.0.0.0",
        advertise=addresses.node(0),
        port=API_PORT,
        services=addresses.services,
        extra=[
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
        ],
    )
    data = etcd(layout.programs["etcd"], data=layout.node / "etcd", client_port=2379, peer_port=2380)
    return [data, server]


def controllers(layout: Layout) -> list[Component]:
    """Controller manager and scheduler of the first node."""

    def identity(name: str) -> list[str]:
        config = layout.cluster / f"{name}.conf"
        flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        return [*(f"--{flag}={config}" for flag in flags), "--leader-elect=false", *_PATIENT_CLIENT]

    manager = "kube-controller-manager"
    arguments = [
        *identity(manager),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={layout.pki}/sa.key",
        f"--root-ca-file={layout.pki}/ca.crt",
        f"--cluster-signing-cert-file={layout.pki}/ca.crt",
        f"--cluster-signing-key-file={layout.pki}/ca.key",
        # Makes folders under /tmp/hostpath_pv, which all nodes share: see manifests/storage.yaml.
        "--enable-hostpath-provisioner",
        "--flex-volume-plugin-dir=/var/lib/kubelet/volumeplugins",
        "--horizontal-pod-autoscaler-sync-period=5s",
        # A node that dies is NotReady after 20 s instead of 50 s.
        "--node-monitor-grace-period=20s",
    ]
    scheduler = "kube-scheduler"
    return [
        Component(manager, [layout.programs[manager], *arguments]),
        Component(scheduler, [layout.programs[scheduler], *identity(scheduler)]),
    ]


def containerd() -> Component:
    return Component("containerd", ["containerd", "--config=/etc/containerd.toml"])


def workers(layout: Layout, addresses: Addresses, *, index: int) -> list[Component]:
    """What runs pods and services, on every node."""
    name = node_name(index)
    kubelet = [
        "--config=/etc/kubelet.json",
        f"--kubeconfig={layout.cluster}/kubelet-{name}.conf",
        f"--hostname-override={name}",
        f"--node-ip={addresses.node(index)}",
    ]
    proxy = ["--config=/etc/kube-proxy.json", f"--hostname-override={name}"]
    return [
        Component("kubelet", [layout.programs["kubelet"], *kubelet]),
        Component("kube-proxy", [layout.programs["kube-proxy"], *proxy]),
    ]


def containerd_config() -> str:
    """For containerd 1.6 and 1.7."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  # The machine may forbid negative values; a sandbox then dies without a word.
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  enable_unprivileged_ports = true
  [{cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""


def network_config(addresses: Addresses, *, index: int) -> dict[str, Any]:
    """CNI: a bridge in the node, addresses from the node's range. It stores NetworkPolicies, and enforces none."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": addresses.node_pods(index)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": ipam}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "bellbuoy", "plugins": [bridge, ports]}


def kubelet_config(layout: Layout, addresses: Addresses, *, index: int) -> dict[str, Any]:
    """Tokens are reviewed by the API server: a service account with the right role reads /metrics/cadvisor."""
    certificate = layout.pki / f"kubelet-{node_name(index)}-server"
    thresholds = (
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "imagefs.available",
        "imagefs.inodesFree",
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{addresses.cgroup(index)}",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{certificate}.crt",
        "tlsPrivateKeyFile": f"{certificate}.key",
        "clusterDomain": "cluster.local",
        "clusterDNS": [addresses.dns],
        "resolvConf": "/etc/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "maxOpenFiles": 20000,
        # Together with the node's own copies of the kernel's settings: see `node`.
        "protectKernelDefaults": True,
        "failSwapOn": False,
        # The machine's disk and memory are not this cluster's to judge.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": dict.fromkeys(thresholds, "0%"),
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "4s",
        "readOnlyPort": 0,
        # A restarted container of a test should not wait five minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "20s"},
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
    }


def proxy_config(layout: Layout, addresses: Addresses) -> dict[str, Any]:
    """nftables; conntrack's limits belong to the machine and are left alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": addresses.pods,
        "clientConnection": {"kubeconfig": f"{layout.cluster}/kube-proxy.conf"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
