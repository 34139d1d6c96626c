"""Hosts with pubsub on the simulated network, in virtual time."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest

from libp2p.host import Host, HostConfig
from libp2p.host.identify import IdentifyConfig
from libp2p.protocols.pubsub import FloodSub, GossipSub, GossipSubConfig, PubSub, PubSubConfig
from libp2p.testing.cheap import CheapTransport
from libp2p.testing.network import Link, Network

Nodes = Callable[..., AbstractAsyncContextManager[list[PubSub]]]  # what the tests say, too


@asynccontextmanager
async def _nodes(
    *configs: PubSubConfig | None, link: Link | None = None, identify: bool = False, **kwargs: Any
) -> AsyncIterator[list[PubSub]]:
    """A peer for each config (None: gossipsub's default; a plain `PubSubConfig`: floodsub), not connected yet."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(seed=1, link=link or Link(latency=0.01)))
        nodes: list[PubSub] = []
        for n, config in enumerate(configs):
            ip = f"10.0.{n // 250}.{n % 250 + 1}"
            host = Host(
                transports=[CheapTransport(network.node(ip))],
                listen_addrs=[f"/ip4/{ip}/tcp/4001"],
                config=HostConfig(identify=IdentifyConfig(automatic=identify)),
            )
            await stack.enter_async_context(host)
            pubsub: PubSub
            if config is None or isinstance(config, GossipSubConfig):
                pubsub = GossipSub(host, config, dice=Random(n), **kwargs)
            else:
                pubsub = FloodSub(host, config, dice=Random(n), **kwargs)
            nodes.append(await stack.enter_async_context(pubsub))
        yield nodes


@pytest.fixture
def nodes() -> Nodes:
    return _nodes
