"""Connections within a private network, as raw connections, and the whole stack over them."""

from __future__ import annotations

import asyncio

from libp2p.connection import Connection, Direction, RawConnection
from libp2p.identity import PrivateKey
from libp2p.muxers.mplex import Mplex
from libp2p.security.noise import Noise
from libp2p.security.pnet import PrivateNetwork
from libp2p.testing.conformance import RawConnectionSuite, StreamSuite
from libp2p.transports.memory import pipe
from libp2p.upgrader import Upgrader

NETWORK = PrivateNetwork(bytes(range(32)))


class TestProtectedConnection(RawConnectionSuite):
    max_buffered = 512 * 1024

    async def make(self) -> tuple[RawConnection, RawConnection]:
        left, right = pipe()
        both = NETWORK.protect(left, greeting=b""), NETWORK.protect(right, greeting=b"")
        await asyncio.sleep(0.01)  # the nonces arrive: a pipe that is closed before is reset by them
        return both


class TestStreamsWithinAPrivateNetwork(StreamSuite):
    async def connect(self) -> tuple[Connection, Connection]:
        left, right = (NETWORK.protect(raw) for raw in pipe())
        dialer, listener = (Upgrader(PrivateKey.generate(), security=[Noise()], muxers=[Mplex()]) for _ in range(2))
        dialed, accepted = await asyncio.gather(
            dialer.upgrade(left, Direction.OUTBOUND), listener.upgrade(right, Direction.INBOUND)
        )
        return dialed, accepted
