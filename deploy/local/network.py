"""The cables: a bridge on this machine, and a veth pair to each node's network namespace.

This machine has routes to pods and services, so that tests and a browser reach them directly. It forwards nothing:
ip_forward stays as it is, and nodes have no way to the internet.
"""

import json
from ipaddress import IPv4Network

from deploy.local.addresses import Addresses
from deploy.local.shell import LocalClusterError, run


def is_free(addresses: Addresses) -> bool:
    """Whether nothing on this machine has a route into the cluster's block."""
    block = IPv4Network(addresses.block)
    routes = json.loads(run("ip", "-json", "-4", "route", "show"))
    used = (IPv4Network(route["dst"], strict=False) for route in routes if route["dst"] != "default")
    return not any(block.overlaps(network) for network in used)


def create(addresses: Addresses) -> None:
    """The bridge, with this machine's address on it."""
    run("ip", "link", "add", addresses.bridge, "type", "bridge")
    run("ip", "address", "add", f"{addresses.gateway}/24", "dev", addresses.bridge)
    run("ip", "link", "set", addresses.bridge, "up")


def connect(addresses: Addresses, index: int, *, pid: int) -> None:
    """A cable from the bridge to the node, whose first process is `pid`; it waits for its end, `eth0`."""
    link = addresses.link(index)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "link", "set", link, "master", addresses.bridge, "up")
    run("ip", "route", "add", addresses.node_pods(index), "via", addresses.node(index))
    if index == 0:
        run("ip", "route", "add", addresses.services, "via", addresses.node(index))


def exists(addresses: Addresses) -> bool:
    return any(link["ifname"] == addresses.bridge for link in json.loads(run("ip", "-json", "link", "show")))


def remove(addresses: Addresses) -> None:
    """The bridge and its routes; cables go with their nodes' namespaces, or here if the nodes never started."""
    names = {link["ifname"] for link in json.loads(run("ip", "-json", "link", "show"))}
    prefix = addresses.link(0).removesuffix("0")
    for name in sorted(names):
        if name == addresses.bridge or name.startswith(prefix):
            _delete(name)


def _delete(name: str) -> None:
    try:
        run("ip", "link", "delete", name)
    except LocalClusterError:
        # A cable vanishes by itself once the kernel has cleared its node's namespace, which happens meanwhile.
        if any(link["ifname"] == name for link in json.loads(run("ip", "-json", "link", "show"))):
            raise
