"""mDNS: what is told, what is taken, and two peers of one machine that find each other."""

import asyncio
from random import Random

import pytest
from zeroconf import DNSOutgoing, DNSPointer, DNSText  # type: ignore[attr-defined]
from zeroconf.asyncio import AsyncZeroconf

from libp2p.discovery import Mdns, MdnsConfig
from libp2p.discovery.mdns.core import MAX_TXT_SIZE, decode, encode, instance_name, service_name
from libp2p.host import Host
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.routing import PeerDiscovered

PEER, OTHER = (PeerId.from_bytes(b"\x12\x20" + bytes([n]) * 32) for n in (1, 2))
LAN = (Multiaddr("/ip4/192.168.1.5/tcp/4001"), Multiaddr("/ip6/fd00::5/udp/4001/quic-v1"))


def text(*attributes: str) -> bytes:
    return b"".join(bytes((len(one),)) + one.encode() for one in attributes)


def test_golden_bytes() -> None:
    expected = text(*(f"dnsaddr={addr}/p2p/{PEER}" for addr in LAN))
    assert encode(PEER, LAN) == expected
    assert decode(expected) == (PEER, LAN)


@pytest.mark.parametrize(
    "addr",
    [
        "/ip4/127.0.0.1/tcp/1",
        "/ip6/::1/tcp/1",
        f"/ip4/192.168.1.5/tcp/1/p2p/{OTHER}/p2p-circuit",
        "/ip4/192.168.1.5/tcp/1/ws",
        "/ip4/192.168.1.5/udp/1/quic-v1/webtransport",
        "/ip4/192.168.1.5/udp/1/webrtc-direct",
        "/dns4/example.com/tcp/1",
        "/unix/tmp/socket",
        "/memory/1",
    ],
)
def test_what_neighbours_have_no_use_for_is_not_told(addr: str) -> None:
    assert encode(PEER, [Multiaddr(addr)]) == b""


def test_names_in_local_are_told() -> None:
    assert encode(PEER, [Multiaddr("/dns4/box.local/tcp/1")])


def test_what_is_told_fits_in_a_packet() -> None:
    addrs = [Multiaddr(f"/ip6/fd00::{n}/udp/4001/quic-v1") for n in range(1, 60)]
    encoded = encode(PEER, addrs)
    assert MAX_TXT_SIZE - 130 < len(encoded) <= MAX_TXT_SIZE
    taken = decode(encoded)
    assert taken is not None
    assert taken[1] == tuple(addrs[: len(taken[1])])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff",
        text("dnsaddr=/ip4/192.168.1.5/tcp/1"),
        text("dnsaddr=nonsense"),
        text(f"other=/ip4/192.168.1.5/tcp/1/p2p/{PEER}"),
        text(f"dnsaddr={LAN[0]}/p2p/{PEER}", f"dnsaddr={LAN[0]}/p2p/{OTHER}"),
        text(f"dnsaddr={LAN[0]}/p2p/{PEER}")[:-1],
    ],
)
def test_what_tells_of_no_peer(data: bytes) -> None:
    assert decode(data) is None


def test_addresses_that_lead_to_this_machine_are_not_taken() -> None:
    data = text(f"dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{PEER}", "x=y", f"DNSADDR={LAN[0]}/p2p/{PEER}")
    assert decode(data) == (PEER, LAN[:1])


def test_names() -> None:
    name = instance_name(Random(1))
    assert len(name) == 32
    assert name.isalnum()
    assert name == name.lower()
    assert service_name() == "_p2p._udp.local."
    assert service_name(b"\xab" * 16) == f"_p2p-{'ab' * 16}._udp.local."
    assert len(service_name(bytes(32)).split(".")[0]) <= 63


class Neighbour(Host):
    """A host that says that it listens in a private network, wherever the test runs."""

    @property
    def listen_addrs(self) -> list[Multiaddr]:
        return [LAN[0]]


@pytest.mark.real
async def test_two_peers_find_each_other() -> None:
    config = MdnsConfig(interfaces=["127.0.0.1"], network=Random().randbytes(16))
    async with Neighbour() as one, Neighbour() as two:
        found = asyncio.Event()
        two.events.on(PeerDiscovered, lambda event: found.set() if event.info.peer == one.id else None)
        async with Mdns(one, config), Mdns(two, config) as mdns:
            async with asyncio.timeout(20):
                await found.wait()
            assert [info.peer for info in mdns.peers] == [one.id]
            assert two.peerstore.addrs(one.id) == [LAN[0]]


@pytest.mark.real
async def test_a_peer_with_a_record_for_each_address_and_a_name_outside_the_service() -> None:
    """What rust-libp2p answers."""
    service, name = service_name(network := Random().randbytes(16)), f"{instance_name(Random())}."
    answer = DNSOutgoing(0x8400)
    answer.add_answer_at_time(DNSPointer(service, 12, 1, 120, name), 0)
    for addr in LAN:
        answer.add_additional_answer(DNSText(name, 16, 1, 120, text(f"dnsaddr={addr}/p2p/{OTHER}")))
    config = MdnsConfig(interfaces=["127.0.0.1"], network=network)
    async with (
        Neighbour() as host,
        host.events.expect(PeerDiscovered) as discovered,
        Mdns(host, config),
        AsyncZeroconf(interfaces=["127.0.0.1"]) as other,
        asyncio.timeout(20),
    ):
        while not discovered.done():
            other.zeroconf.async_send(answer)
            await asyncio.wait([discovered], timeout=0.2)
        info = discovered.result().info
        assert (info.peer, set(info.addrs)) == (OTHER, set(LAN))
