"""What must hold in a network in which one node provides, and another looks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from libp2p.discovery.http import HttpRouter
from libp2p.identity import KeyType, PrivateKey
from libp2p.protocols.rendezvous import RendezvousClient
from libp2p.records import RecordForm
from libp2p.records.ipns import IpnsRecord, parse_name, routing_key

from .contents import Content, contents
from .kinds import AnyNode
from .kubo import Kubo
from .peers import Program, Us

Check: TypeAlias = Callable[[AnyNode, AnyNode, AnyNode], Awaitable[None]]
"""Called with the bootstrap node, which is the rendezvous point too, the provider and the querier."""
PATH = "/ipfs/bafkqaaa"  # of nothing
TRIES = 10


def checks(kinds: Sequence[str]) -> dict[str, Check]:
    """The checks of a network whose bootstrap node, provider and querier are of these kinds."""
    _, provider, querier = kinds
    everybody = set(kinds)
    asked: dict[str, Check] = {
        "peers": peers,
        **{name: providers(content) for name, content in contents().items()},
        "values": values,
        "ipns-ed25519": ipns(PrivateKey.generate()),
        "ipns-rsa": ipns(PrivateKey.generate(KeyType.RSA)),
    }
    if {provider, querier} <= {"us", "kubo"}:
        asked["names"] = names
    if (provider, querier) == ("us", "kubo"):
        asked["delegated"] = delegated
    if everybody <= {"us", "rust"}:
        asked["rendezvous"] = rendezvous
    return asked


async def peers(_: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
    """Who has just come is known as soon as the bootstrap node has identified it."""
    for _ in range(TRIES - 1):
        with suppress(Exception):
            await find_each_other(provider, querier)
            return
        await asyncio.sleep(0.5)
    await find_each_other(provider, querier)


async def find_each_other(provider: AnyNode, querier: AnyNode) -> None:
    for seeker, sought in ((querier, provider), (provider, querier)):
        found = await seeker.find_peer(peer_of(sought))
        assert sought.addr in [addr if "/p2p/" in addr else f"{addr}/p2p/{peer_of(sought)}" for addr in found], found


def providers(content: Content) -> Check:
    async def check(_: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
        await provider.provide(content)
        found = await querier.find_providers(content)
        assert found == [peer_of(provider)], f"found {found}"

    return check


async def values(_: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
    await provider.put(b"/v/a", b"1")
    assert max(await querier.get(b"/v/a")) == b"1"
    await querier.put(b"/v/a", b"2")
    assert max(await provider.get(b"/v/a")) == b"2"


def ipns(key: PrivateKey) -> Check:
    async def check(_: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
        for sequence in (1, 2):
            record = IpnsRecord.make(key, f"/ipfs/{sequence}", sequence=sequence, now=time.time())
            await provider.put(routing_key(key.peer_id), record.encoded)
            got = [
                IpnsRecord.open(one, key.peer_id, time.time()) for one in await querier.get(routing_key(key.peer_id))
            ]
            assert max(record.sequence for record in got) == sequence

    return check


async def names(_: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
    """What one publishes under its name the other resolves, by the commands that users have."""
    assert await resolve(querier, await publish(provider)) == PATH


async def delegated(_: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
    """The querier's HTTP service finds the peer, the content and the name that the provider has announced."""
    assert isinstance(querier, Kubo)
    content = contents()["CIDv1"]
    await provider.provide(content)
    name = parse_name(await publish(provider))
    async with HttpRouter(querier.gateway) as router:
        # The address is of loopback: the router, which believes no stranger in that, leaves it out.
        assert [str(info.peer) async for info in router.find_providers(content.cid)] == [peer_of(provider)]
        value = await router.get_value(routing_key(name))
    assert IpnsRecord.open(value, name, time.time()).value == PATH.encode()


async def rendezvous(point: AnyNode, provider: AnyNode, querier: AnyNode) -> None:
    """Who registers at the bootstrap node is found there."""
    if isinstance(provider, Us):
        forms = [RecordForm.RUST] if isinstance(querier, Program) else list(RecordForm)
        async with RendezvousClient(provider.host, point.addr, forms=forms) as client:
            await client.register("interop")
            await discover(querier, point, peer_of(provider))
    else:
        assert isinstance(provider, Program)
        await provider.do("register", "interop", peer_of(point))
        await discover(querier, point, peer_of(provider))


async def discover(querier: AnyNode, point: AnyNode, wanted: str) -> None:
    if isinstance(querier, Us):
        async with RendezvousClient(querier.host, point.addr) as client:
            infos, _ = await client.discover("interop")
            found = [str(info.peer) for info in infos]
    else:
        assert isinstance(querier, Program)
        found = await querier.do("discover", "interop", peer_of(point))
    assert found == [wanted], f"found {found}"


async def publish(node: AnyNode) -> str:
    if isinstance(node, Kubo):
        return await node.publish_name(PATH)
    assert isinstance(node, Us)
    now = time.time()
    await node.dht.publish_name(IpnsRecord.make(node.key, PATH, sequence=round(now * 1e6), now=now))
    return str(node.key.peer_id)


async def resolve(node: AnyNode, name: str) -> str:
    if isinstance(node, Kubo):
        return await node.resolve_name(name)
    assert isinstance(node, Us)
    return (await node.dht.resolve_name(parse_name(name))).value.decode()


def peer_of(node: AnyNode) -> str:
    return node.addr.rpartition("/")[2]
