"""No peer steers us: a table of addresses and of peers who name them, at every place where addresses enter or leave.

A place added later belongs into `PLACES`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from libp2p.connection import Direction
from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.host.identify import IdentifyConfig
from libp2p.host.identify.telling import Acquaintances, OwnInfo
from libp2p.host.identify.wire import IdentifyInfo, decode
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr, Reach, Resolver, may_share, reach_of_remote, unmapped
from libp2p.peerstore import MemoryPeerStore, PeerStoreConfig
from libp2p.records import PeerRecord
from libp2p.swarm.dialer import Dialer, DialerConfig

REMOTES = {
    "M": "/memory/3",
    "U": "/unix/run/p2p.sock",
    "L": "/ip4/127.0.0.1/tcp/50000",
    "K": "/ip4/169.254.9.9/tcp/50000",
    "P": "/ip4/10.0.0.7/udp/50000/quic-v1",
    "E": "/ip4/198.51.100.3/tcp/50000",
    "W": "/ip4/9.9.9.9/tcp/50000",
    "R": "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv/p2p-circuit",
}
KEY = PrivateKey.generate()
PEER = KEY.peer_id
LIMITS = PeerStoreConfig(max_addrs_per_peer=1000)


def table() -> dict[Multiaddr, str]:
    lines = (Path(__file__).parents[1] / "vectors" / "reach.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line.startswith("/")]
    return {Multiaddr(address): marks.replace("-", "") for address, marks in rows}


TABLE = table()
assert len(TABLE) >= 60


async def judged(remote: Multiaddr) -> list[Multiaddr]:
    return [addr for addr in TABLE if may_share(addr, reach_of_remote(remote))]


async def stored(remote: Multiaddr) -> list[Multiaddr]:
    store = MemoryPeerStore(LIMITS)
    store.add_addrs(PEER, TABLE, 100, told=reach_of_remote(remote))
    return store.addrs(PEER)


async def stored_of_a_record(remote: Multiaddr) -> list[Multiaddr]:
    store = MemoryPeerStore(LIMITS)
    store.consume_peer_record(record(), 100, told=reach_of_remote(remote))
    return store.addrs(PEER)


def record() -> bytes:
    return PeerRecord(PEER, 1, tuple(TABLE)).seal(KEY).to_bytes()


class Namespace(SimpleNamespace):
    __hash__ = object.__hash__


def connection(remote: Multiaddr) -> Any:
    return Namespace(remote_addr=remote, local_addr=remote, direction=Direction.INBOUND, remote_peer=PEER)


async def identified(remote: Multiaddr, signed: bytes | None = None) -> list[Multiaddr]:
    host = Host(peerstore=MemoryPeerStore(LIMITS))
    info = IdentifyInfo(PEER, KEY.public_key, listen_addrs=tuple(TABLE), signed_peer_record=signed)
    told = host.identify._store_addrs(connection(remote), info, signed)
    if signed is None:
        assert [addr.without_peer() for addr in told.listen_addrs] == host.peerstore.addrs(PEER)
    await host.close()
    return host.peerstore.addrs(PEER)


async def identified_by_a_record(remote: Multiaddr) -> list[Multiaddr]:
    return await identified(remote, record())


def telling(host: Host, *addrs: Multiaddr) -> OwnInfo:
    """What a host says of itself that has these addresses."""
    face: Any = SimpleNamespace(id=host.id, key=host.key, protocols=[], addrs=list(addrs), listen_addrs=[])
    return OwnInfo(face, IdentifyConfig(), time.time_ns, Acquaintances())


async def told(remote: Multiaddr) -> list[Multiaddr]:
    """The addresses of ours that a peer there is told, in the clear; those in the record are the same."""
    host = Host()
    seen: list[Multiaddr] = []
    signed: list[Multiaddr] = []
    for addr in TABLE:  # one at a time: not all of them would go into one message
        message = telling(host, addr).message(connection(remote))
        info = decode(message, IdentifyInfo(host.id, host.key.public_key), max_addrs=1000, max_protocols=9)
        seen += info.listen_addrs
        if info.signed_peer_record is not None:
            signed += PeerRecord.open(info.signed_peer_record).addrs
    assert signed == seen
    await host.close()
    return seen


class Everywhere:
    """A transport that would dial anything."""

    def __init__(self) -> None:
        self.dialed: list[Multiaddr] = []

    def can_dial(self, addr: Multiaddr) -> bool:
        return True

    async def dial(self, addr: Multiaddr, *_: Any) -> Any:
        self.dialed.append(addr)
        raise ConnectionRefusedError


class Lookup:
    """Names that stay as they are: each leads to an address of the same reach, or, `to` one and the same."""

    def __init__(self, to: str = "") -> None:
        self._to = to

    async def addresses(self, name: str, family: Any) -> list[str]:
        return [self._to or "8.8.8.8"]

    async def texts(self, name: str) -> list[str]:
        return [f"dnsaddr={self._to}"] if self._to else ["dnsaddr=/ip4/8.8.8.8/tcp/4001"]


async def dialed(
    addrs: Sequence[Multiaddr], reach: Reach | None, lookup: Lookup, own: Sequence[Multiaddr] = ()
) -> list[Multiaddr]:
    """What is dialed of addresses that the store has from somewhere, whatever has let them in there."""
    transport: Any = Everywhere()
    dialer = Dialer(
        [transport],
        Resolver(lookup=lookup),
        DialerConfig(max_addrs=1000),
        own_addrs=lambda: own,
        told_over=lambda *_: reach,
    )
    with pytest.raises(DialError):
        await dialer.dial(PEER, addrs, (), lambda made: made)
    return transport.dialed


async def dialed_from_the_store(remote: Multiaddr) -> list[Multiaddr]:
    addrs = [addr for addr in TABLE if not addr[0].name.startswith("dns")]
    return await dialed(addrs, reach_of_remote(remote), Lookup())


Place = Callable[[Multiaddr], Awaitable[list[Multiaddr]]]
PLACES: list[Place] = [
    judged,
    stored,
    stored_of_a_record,
    identified,
    identified_by_a_record,
    told,
    dialed_from_the_store,
]


@pytest.mark.parametrize("mark", REMOTES)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_table(place: Place, mark: str) -> None:
    names = place is not dialed_from_the_store
    form = Multiaddr.without_peer if names else lambda addr: unmapped(addr.without_peer())  # as it is dialed
    expected = {
        form(addr) for addr, marks in TABLE.items() if mark in marks and (names or not addr[0].name.startswith("dns"))
    }
    assert {addr.without_peer() for addr in await place(Multiaddr(REMOTES[mark]))} == expected


NAME, RECORD = Multiaddr("/dns/example.com/tcp/80"), Multiaddr("/dnsaddr/example.com")
NEAR = ["127.0.0.1", "10.0.0.9", "169.254.169.254", "::1", "::ffff:10.0.0.9", "0.0.0.0", "fe80::1%1", "8.8.4.4"]


@pytest.mark.parametrize("ip", NEAR)
async def test_a_name_from_afar_that_resolves_to_what_is_near_is_not_dialed(ip: str) -> None:
    own = [Multiaddr("/ip4/8.8.4.4/tcp/4001")]
    assert await dialed([NAME], Reach.PUBLIC, Lookup(ip), own) == []
    resolved = await dialed([NAME], None, Lookup(ip), own)
    assert len(resolved) == 1, "what the user names is the user's choice"


@pytest.mark.parametrize("to", ["/unix/run/docker.sock", "/memory/7", "/ip4/127.0.0.1/tcp/80"])
async def test_a_record_of_dns_from_afar_is_judged_too(to: str) -> None:
    assert await dialed([RECORD], Reach.PUBLIC, Lookup(to)) == []
    at_the_users_wish = await dialed([RECORD], None, Lookup(to))
    assert at_the_users_wish == ([Multiaddr(to)] if "ip4" in to else [])


async def test_what_a_connection_or_the_user_vouches_for_stays_trusted() -> None:
    store = MemoryPeerStore()
    addr = Multiaddr("/dns4/node/tcp/4001")
    assert store.told_over(PEER, addr) is None
    store.add_addrs(PEER, [addr], 100, told=Reach.PRIVATE)
    assert store.told_over(PEER, addr) is Reach.PRIVATE
    store.add_addrs(PEER, [addr], 100, told=Reach.LOOPBACK)
    assert store.told_over(PEER, addr) is Reach.LOOPBACK
    store.add_addrs(PEER, [addr], 100)
    store.add_addrs(PEER, [addr], 100, told=Reach.PRIVATE)
    store.update_addrs(PEER, 100, 200)
    assert store.told_over(PEER, addr) is None


async def test_records_for_peers_near_and_far_have_numbers_of_their_own() -> None:
    """A record with the number of another would be taken for it."""
    async with Host(listen_addrs=["/memory/71"]) as host:
        addrs = (Multiaddr("/ip4/127.0.0.1/tcp/1"), Multiaddr("/ip4/10.0.0.1/tcp/1"), Multiaddr("/ip4/8.8.8.8/tcp/1"))
        own = telling(host, *addrs)
        seqs = []
        for mark in "LPWL":
            message = own.message(connection(Multiaddr(REMOTES[mark])))
            info = decode(message, IdentifyInfo(host.id, host.key.public_key), max_addrs=9, max_protocols=9)
            assert info.signed_peer_record is not None
            opened = PeerRecord.open(info.signed_peer_record)
            seqs.append(opened.seq)
            assert opened.addrs == addrs["LPW".index(mark) :]
        assert seqs[0] == seqs[3]
        assert len(set(seqs)) == 3
        await asyncio.sleep(0)
