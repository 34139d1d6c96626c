"""The `/tls/1.0.0` security protocol: TLS 1.3 over a raw connection, each side proving its identity in it.

    dialer                                            listener
      | -- ClientHello, ALPN: muxers, "libp2p" ----------> |
      | <------ ServerHello, Certificate, Finished ------- |    the dialer knows, and trusts, who answered
      | -- Certificate, Finished, and at once data ------> |    the listener knows who dialed

Rules:
- The dialer's handshake is over before the listener has checked who it is: a listener that refuses says so by an
  alert, which ends the dialer's channel.
- Muxers are agreed on by ALPN (connections/inlined-muxer-negotiation.md): the dialer's first that the listener has,
  else "libp2p", which leaves it to a negotiation afterwards.
- One certificate, with a key made for it, serves all handshakes of an identity by one `Tls` object ("they MAY reuse the
  same key and certificate for multiple connections"): it is never stored, and making it takes as long as a third of a
  handshake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...connection import RawConnection, SecureChannel, SecurityProtocol, Turn
from ...errors import HandshakeError
from ...forks import at_fork
from ...identity import PeerId, PrivateKey

if TYPE_CHECKING:
    from OpenSSL import SSL

    from .handshake import TlsHandshake

_CHUNK = 16_384
"""Bytes of a handshake that are read at once."""


class Tls(SecurityProtocol):
    """`/tls/1.0.0`: mutual TLS 1.3, AES-GCM or ChaCha20-Poly1305."""

    protocol_id = "/tls/1.0.0"

    def __init__(self) -> None:
        self._forget()
        at_fork(self, Tls._forget)

    def _forget(self) -> None:
        self._prepared: tuple[PrivateKey, SSL.Context] | None = None  # for the last identity

    async def secure_outbound(
        self, raw: RawConnection, key: PrivateKey, *, expected_peer: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        return await self._secure(raw, key, is_dialer=True, expected_peer=expected_peer, muxers=muxers)

    async def secure_inbound(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        expected_peer: PeerId | None = None,
        muxers: Sequence[str],
        turn: Turn | None = None,
    ) -> SecureChannel:
        return await self._secure(raw, key, is_dialer=False, expected_peer=expected_peer, muxers=muxers, turn=turn)

    async def _secure(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        is_dialer: bool,
        expected_peer: PeerId | None,
        muxers: Sequence[str],
        turn: Turn | None = None,
    ) -> SecureChannel:
        from .channel import TlsChannel  # noqa: PLC0415 - loads pyOpenSSL
        from .handshake import TlsHandshake  # noqa: PLC0415

        handshake = TlsHandshake(self._context(key), is_dialer=is_dialer, expected_peer=expected_peer, muxers=muxers)
        await _run(raw, handshake, turn)
        if is_dialer:
            await raw.write(handshake.data_to_send())
        # A listener has nothing left but tickets that nobody asked for: they leave with its first data.
        channel = TlsChannel(
            raw,
            handshake.connection,
            local_peer=key.peer_id,
            remote_key=handshake.remote_key,
            stream_muxer=handshake.muxer,
            records=handshake.records,
        )
        channel.start()
        return channel

    def _context(self, key: PrivateKey) -> SSL.Context:
        from .handshake import make_context  # noqa: PLC0415 - loads pyOpenSSL

        if self._prepared is None or self._prepared[0] is not key:
            self._prepared = (key, make_context(key))
        return self._prepared[1]


async def _run(raw: RawConnection, handshake: TlsHandshake, turn: Turn | None) -> None:
    """Exchange bytes until the handshake is over on our side."""
    try:
        while not handshake.proceed():
            if output := handshake.data_to_send():
                await raw.write(output)
            data = await raw.read(_CHUNK)
            if not data:
                raise HandshakeError("tls: the peer ended the connection during the handshake")
            if turn is not None:
                await turn()
            handshake.receive(data)
    except HandshakeError:
        raw.send((handshake.data_to_send(),))  # the alert that tells the peer why
        raise
