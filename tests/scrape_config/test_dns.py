"""`dns_sd_configs`: records become targets, and a server that fails changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from bellbuoy.scrape import Discovery
from bellbuoy.scrape.config import DnsDiscovery
from tests.scrape_config.test_discovery import until

RECORDS = {
    ("_metrics._tcp.example.", "SRV"): ["1 1 9100 b.example.", "1 1 9101 a.example."],
    ("hosts.example.", "A"): ["10.0.0.2", "10.0.0.1"],
    ("hosts.example.", "AAAA"): ["fd00::1"],
    ("example.", "MX"): ["10 mail.example."],
    ("example.", "NS"): ["ns.example."],
}


class NameServer(asyncio.DatagramProtocol):
    """A name server for the records above."""

    def __init__(self) -> None:
        self.records = dict(RECORDS)
        self.fails = False
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        (question,) = query.question
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        if self.fails:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(name, 5, "IN", kind, *records))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)

    def resolver(self) -> dns.asyncresolver.Resolver:
        one = dns.asyncresolver.Resolver(configure=False)
        one.nameservers, one.port = ["127.0.0.1"], self.transport.get_extra_info("sockname")[1]
        return one


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield protocol
    protocol.transport.close()


class Watched:
    """A discovery of these sections, and how often it failed."""

    def __init__(self, server: NameServer, *sections: dict[str, Any]) -> None:
        self.failures = 0

        def failed() -> None:
            self.failures += 1

        self.discovery = Discovery(
            "pool",
            static=(),
            files=(),
            http=(),
            dns=[DnsDiscovery.model_validate({"refresh_interval": "50ms", **section}) for section in sections],
            base=None,
            changed=lambda: None,
            failures=failed,
            resolver=server.resolver,
        )

    def targets(self) -> list[dict[str, str]]:
        return [dict(target) for group in self.discovery.groups() for target in group.targets]

    def addresses(self) -> list[str]:
        return [target["__address__"] for target in self.targets()]

    async def __aenter__(self) -> "Watched":
        self.discovery.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.discovery.stop()


async def test_records_of_every_type_become_targets(server: NameServer) -> None:
    async with Watched(
        server,
        {"names": ["_metrics._tcp.example"]},
        {"names": ["hosts.example"], "type": "a", "port": 80},
        {"names": ["hosts.example"], "type": "AAAA", "port": 80},
        {"names": ["example"], "type": "MX", "port": 25},
        {"names": ["example"], "type": "NS", "port": 53},
    ) as watched:
        await until(lambda: len(watched.targets()) == 7)
        assert watched.addresses() == [
            "a.example:9101",
            "b.example:9100",
            "10.0.0.1:80",
            "10.0.0.2:80",
            "[fd00::1]:80",
            "mail.example:25",
            "ns.example:53",
        ]
        assert watched.targets()[0] == {
            "__address__": "a.example:9101",
            "__meta_dns_name": "_metrics._tcp.example",
            "__meta_dns_srv_record_target": "a.example.",
            "__meta_dns_srv_record_port": "9101",
        }
        assert watched.targets()[5]["__meta_dns_mx_record_target"] == "mail.example."
        assert watched.targets()[6]["__meta_dns_ns_record_target"] == "ns.example."


async def test_records_are_followed_and_a_failure_changes_nothing(server: NameServer) -> None:
    async with Watched(server, {"names": ["hosts.example", "none.example"], "type": "A", "port": 1}) as watched:
        await until(lambda: watched.addresses() == ["10.0.0.1:1", "10.0.0.2:1"])
        assert (watched.failures, watched.discovery.last_error) == (0, "")
        server.fails = True
        await until(lambda: watched.failures > 1)
        assert watched.addresses() == ["10.0.0.1:1", "10.0.0.2:1"]
        assert watched.discovery.last_error.startswith("cannot look up A records of ")
        server.fails = False
        server.records[("hosts.example.", "A")] = ["10.0.0.3"]
        await until(lambda: watched.addresses() == ["10.0.0.3:1"])
        assert watched.discovery.last_error == ""
        # A name that is gone has no targets.
        del server.records[("hosts.example.", "A")], server.records[("hosts.example.", "AAAA")]
        await until(lambda: watched.addresses() == [])
