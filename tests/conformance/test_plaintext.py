"""Plaintext, and its channels as raw connections. Where the suite expects security, that there is none."""

from __future__ import annotations

from libp2p.connection import SecurityProtocol
from libp2p.security.plaintext import InsecurePlaintext
from libp2p.testing.conformance import SecurityProtocolSuite
from libp2p.testing.conformance.security import Wire
from libp2p.testing.conformance.tools import ends
from libp2p.transports.memory import pipe


class TestPlaintext(SecurityProtocolSuite):
    max_pushed_while_paused = 0

    def protocol(self) -> SecurityProtocol:
        return InsecurePlaintext()

    async def test_nothing_of_what_is_sent_can_be_read_on_the_wire(self) -> None:
        """All of it can be read, and it is as long as what was sent."""
        wire, seen, secret = Wire(), bytearray(), b"steak recipes, please"
        one, other = await self._handshake(wire.dialer, wire.listener)
        wire.tamper["dialer"] = lambda _, data: seen.extend(data)
        await one.write(secret)
        assert await ends(other.readexactly(len(secret))) == secret
        assert seen == secret
        await wire.close()

    async def test_changed_data_closes_the_channel(self) -> None:
        """It passes."""
        wire = Wire()
        one, other = await self._handshake(wire.dialer, wire.listener)
        wire.tamper["dialer"] = lambda _, data: data.reverse()
        await one.write(b"kaets")
        assert await ends(other.readexactly(5)) == b"steak"
        await wire.close()

    async def test_truncated_data_is_noticed(self) -> None:
        """It looks like an end."""
        wire = Wire()
        one, other = await self._handshake(wire.dialer, wire.listener)
        wire.cut_after["dialer"] = wire.carried["dialer"] + 5
        await one.write(b"steak recipes")
        assert await ends(other.read()) == b"steak"
        await wire.close()

    async def test_muxers_are_agreed_within_the_handshake(self) -> None:
        """They are agreed afterwards."""
        one, other = await self._handshake(*pipe(), offers=(("/a", "/b"), ("/a", "/b")))
        assert (one.stream_muxer, other.stream_muxer) == (None, None)
        for channel in (one, other):
            channel.abort()
            await ends(channel.close())

    async def test_no_muxer_in_common_fails(self) -> None:
        """Not here."""
        one, other = await self._handshake(*pipe(), offers=(("/a",), ("/b",)))
        for channel in (one, other):
            channel.abort()
            await ends(channel.close())
