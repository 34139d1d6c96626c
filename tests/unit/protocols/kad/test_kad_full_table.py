"""A client that knows all servers, and reads from its map who is nearest."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from libp2p.cid import Cid
from libp2p.errors import RoutingError
from libp2p.identity import PeerId
from libp2p.multiaddr import Reach
from libp2p.protocols.kad import FullTable, FullTableConfig, KadConfig, KadDht, Mode
from libp2p.protocols.kad.keys import peer_position, position
from libp2p.protocols.kad.messenger import Told
from libp2p.protocols.kad.peer_map import PeerMap
from libp2p.protocols.kad.wire import MessageType

Nodes = Callable[..., AbstractAsyncContextManager[Any]]
CID = Cid.of(b"content")


def nearest(peers: list[PeerId], target: int, n: int) -> list[PeerId]:
    return sorted(peers, key=lambda one: peer_position(one) ^ target)[:n]


def asked(network: Any, kind: MessageType) -> int:
    """Requests of a kind that all servers have answered."""
    return sum((dht._node.server.answered for _, dht in network.made), Counter())[kind]


async def client(network: Any, config: KadConfig, **settings: float) -> tuple[KadDht, FullTable]:
    _, dht = await network.add(replace(config, mode=Mode.CLIENT))
    network.made.pop()
    full = await network.stack.enter_async_context(FullTable(dht, FullTableConfig(**settings)))  # type: ignore[arg-type]
    await full.ready()
    return dht, full


def test_the_map_names_the_nearest() -> None:
    dice = random.Random(5)
    peers = [PeerId.from_bytes(b"\x12\x20" + dice.randbytes(32)) for _ in range(300)]
    known = PeerMap(dict.fromkeys(peers, Told((), Reach.PUBLIC)))
    assert len(known) == 300
    for target in [dice.getrandbits(256) for _ in range(50)] + [peer_position(peers[0])]:
        for n in (1, 20, 299, 300, 400):
            assert known.nearest(target, n) == nearest(peers, target, n)
    assert known.told(peers[0]) is not None
    assert PeerMap({}).nearest(0, 20) == []


async def test_the_nearest_are_known_and_told_without_a_lookup(nodes: Nodes, config: KadConfig) -> None:
    small = replace(config, table=replace(config.table, k=4), lookup=replace(config.lookup, k=4))
    async with nodes(30, small) as network:
        dht, full = await client(network, small)
        servers = [host.id for host, _ in network.made]
        assert len(full) == 30
        before = asked(network, MessageType.FIND_NODE)
        closest = [info.peer for info in await dht.closest_peers(CID.multihash)]
        assert closest == nearest(servers, position(CID.multihash), 4)
        await dht.provide(CID)
        assert asked(network, MessageType.FIND_NODE) == before
        await dht.put_value(b"/v/a", b"1")
        assert asked(network, MessageType.FIND_NODE) == before
        assert await network.made[3][1].get_value(b"/v/a") == b"1"
        assert await dht.get_value(b"/v/a") == b"1"


async def test_servers_that_are_gone_do_no_harm_and_the_map_is_renewed(nodes: Nodes, config: KadConfig) -> None:
    small = replace(config, table=replace(config.table, k=4), lookup=replace(config.lookup, k=4))
    async with nodes(20, small) as network:
        dht, full = await client(network, small)
        servers = [host.id for host, _ in network.made]
        gone = set(nearest(servers[1:], position(b"/v/a"), 2))
        for host, server in network.made:
            if host.id in gone:
                await server.close()
                await host.close()
        await dht.put_value(b"/v/a", b"1")
        assert await dht.get_value(b"/v/a") == b"1"
        await asyncio.sleep(3700)
        assert len(full) == 18
        await full.close()
        assert dht.map is None
        assert len(await dht.closest_peers(b"/v/a")) == 4


async def test_a_crawl_that_reaches_nobody_leaves_the_map_as_it_was(nodes: Nodes, config: KadConfig) -> None:
    async with nodes(3, config) as network:
        _, full = await client(network, config)
        for host, server in network.made:
            await server.close()
            await host.close()
        with pytest.raises(RoutingError, match="no server"):
            await full.crawl()
        assert len(full) == 3
        await asyncio.sleep(3700)
        assert len(full) == 3
