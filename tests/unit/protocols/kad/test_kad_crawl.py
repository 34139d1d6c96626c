"""Crawling: all servers are found, and whom they know."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from libp2p.identity import PrivateKey
from libp2p.protocols.kad import CrawlConfig, KadConfig, Mode, crawl
from libp2p.protocols.kad.crawl import _key_at
from libp2p.protocols.kad.keys import common_prefix, peer_position, position

Nodes = Callable[..., AbstractAsyncContextManager[Any]]


async def test_all_servers_are_found(nodes: Nodes, config: KadConfig) -> None:
    small = replace(config, table=replace(config.table, k=3), lookup=replace(config.lookup, k=3))
    async with nodes(30, small) as network:
        gone = network.made[7][0]
        client, dht = await network.add(replace(small, mode=Mode.CLIENT))
        assert len(dht.table) < 29
        await gone.close()
        crawled = {one.info.peer: one async for one in crawl(dht, CrawlConfig(parallel=4))}
        servers = {host.id: server for host, server in network.made[:30] if host is not gone}
        assert set(servers) <= set(crawled) <= {*servers, gone.id}
        assert gone.id not in crawled or crawled[gone.id].error
        for peer, server in servers.items():
            assert crawled[peer].error == ""
            assert crawled[peer].info.addrs
            assert crawled[peer].agent.startswith("py-libp2p")
            known = {one for one in server.table if one in servers}
            assert known - {gone.id} <= set(crawled[peer].neighbours)
        assert client.id not in crawled


async def test_a_crawl_is_bounded_and_ended_by_closing_it(nodes: Nodes, config: KadConfig) -> None:
    small = replace(config, table=replace(config.table, k=2), lookup=replace(config.lookup, k=2))
    async with nodes(12, small) as network:
        dht = network.made[0][1]
        known = len(dht.table)
        assert known < 10
        assert len([one async for one in crawl(dht, CrawlConfig(parallel=2, max_peers=known + 1))]) == known + 1
        crawling = crawl(dht)
        await anext(crawling)
        await crawling.aclose()


def test_keys_are_aimed() -> None:
    here = peer_position(PrivateKey.generate().peer_id)
    for common in range(11):
        assert common_prefix(position(_key_at(here, common)), here) == common
