"""Clusters side by side never meet: everything that they share with the machine follows from their number."""

from ipaddress import IPv4Address, IPv4Network

from deploy.local.addresses import NUMBERS, Addresses


def test_every_cluster_has_a_block_of_its_own() -> None:
    blocks = {Addresses(number).block for number in NUMBERS}
    assert len(blocks) == len(NUMBERS)
    assert all(IPv4Network(block).is_private for block in blocks)


def test_all_addresses_lie_inside_the_block_and_ranges_do_not_overlap() -> None:
    addresses = Addresses(7)
    block = IPv4Network(addresses.block)
    pods, services = IPv4Network(addresses.pods), IPv4Network(addresses.services)
    assert pods.subnet_of(block)
    assert services.subnet_of(block)
    assert not pods.overlaps(services)
    assert IPv4Network(addresses.node_pods(3)).subnet_of(pods)
    assert IPv4Address(addresses.dns) in services
    assert IPv4Address(addresses.api_service) == next(services.hosts())


def test_nodes_lie_outside_the_range_of_pods() -> None:
    addresses = Addresses(7)
    assert IPv4Address(addresses.node(0)) not in IPv4Network(addresses.pods)
    assert IPv4Address(addresses.gateway) not in IPv4Network(addresses.pods)


def test_names_of_links_fit_the_kernel() -> None:
    for number in NUMBERS:
        assert len(Addresses(number).bridge) <= 15
        assert len(Addresses(number).link(20)) <= 15
