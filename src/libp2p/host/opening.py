"""From a target to a connection, and to a stream whose protocol is offered or agreed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import multistream
from ..connection import Connection, DialOptions, Stream, StreamErrorCode, Target
from ..connection.negotiation import expect_agreement, incoming_of
from ..errors import ConnectionClosed, DialError
from ..identity import PeerId
from ..io import time_limit
from ..multiaddr import Multiaddr
from ..routing import is_unrouted
from ..swarm import Swarm
from .routing import Routers
from .targets import check_offer, whom


class Opening:
    """Opens what a host asks for: see `Host.connect` and `Host.new_stream`."""

    def __init__(self, local_peer: PeerId, swarm: Swarm, routers: Routers, *, negotiation_timeout: float) -> None:
        self._local_peer = local_peer
        self._swarm = swarm
        self._routers = routers
        self._negotiation_timeout = negotiation_timeout

    async def connect(self, target: Target, options: DialOptions) -> Connection:
        """A connection to `target`."""
        self._swarm.check_process()
        if isinstance(target, Connection):
            return target
        return await self.dial(*whom(target), options)

    async def dial(self, peer: PeerId | None, addrs: Sequence[Multiaddr], options: DialOptions) -> Connection:
        """A connection to `peer`, or whoever is at `addrs`; routers are asked where only the peer is known."""
        if not is_unrouted():  # a lookup of our own, which asks many, is in no hurry for one
            options = replace(options, is_urgent=True)
        try:
            return await self._swarm.connect(peer, addrs, options)
        except DialError as error:
            if peer is None or addrs or peer == self._local_peer or not options.dial:
                raise
            if not self._routers or is_unrouted():
                raise
            return await self._routers.connect(peer, error)

    async def new_stream(self, target: Target, protocols: Sequence[str], options: DialOptions) -> Stream:
        """A stream to `target`; one protocol is offered only, of several the peer's choice is awaited."""
        check_offer(protocols)
        stream = await self._open(target, options)
        peer = stream.connection.remote_peer
        try:
            if len(protocols) == 1:
                offer = multistream.Offer(incoming_of(stream), protocols[0], peer=peer)
                stream.protocol = protocols[0]
                await stream.write(offer.message)
                expect_agreement(stream, offer.agreement)
            else:
                async with time_limit("protocol negotiation", self._negotiation_timeout):
                    stream.protocol = await multistream.select(incoming_of(stream), stream.write, protocols, peer=peer)
        except BaseException:
            stream.reset(StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED)
            raise
        return stream

    async def _open(self, target: Target, options: DialOptions) -> Stream:
        connection = await self.connect(target, options)
        try:
            return await connection.open_stream()
        except ConnectionClosed:
            if connection is target:
                raise
        # The connection that there was ended at this very moment: make a new one.
        return await (await self.connect(target, options)).open_stream()
