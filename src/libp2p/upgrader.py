"""Makes a finished connection of a raw one: first a secure channel, then a muxer (libp2p/specs connections).

    dialer                                listener
      | -- /multistream/1.0.0, /noise -------> |     which security protocol?
      | <------ /multistream/1.0.0, /noise --- |
      | <=========== handshake =============> |     who is there? (and, inlined: which muxer?)
      | -- /multistream/1.0.0, /yamux/1.0.0 -> |     only where the handshake did not say:
      | <-- /multistream/1.0.0, /yamux/1.0.0 - |     which muxer?

A dialer that offers one security protocol only does not wait for the answer: the handshake begins in the same breath,
and the answer is read on the way. That saves a round trip.

Each stage has its time limit. Whatever goes wrong, the raw connection is aborted with the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from . import multistream
from .connection import (
    Connection,
    ConnectionUpgrader,
    Direction,
    Muxer,
    RawConnection,
    Role,
    Scope,
    SecureChannel,
    SecurityProtocol,
    Turn,
)
from .connection.negotiation import expect_agreement, incoming_of
from .errors import HandshakeError
from .identity import PeerId, PrivateKey
from .io import HostMemory, time_limit
from .security.pnet import PrivateNetwork
from .spans import span


@dataclass(frozen=True, slots=True)
class UpgraderConfig:
    """Time limits of the stages of an upgrade, in seconds."""

    negotiation_timeout: float = 10.0
    """For agreeing on a security protocol, and again for agreeing on a muxer."""
    handshake_timeout: float = 10.0
    """For the security protocol's handshake."""


class Upgrader(ConnectionUpgrader):
    """Upgrades raw connections as the owner of `key`; `security` and `muxers` are offered in their order, best first.
    Those of a `private_network` are first hidden by its pre-shared key. `new_account` gives a new connection to a peer
    its account of memory; None: each has the default limit for itself.
    """

    def __init__(
        self,
        key: PrivateKey,
        *,
        security: Sequence[SecurityProtocol],
        muxers: Sequence[Muxer],
        private_network: PrivateNetwork | None = None,
        config: UpgraderConfig | None = None,
        memory: HostMemory | None = None,
    ) -> None:
        if not security or not muxers:
            raise ValueError("an upgrader needs at least one security protocol and one muxer")
        self.key = key
        """The host's."""
        self._host = key.peer_id
        self._security = {protocol.protocol_id: protocol for protocol in security}
        self._muxers = {muxer.protocol_id: muxer for muxer in muxers}
        self._private_network = private_network
        self._config = config or UpgraderConfig()
        self._memory = memory or HostMemory()

    async def upgrade(
        self,
        raw: RawConnection,
        direction: Direction,
        *,
        role: Role | None = None,
        peer: PeerId | None = None,
        scope: Scope | None = None,
    ) -> Connection:
        """See `ConnectionUpgrader`."""
        if role is None:
            role = Role.of(direction)
        with span("handshake", host=self._host, direction=direction.value, addr=raw.remote_addr):
            return await self._upgrade(raw, direction, role, peer, scope)

    async def _upgrade(
        self, raw: RawConnection, direction: Direction, role: Role, peer: PeerId | None, scope: Scope | None
    ) -> Connection:
        try:
            if self._private_network is not None:
                raw = self._private_network.protect(raw)
            channel = await self._secure(raw, role, peer, None if scope is None else partial(_turn_of, scope))
            if scope is not None:
                scope.identified(channel.remote_peer)
            muxer = channel.stream_muxer
            if muxer is None:
                muxer = await self._negotiate(channel, role, list(self._muxers), "muxer negotiation")
            elif muxer not in self._muxers:
                raise HandshakeError(f"{channel.protocol} agreed on the muxer {muxer}, which was not offered")
            memory = self._memory.of_connection(channel.remote_peer)
            return self._muxers[muxer].connect(channel, direction, role, memory=memory)
        except BaseException as error:
            raw.abort(error if isinstance(error, Exception) else None)
            raise

    async def _secure(
        self, raw: RawConnection, role: Role, peer: PeerId | None, turn: Turn | None = None
    ) -> SecureChannel:
        offered = list(self._security)
        if len(offered) == 1 and role is Role.INITIATOR:
            chosen = offered[0]
            offer = multistream.Offer(incoming_of(raw), chosen, peer=peer)
            await raw.write(offer.message)
            expect_agreement(raw, offer.agreement)
        else:
            chosen = await self._negotiate(raw, role, offered, "security negotiation")
        protocol, muxers = self._security[chosen], list(self._muxers)
        async with time_limit(f"{chosen} handshake", self._config.handshake_timeout):
            if role is Role.INITIATOR:
                return await protocol.secure_outbound(raw, self.key, expected_peer=peer, muxers=muxers)
            return await protocol.secure_inbound(raw, self.key, expected_peer=peer, muxers=muxers, turn=turn)

    async def _negotiate(self, raw: RawConnection, role: Role, protocols: list[str], stage: str) -> str:
        incoming = incoming_of(raw)
        async with time_limit(stage, self._config.negotiation_timeout):
            if role is Role.INITIATOR:
                return await multistream.select(incoming, raw.write, protocols)
            return await multistream.handle(incoming, raw.write, protocols.__contains__, listed=lambda: protocols)


async def _turn_of(scope: Scope) -> None:
    """Wait until `scope` lets the handshake go on."""
    due = asyncio.get_running_loop().create_future()

    def step() -> bool:
        if due.done():
            return False
        due.set_result(None)
        return True

    scope.when_due(step)
    if not due.done():
        await due
