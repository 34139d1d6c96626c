"""Sybils nearest to keys: they have joined as everybody, and then name only each other, take announcements and values
without keeping them, and know of nothing.

One crowd lies around one point of the key space; the keys are chosen so that all of the crowd are nearer to each key
than the nearest honest server. Contents are provided by honest servers and looked for by others, as users do it. Who
looks for it does not know that there is an attack.

- `found`: searches that found the provider.
- `requests`: requests of one search, on average; those of announcing are not counted.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count as numbers
from math import log2

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from libp2p.cid import Cid
from libp2p.connection import Stream
from libp2p.errors import IncompleteRead
from libp2p.identity import KeyType, PeerId, PrivateKey
from libp2p.protocols.kad import KadDht
from libp2p.protocols.kad.keys import Position, common_prefix, peer_position, position
from libp2p.protocols.kad.messenger import Answer, Told
from libp2p.protocols.kad.wire import Message, MessageType, decode, encode
from libp2p.routing import PeerInfo

from .network import Dhts, dhts, percentile
from .outcome import Outcome

_HEADER = ["sybils", "found", "requests", "times healthy", "seconds p50 / p90", "announcing, seconds p50 / p90"]


@contextmanager
def requests_of(dht: KadDht) -> Iterator[list[PeerId]]:
    """Whom `dht` asks meanwhile."""
    messenger, asked = dht._node.messenger, []
    request = messenger.request

    async def noted(peer: PeerId, message: Message, told: Iterable[Told] = ()) -> Answer:
        asked.append(peer)
        return await request(peer, message, told)

    messenger.request = noted  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        messenger.request = request  # type: ignore[method-assign]


async def besieged(nodes: int, searches: int, crowds: tuple[int, ...] = (20, 45, 100)) -> Outcome:
    """Ever more sybils in a network of `nodes`; `searches` for each number of them."""
    outcome = Outcome("sybils", f"Sybils nearest to a key, among {nodes:,} servers", header=_HEADER)
    async with dhts(nodes) as network:
        await network.refreshed()
        target, bits = _deserted(network)
        healthy = await _searches(outcome, network, [_key(target, 0, n) for n in range(searches)], 0, None)
        sybils = _Crowd(network, target, bits)
        for crowd in crowds:
            await sybils.grow_to(crowd)
            keys = [_key(target, bits, n) for n in range(searches * crowd, searches * (crowd + 1))]
            await _searches(outcome, network, keys, crowd, healthy)
    outcome.axis = "seconds of a search"
    return outcome


def _deserted(network: Dhts) -> tuple[Position, int]:
    """A point, and so many bits that no honest server shares them with it, though one well might."""
    bits = round(log2(len(network.live))) + 1
    while True:
        target = network.dice.getrandbits(256)
        if all(common_prefix(peer_position(host.id), target) < bits for host in network.sim.hosts):
            return target, bits


async def _searches(outcome: Outcome, network: Dhts, keys: list[bytes], crowd: int, healthy: float | None) -> float:
    """Provide and find each; peers asked by a search, on average."""
    found, asked, finding, announcing = 0, [], [], []
    for key in keys:
        cid = Cid.of(key)
        provider, seeker = network.two()
        began = network.now()
        await provider.provide(cid)
        announcing.append(network.now() - began)
        await asyncio.sleep(30)  # the rest is told in the background
        began = network.now()
        with requests_of(seeker) as requests:
            peers = [info.peer async for info in seeker.find_providers(cid)]
        finding.append(network.now() - began)
        asked.append(len(requests))
        found += provider.host.id in peers
    mean = statistics.mean(asked)
    times = mean / healthy if healthy else 1.0
    outcome.curves[f"{crowd} sybils"] = finding
    outcome.rows.append(
        [
            str(crowd),
            f"{found} of {len(keys)}",
            f"{mean:.0f}",
            f"{times:.1f}",
            *(f"{percentile(some, 50):.2f} / {percentile(some, 90):.2f}" for some in (finding, announcing)),
        ]
    )
    if healthy:
        outcome.want(f"{crowd} sybils: found in 95 %", f"{found / len(keys):.1%}", found >= 0.95 * len(keys))
        outcome.want(f"{crowd} sybils: at most 3 times the healthy requests", f"{times:.1f}", times <= 3)
    return mean


class _Crowd:
    """Sybils that share `bits` bits with `target`."""

    def __init__(self, network: Dhts, target: Position, bits: int) -> None:
        self._network = network
        self._target = target
        self._bits = bits
        self._infos: list[PeerInfo] = []

    async def grow_to(self, count: int) -> None:
        """Let more join, until there are `count`."""
        while len(self._infos) < count:
            number = await self._network.join(self._identity())
            host = self._network.sim.hosts[number]
            self._infos.append(PeerInfo(host.id, tuple(host.listen_addrs)))
            self._network.answer(number, self._lie)

    def _identity(self) -> PrivateKey:
        while True:
            secret = Ed25519PrivateKey.from_private_bytes(self._network.dice.randbytes(32))
            key = PrivateKey.from_handle(KeyType.ED25519, secret)
            if common_prefix(peer_position(key.peer_id), self._target) >= self._bits:
                return key

    async def _lie(self, stream: Stream) -> None:
        try:
            while True:
                request = decode(await stream.read_message(limit=1 << 17, what="DHT request"))
                if request.type is not MessageType.ADD_PROVIDER:
                    await stream.write_message(encode(self._answer(request)))
        except IncompleteRead:
            return

    def _answer(self, request: Message) -> Message:
        if request.type is MessageType.PUT_VALUE:
            return request
        target = position(request.key)
        nearest = sorted(self._infos, key=lambda info: peer_position(info.peer) ^ target)
        return Message(request.type, request.key, closer=tuple(nearest[:20]))


def _key(target: Position, bits: int, number: int) -> bytes:
    """A content whose multihash lies so near to `target`, one for each number."""
    for attempt in numbers():
        content = b"%d.%d" % (number, attempt)
        if common_prefix(position(Cid.of(content).multihash), target) >= bits:
            return content
    raise AssertionError("unreachable")
