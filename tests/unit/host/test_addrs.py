"""The addresses of a host: where they come from, which are told, and to whom a change is."""

import pytest

from libp2p.errors import InvalidInput
from libp2p.events import EventBus
from libp2p.host import Host, HostConfig
from libp2p.host.addrs import AddrsConfig, AddrSource, OwnAddrs
from libp2p.host.events import AddrsChanged
from libp2p.identity import PrivateKey
from libp2p.multiaddr import Multiaddr

PEER = PrivateKey.generate().public_key.peer_id
HOME, LAN, OUT, NAMED = map(
    Multiaddr,
    ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.7/tcp/1", "/ip4/8.8.4.4/tcp/4001", "/dns4/example.org/tcp/443/tls/ws"],
)
RELAYED = Multiaddr(f"/ip4/9.9.9.9/tcp/1/p2p/{PEER}/p2p-circuit")


class Subject:
    def __init__(self, **config: object) -> None:
        self.listened = [HOME, LAN]
        self.bus = EventBus()
        self.changes: list[AddrsChanged] = []
        self.bus.on(AddrsChanged, self.changes.append)
        self.addrs = OwnAddrs(PEER, self.bus, lambda: self.listened, AddrsConfig(**config))  # type: ignore[arg-type]


def test_all_sources_make_one_list_each_address_once() -> None:
    subject = Subject(also_announce=[str(NAMED)])
    assert subject.addrs.bare == (HOME, LAN, NAMED)
    subject.addrs.set(AddrSource.RELAYED, [RELAYED], by="relay")
    subject.addrs.set(AddrSource.MAPPED, [OUT.with_peer(str(PEER))], by="upnp")
    subject.addrs.set(AddrSource.OBSERVED, [OUT, LAN], by="identify")
    assert subject.addrs.bare == (HOME, LAN, OUT, RELAYED, NAMED)
    assert subject.addrs.found(AddrSource.OBSERVED) == (OUT, LAN)
    assert [str(addr) for addr in subject.addrs.with_peer] == [f"{addr}/p2p/{PEER}" for addr in subject.addrs.bare]
    subject.addrs.set(AddrSource.MAPPED, [], by="upnp")
    assert OUT in subject.addrs.bare  # peers still see us there
    subject.addrs.set(AddrSource.OBSERVED, [], by="identify")
    assert subject.addrs.bare == (HOME, LAN, RELAYED, NAMED)


def test_each_change_is_told_once() -> None:
    subject = Subject()
    same = subject.addrs.bare
    subject.addrs.refresh()
    assert subject.addrs.bare is same
    subject.changes.clear()
    subject.listened = [LAN, OUT]
    subject.addrs.refresh()
    subject.addrs.refresh()
    subject.addrs.set(AddrSource.OBSERVED, [OUT], by="identify")
    assert subject.changes == [AddrsChanged((LAN, OUT), (OUT,), (HOME,))]


def test_announced_ones_stand_for_all_that_is_found() -> None:
    subject = Subject(announce=[NAMED], also_announce=[OUT])
    subject.addrs.set(AddrSource.MAPPED, [LAN], by="upnp")
    assert subject.addrs.bare == (NAMED, OUT)
    assert subject.addrs.found(AddrSource.LISTENED) == (HOME, LAN)


def test_what_is_hidden_is_told_to_nobody() -> None:
    subject = Subject(also_announce=["/ip4/10.1.1.1/tcp/2"], no_announce=["10.0.0.0/8", HOME, "fd00::/8"])
    subject.addrs.set(AddrSource.OBSERVED, [OUT, Multiaddr("/ip6/fd00::1/tcp/1")], by="identify")
    assert subject.addrs.bare == (OUT,)


def test_nobody_makes_the_list_long() -> None:
    subject = Subject(max_per_source=3, max_addrs=6)
    many = [Multiaddr(f"/ip4/8.8.8.8/tcp/{port}") for port in range(1, 100)]
    subject.addrs.set(AddrSource.OBSERVED, many, by="identify")
    assert subject.addrs.bare == (HOME, LAN, *many[:3])
    subject.addrs.set(AddrSource.OBSERVED, many[50:], by="another")
    assert subject.addrs.bare == (HOME, LAN, *many[:3], many[50])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no_announce"):
        Subject(no_announce=["10.0.0.0/99"])
    with pytest.raises(InvalidInput, match="listened addresses are not found"):
        Subject().addrs.set(AddrSource.LISTENED, [LAN], by="me")


async def test_a_host_tells_others_what_it_announces() -> None:
    config = HostConfig(addrs=AddrsConfig(no_announce=["/memory/91"], also_announce=[NAMED]))
    async with Host(listen_addrs=["/memory/91", "/memory/92"], config=config) as host, Host() as other:
        assert host.listen_addrs == [Multiaddr("/memory/91"), Multiaddr("/memory/92")]
        assert host.addrs == [Multiaddr("/memory/92").with_peer(str(host.id)), NAMED.with_peer(str(host.id))]
        info = await other.identify.identify(await other.connect(host.addrs[0]))
        assert info.listen_addrs == (Multiaddr("/memory/92"), NAMED)
    assert host.addrs == [NAMED.with_peer(str(host.id))]
