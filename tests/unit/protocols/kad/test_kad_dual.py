"""Two DHTs side by side: the Internet's and the local one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from libp2p.cid import Cid
from libp2p.errors import InvalidRecord, RoutingError
from libp2p.host import Host
from libp2p.identity import PrivateKey
from libp2p.protocols.kad import DualDht, KadConfig, Mode
from libp2p.routing import ContentRouting, PeerRouting, ValueStore

Nodes = Callable[..., AbstractAsyncContextManager[Any]]
CID = Cid.of(b"content")


SERVER, HOME, FAR = ("10.0.0.2", "1.2.3.4"), ("10.0.0.1",), ("5.6.7.8",)


@asynccontextmanager
async def duals(nodes: Nodes, config: KadConfig) -> AsyncIterator[list[DualDht]]:
    """A server in both networks, one at home that knows it there, and one far away that knows its public address."""
    async with nodes() as network, AsyncExitStack() as stack:
        made: list[DualDht] = []
        for addrs, known in ((SERVER, None), (HOME, 0), (FAR, 1)):
            host: Host = await stack.enter_async_context(network.host(addrs))
            bootstrap = () if known is None else (made[0].host.addrs[known],)
            wan = replace(config, protocol="/test/kad/1.0.0", bootstrap=bootstrap, mode=Mode.SERVER)
            dual = DualDht(host, wan, replace(wan, protocol="/test/lan/kad/1.0.0"), wall_clock=network.wall_clock)
            await stack.enter_async_context(dual)
            await dual.ready()
            made.append(dual)
        yield made


async def test_who_knows_whom(nodes: Nodes, config: KadConfig) -> None:
    async with duals(nodes, config) as (server, home, far):
        assert isinstance(home, PeerRouting)
        assert isinstance(home, ContentRouting)
        assert isinstance(home, ValueStore)
        assert list(server.lan.table) == [home.host.id]
        assert list(server.wan.table) == [far.host.id]
        assert server.host.id in far.wan.table
        assert home.host.id not in far.wan.table
        assert (await server.find_peer(far.host.id)).peer == far.host.id
        assert (await server.find_peer(home.host.id)).peer == home.host.id
        with pytest.raises(RoutingError, match="was not found"):
            await server.find_peer(PrivateKey.generate().peer_id)


async def test_what_is_announced_goes_to_one_and_is_found_in_both(nodes: Nodes, config: KadConfig) -> None:
    async with duals(nodes, config) as (server, home, far):
        assert not len(home.wan.table)
        await home.provide(CID)
        assert await server.lan._node.store.counts() == (0, 1)
        await far.provide(CID)
        found = {info.peer async for info in server.find_providers(CID)}
        assert found == {home.host.id, far.host.id}
        assert len([info async for info in server.find_providers(CID, limit=1)]) == 1
        assert home.host.id not in {info.peer async for info in far.find_providers(CID)}
        await home.stop_providing(CID)
        assert await home.lan.providing() == []


async def test_the_better_value_of_both(nodes: Nodes, config: KadConfig) -> None:
    async with duals(nodes, config) as (server, home, far):
        await far.put_value(b"/v/a", b"1")
        assert await server.get_value(b"/v/a") == b"1"
        await home.put_value(b"/v/a", b"2")
        assert await server.get_value(b"/v/a") == b"2"
        assert await far.get_value(b"/v/a") == b"1"
        with pytest.raises(RoutingError, match="no value"):
            await server.get_value(b"/v/b")
        with pytest.raises(InvalidRecord, match="no rules"):
            await server.get_value(b"/w/b")
