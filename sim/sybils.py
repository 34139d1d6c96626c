"""Adversaries of pubsub: small programs that speak its wire format, and keep to none of its rules but as they like.

    connection -> a stream of ours: "I am in the topic", GRAFT -> the worst of each kind, while `at_work`

A sybil that is not at work passes on what comes, as a good peer does. One that is does what its kind does, and passes
nothing on but what its kind does. Who is told by a PRUNE to stay away comes back when the time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random

from libp2p.connection import Service, Stream
from libp2p.connection.service import ServiceHost
from libp2p.errors import Libp2pError
from libp2p.identity import PeerId
from libp2p.protocols.pubsub.config import GOSSIPSUB_12
from libp2p.protocols.pubsub.frames import FrameReader
from libp2p.protocols.pubsub.ids import blake2b_of_data
from libp2p.protocols.pubsub.wire import IHave, Rpc, SubOpts, WireMessage, decode_rpc, encode_rpc, frame
from libp2p.swarm.events import ConnectionOpened

_LIMIT = 1 << 20
_BACKOFF = 60.0
_QUEUED = 1000
"""RPCs that may wait for a peer."""


class Sybil(Service):
    """At work it is silent: it sits in meshes, and passes nothing on."""

    def __init__(self, host: ServiceHost, topic: str, dice: Random) -> None:
        super().__init__(host)
        self.topic = topic
        self.dice = dice
        self.at_work = False
        self.recent: dict[bytes, bytes] = {}
        """Ids (BLAKE2b-256, as the scenario's) and data of messages that have come."""
        self._queues: dict[PeerId, asyncio.Queue[bytes]] = {}
        self._mesh: dict[PeerId, None] = {}

    async def start(self) -> None:
        self.serve([GOSSIPSUB_12], self._read)
        self.follow(ConnectionOpened, lambda event: self._meet(event.connection.remote_peer))
        self.spawn(self._work(), name="the worst")

    # What kinds differ in

    def passes_on(self, data: bytes) -> bool:
        """Whether a message is passed on while we are at work."""
        return False

    def evil(self) -> Iterable[Rpc]:
        """What is said to each peer, each second, while we are at work."""
        return ()

    # Inside

    def say(self, peer: PeerId, rpc: Rpc) -> None:
        """Send an RPC, if not too many wait already."""
        queue = self._queues.get(peer)
        if queue is not None and queue.qsize() < _QUEUED:
            queue.put_nowait(frame(encode_rpc(rpc)))

    def _meet(self, peer: PeerId) -> None:
        if peer not in self._queues:
            self._queues[peer] = asyncio.Queue()
            self.spawn(self._write(peer), name="writing")

    async def _write(self, peer: PeerId) -> None:
        try:
            stream = await self.host.new_stream(peer, GOSSIPSUB_12)
            self._graft(peer, subscribe=True)
            while True:
                await stream.write(await self._queues[peer].get())
        except Libp2pError:
            pass  # we are not wanted here any more
        finally:
            del self._queues[peer]
            self._mesh.pop(peer, None)

    def _graft(self, peer: PeerId, *, subscribe: bool = False) -> None:
        self._mesh[peer] = None
        self.say(peer, Rpc(subscriptions=[SubOpts(self.topic)] if subscribe else [], graft=[self.topic]))

    async def _read(self, stream: Stream) -> None:
        reader, peer = FrameReader(limit=_LIMIT), stream.connection.remote_peer
        while chunk := await stream.read(65536):
            for rpc in reader.feed(chunk):
                self._heard(peer, decode_rpc(rpc, max_entries=100_000))

    def _heard(self, peer: PeerId, rpc: Rpc) -> None:
        for message in rpc.messages:
            self._message(peer, message)
        if rpc.graft:
            self._mesh[peer] = None
        for prune in rpc.prune:
            self._mesh.pop(peer, None)
            wait = prune.backoff if prune.backoff is not None else _BACKOFF
            self.spawn(self._return(peer, wait), name="coming back")

    async def _return(self, peer: PeerId, wait: float) -> None:
        await asyncio.sleep(wait + 1)
        self._graft(peer)

    def _message(self, peer: PeerId, message: WireMessage) -> None:
        data = message.data or b""
        mid = blake2b_of_data(message, data)
        if mid in self.recent:
            return
        self.recent[mid] = data
        if len(self.recent) > 200:
            del self.recent[next(iter(self.recent))]
        if self.at_work and not self.passes_on(data):
            return
        for other in self._mesh:
            if other != peer:
                self.say(other, Rpc(messages=[message]))

    async def _work(self) -> None:
        await asyncio.sleep(self.dice.random())
        while True:
            if self.at_work:
                for rpc in self.evil():
                    for peer in list(self._queues):
                        self.say(peer, rpc)
            await asyncio.sleep(1)


class Censor(Sybil):
    """Passes on everything but what one author says: its messages begin with `victim`."""

    victim = b"honest\x00"

    def passes_on(self, data: bytes) -> bool:
        return not data.startswith(self.victim)


class Degrader(Sybil):
    """Passes on half of all."""

    def passes_on(self, data: bytes) -> bool:
        return self.dice.random() < 0.5


class Liar(Sybil):
    """Publishes what validators reject."""

    def evil(self) -> Iterable[Rpc]:
        yield Rpc(messages=[WireMessage(self.topic, b"a lie" + self.dice.randbytes(16)) for _ in range(10)])


class IHaveSpammer(Sybil):
    """Offers messages that there are not."""

    def evil(self) -> Iterable[Rpc]:
        for _ in range(20):
            yield Rpc(ihave=[IHave(self.topic, tuple(self.dice.randbytes(32) for _ in range(50)))])


class IWantSpammer(Sybil):
    """Asks for all that has come of late, again and again."""

    def evil(self) -> Iterable[Rpc]:
        for _ in range(20):
            yield Rpc(iwant=list(self.recent))


class GraftSpammer(Sybil):
    """Grafts, whether it was told to stay away or not."""

    def evil(self) -> Iterable[Rpc]:
        for _ in range(20):
            yield Rpc(graft=[self.topic])


class IDontWantSpammer(Sybil):
    """Says that it doesn't want messages that nobody has."""

    def evil(self) -> Iterable[Rpc]:
        for _ in range(20):
            yield Rpc(idontwant=[self.dice.randbytes(32) for _ in range(50)])
