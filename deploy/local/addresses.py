"""All names and addresses of a cluster, from its number: one /16 each, so that clusters never meet.

    10.(200+N).0.0/24     the bridge: .1 is this machine, .(2+i) node i
    10.(200+N).64+i.0/24  pods of node i
    10.(200+N).128.0/17   services

Nodes lie outside the range of the pods: kube-proxy masquerades what comes from outside it, which is how a test on this
machine reaches a service whose pod runs on another node.
"""

from dataclasses import dataclass

NUMBERS = range(1, 51)
API_PORT = 6443


@dataclass(frozen=True)
class Addresses:
    """Of cluster `number`."""

    number: int

    @property
    def _prefix(self) -> str:
        return f"10.{200 + self.number}"

    @property
    def block(self) -> str:
        return f"{self._prefix}.0.0/16"

    @property
    def bridge(self) -> str:
        """The bridge's name on this machine."""
        return f"bellbuoy{self.number}"

    @property
    def gateway(self) -> str:
        """This machine, as nodes and pods reach it."""
        return f"{self._prefix}.0.1"

    @property
    def pods(self) -> str:
        return f"{self._prefix}.64.0/18"

    @property
    def services(self) -> str:
        return f"{self._prefix}.128.0/17"

    @property
    def api_service(self) -> str:
        """The service `kubernetes`: always the first of the range."""
        return f"{self._prefix}.128.1"

    @property
    def dns(self) -> str:
        return f"{self._prefix}.128.10"

    @property
    def api(self) -> str:
        """The API server's URL, from this machine, nodes and pods."""
        return f"https://{self.node(0)}:{API_PORT}"

    def node(self, index: int) -> str:
        return f"{self._prefix}.0.{2 + index}"

    def node_pods(self, index: int) -> str:
        return f"{self._prefix}.{64 + index}.0/24"

    def link(self, index: int) -> str:
        """This machine's end of the node's cable; at most 15 characters."""
        return f"bb{self.number}-{index}"

    def cgroup(self, index: int) -> str:
        """The node's cgroup, in every hierarchy."""
        return f"bellbuoy{self.number}-{index}"


def node_name(index: int) -> str:
    return f"node-{index}"
