"""The host asks its routers where peers are."""

import asyncio

import pytest

from libp2p.errors import DialError, RoutingError
from libp2p.host import Host, HostConfig
from libp2p.identity import PeerId
from libp2p.multiaddr import Multiaddr
from libp2p.routing import PeerInfo, is_unrouted, unrouted


class Router:
    """Knows a peer, after a while. It puts what it knows into `host`'s peer store, if it is given one."""

    def __init__(self, info: PeerInfo | None, delay: float = 0.0, host: Host | None = None) -> None:
        self.info = info
        self.delay = delay
        self.host = host
        self.asked = 0
        self.ended = 0

    async def find_peer(self, peer: PeerId) -> PeerInfo:
        self.asked += 1
        assert is_unrouted()
        try:
            await asyncio.sleep(self.delay)
            if self.info is None:
                raise RoutingError("not found")
            if self.host is not None:
                self.host.peerstore.add_addrs(peer, self.info.addrs, 60)
            return self.info
        finally:
            self.ended += 1


def info(host: Host) -> PeerInfo:
    return PeerInfo(host.id, tuple(host.listen_addrs))


async def test_the_first_connection_wins() -> None:
    async with Host(listen_addrs=["/memory/0"]) as target, Host() as host:
        routers = [Router(None), Router(info(target), 1, host), Router(info(target), 1e6, host)]
        for router in routers:
            host.add_router(router)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert (await host.connect(target.id)).remote_peer == target.id
        assert loop.time() - started < 2
        assert [router.ended for router in routers] == [1, 1, 1]
        await host.connect(target.id)
        assert [router.asked for router in routers] == [1, 1, 1]  # it is connected


async def test_routers_are_asked_when_the_known_addresses_do_not_work() -> None:
    async with Host(listen_addrs=["/memory/0"]) as target, Host() as host:
        host.peerstore.add_addrs(target.id, [Multiaddr("/memory/99999")], 60)
        host.add_router(Router(info(target), 0, host))
        assert (await host.connect(target.id)).remote_peer == target.id


async def test_what_strangers_say_leads_to_public_addresses_only() -> None:
    async with Host(listen_addrs=["/memory/0"]) as target, Host() as host:
        host.add_router(Router(info(target)))
        with pytest.raises(DialError):
            await host.connect(target.id)


async def test_failures_are_told_together() -> None:
    async with Host() as target, Host(config=HostConfig(routing_timeout=5)) as host:
        remove = host.add_router(Router(None))
        with pytest.raises(DialError, match="not found"):
            await host.connect(target.id)
        slow = Router(None, 100)
        host.add_router(slow)
        with pytest.raises(DialError, match="not found; routers took more than 5 s"):
            await host.connect(target.id)
        assert slow.ended == 1
        remove()
        remove()
        with pytest.raises(DialError, match="routers took more than 5 s"):
            await host.connect(target.id)


async def test_who_must_not_be_routed_is_not() -> None:
    async with Host() as target, Host() as host:
        router = Router(None)
        host.add_router(router)
        with unrouted(), pytest.raises(DialError):
            await host.connect(target.id)
        with pytest.raises(DialError):
            await host.connect(f"/memory/99999/p2p/{target.id}")
        with pytest.raises(DialError):
            await host.connect(host.id)
        assert not router.asked


async def test_cancelling_ends_the_routers() -> None:
    async with Host() as target, Host() as host:
        router = Router(None, 1e6)
        host.add_router(router)
        connecting = asyncio.create_task(host.connect(target.id))
        await asyncio.sleep(1)
        connecting.cancel()
        await asyncio.wait([connecting])
        assert router.ended == 1
