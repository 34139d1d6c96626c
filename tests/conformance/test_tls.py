"""TLS, and its channels as raw connections."""

from __future__ import annotations

from libp2p.connection import SecurityProtocol
from libp2p.security.tls import Tls
from libp2p.testing.conformance import SecurityProtocolSuite
from libp2p.transports.memory import pipe


class TestTls(SecurityProtocolSuite):
    notices_truncation = True

    def protocol(self) -> SecurityProtocol:
        return Tls()

    async def _handshake_lengths(self) -> dict[str, int]:
        """A little less than it took: certificates and signatures vary by some bytes."""
        lengths = await super()._handshake_lengths()
        return {sender: (length - 20) // 100 * 100 for sender, length in lengths.items()}

    async def test_no_muxer_in_common_fails(self) -> None:
        """It fails later: both offer "libp2p" too, which leaves the muxer to a negotiation of its own."""
        one, other = await self._handshake(*pipe(), offers=(("/a",), ("/b",)))
        assert (one.stream_muxer, other.stream_muxer) == (None, None)
        for channel in (one, other):
            channel.abort()
            await channel.close()
