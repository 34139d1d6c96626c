"""What every security protocol does: `SecurityProtocolSuite`. Its channels run the raw connection suite, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ...connection import RawConnection, SecureChannel, SecurityProtocol
from ...errors import HandshakeError, Libp2pError, PeerIdMismatch, RemoteProtocolError
from ...identity import KeyType, PeerId, PrivateKey
from ...transports.memory import MemoryConnection, pipe
from .one_end import Transcript, end, settle
from .raw_connections import RawConnectionSuite
from .tools import ENDED, Recorder, cancel, ends, is_held, pattern, raises, started

DIALER, LISTENER = PrivateKey.generate(), PrivateKey.generate()

Tamper = Callable[[int, bytearray], None]
"""Changes bytes on their way: gets the place of the first one in the stream, and the bytes."""


class Wire:
    """Two raw connections with somebody in the middle, who may change or cut what the dialer sends, or the listener."""

    def __init__(self) -> None:
        self.dialer, self._near = pipe()
        self._far, self.listener = pipe()
        self.tamper: dict[str, Tamper] = {}
        self.cut_after: dict[str, int] = {}
        self.carried = {"dialer": 0, "listener": 0}
        self._tasks = [
            asyncio.ensure_future(self._carry("dialer", self._near, self._far)),
            asyncio.ensure_future(self._carry("listener", self._far, self._near)),
        ]

    async def _carry(self, sender: str, source: MemoryConnection, target: MemoryConnection) -> None:
        try:
            while data := bytearray(await source.read(65536)):
                if sender in self.tamper:
                    self.tamper[sender](self.carried[sender], data)
                left = self.cut_after.get(sender, 2**62) - self.carried[sender]
                self.carried[sender] += len(data)
                await target.write(data[: max(0, left)])
                if left <= len(data):
                    break
            await target.close()
        except ENDED:
            target.abort()

    async def close(self) -> None:
        """Tear everything down."""
        for raw in (self.dialer, self.listener, self._near, self._far):
            raw.abort()
        for raw in (self.dialer, self.listener, self._near, self._far):
            await raw.close()
        await asyncio.wait(self._tasks)


class SecurityProtocolSuite(RawConnectionSuite):
    """Tests of a `SecurityProtocol`. `protocol` makes one."""

    max_buffered = 1024 * 1024
    max_pushed_while_paused = 256 * 1024
    notices_truncation: bool = False
    """Whether an end of the raw connection that the peer did not announce is told from one that it did."""

    def protocol(self) -> SecurityProtocol:
        """The protocol to test."""
        raise NotImplementedError

    async def make(self) -> tuple[RawConnection, RawConnection]:
        return await self._handshake(*pipe())

    async def _handshake(
        self,
        dialer: RawConnection,
        listener: RawConnection,
        *,
        keys: tuple[PrivateKey, PrivateKey] = (DIALER, LISTENER),
        expected: PeerId | None = None,
        offers: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> tuple[SecureChannel, SecureChannel]:
        """Both sides' handshakes, side by side. Raises the dialer's error, or else the listener's."""
        results = await self._try_handshake(dialer, listener, keys=keys, expected=expected, offers=offers)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        one, other = results
        assert isinstance(one, SecureChannel)
        assert isinstance(other, SecureChannel)
        return one, other

    async def _try_handshake(
        self,
        dialer: RawConnection,
        listener: RawConnection,
        *,
        keys: tuple[PrivateKey, PrivateKey] = (DIALER, LISTENER),
        expected: PeerId | None = None,
        offers: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> list[SecureChannel | BaseException]:
        """Each side's channel or error. As callers must, it aborts a raw connection whose handshake failed."""

        async def outbound() -> SecureChannel:
            async with dialer_aborts:
                return await self.protocol().secure_outbound(dialer, keys[0], expected_peer=expected, muxers=offers[0])

        async def inbound() -> SecureChannel:
            async with listener_aborts:
                return await self.protocol().secure_inbound(listener, keys[1], muxers=offers[1])

        dialer_aborts, listener_aborts = _AbortOnError(dialer), _AbortOnError(listener)
        return list(await asyncio.gather(outbound(), inbound(), return_exceptions=True))

    async def test_the_channel_knows_who_is_there(self) -> None:
        for kind in KeyType:
            keys = PrivateKey.generate(kind), PrivateKey.generate(kind)
            one, other = await self._handshake(*pipe(), keys=keys, expected=keys[1].public_key.peer_id)
            for channel, local, remote in ((one, *keys), (other, *keys[::-1])):
                assert channel.local_peer == local.public_key.peer_id
                assert channel.remote_peer == remote.public_key.peer_id
                assert channel.remote_key == remote.public_key
                assert channel.protocol == self.protocol().protocol_id
            await end(one, other)

    async def test_somebody_else_than_expected_is_refused(self) -> None:
        dialer, listener = pipe()
        stranger = PrivateKey.generate().public_key.peer_id
        one, other = await self._try_handshake(dialer, listener, expected=stranger)
        assert isinstance(one, PeerIdMismatch)
        assert (one.expected, one.actual) == (stranger, LISTENER.public_key.peer_id)
        if isinstance(other, SecureChannel):  # the handshake may be over for the listener before the dialer objects
            with raises(*ENDED):
                await ends(other.readexactly(1))
        else:
            assert isinstance(other, ENDED)
        await end(dialer, listener)

    async def test_muxers_are_agreed_within_the_handshake(self) -> None:
        for offers, agreed in (
            ((("/a", "/b"), ("/a", "/b")), "/a"),
            ((("/a", "/b"), ("/c", "/b")), "/b"),
            ((("/b",), ("/a", "/b")), "/b"),
            (((), ("/a",)), None),
            ((("/a",), ()), None),
            (((), ()), None),
        ):
            one, other = await self._handshake(*pipe(), offers=offers)
            assert (one.stream_muxer, other.stream_muxer) == (agreed, agreed), offers
            await end(one, other)

    async def test_no_muxer_in_common_fails(self) -> None:
        dialer, listener = pipe()
        results = await self._try_handshake(dialer, listener, offers=(("/a",), ("/b",)))
        assert any(isinstance(result, HandshakeError) for result in results)
        for result in results:
            if isinstance(result, SecureChannel):
                with raises(*ENDED):
                    await ends(result.readexactly(1))
        await end(dialer, listener)

    async def test_much_data_in_both_directions(self) -> None:
        size = 10_000_000

        async def write(channel: RawConnection) -> None:
            for start in range(0, size, 500_000):
                await channel.write(pattern(500_000, start))

        async with self.pair() as (one, other), asyncio.timeout(60), asyncio.TaskGroup() as group:
            for channel in (one, other):
                group.create_task(write(channel))
            reads = [group.create_task(channel.readexactly(size)) for channel in (one, other)]
            for read in reads:
                assert await read == pattern(size)

    async def test_nothing_is_pushed_behind_an_error_of_the_sink(self) -> None:
        one, other = await self._handshake(*pipe())
        broken = RemoteProtocolError("no such frame")

        def fail() -> None:
            raise broken

        sink = Transcript()
        sink.on_data = fail
        other.attach(sink)
        one.send((b"first",))
        one.send((b"second",))
        await settle()
        assert sink.told == [b"first", ("lost", broken)]
        await end(one, other)

    async def test_back_pressure_passes_through_in_both_directions(self) -> None:
        one, other = await self._handshake(*pipe(window=1024))
        sink = Transcript()
        one.attach(sink)
        one.send((bytes(200_000),))
        assert sink.told == ["pause"]
        while "resume" not in sink.told:
            await ends(other.read(65536))
        one.pause_reading()
        other.send((b"held",))
        await settle()
        assert sink.told == ["pause", "resume"]
        one.resume_reading()
        await settle()
        assert sink.told == ["pause", "resume", b"held"]
        await end(one, other)

    async def test_nothing_of_what_is_sent_can_be_read_on_the_wire(self) -> None:
        wire, seen, secret = Wire(), bytearray(), b"steak recipes, please"
        one, other = await self._handshake(wire.dialer, wire.listener)
        wire.tamper["dialer"] = lambda _, data: seen.extend(data)
        await one.write(secret)
        assert await ends(other.readexactly(len(secret))) == secret
        assert len(seen) > len(secret)
        assert secret not in seen
        await wire.close()

    async def test_a_changed_handshake_fails(self) -> None:
        lengths = await self._handshake_lengths()
        for sender, length in lengths.items():
            for place in {*range(0, length, max(1, length // 40)), length - 1}:
                wire = Wire()
                wire.tamper[sender] = _flip(place)
                results = await self._limited_handshake(wire)
                unnoticed = all(isinstance(result, SecureChannel) for result in results)
                assert not unnoticed, f"a bit was flipped in byte {place} of the {sender}'s handshake"
                await wire.close()

    async def test_a_handshake_that_is_cut_short_fails(self) -> None:
        for sender, length in (await self._handshake_lengths()).items():
            for place in range(0, length, max(1, length // 25)):
                wire = Wire()
                wire.cut_after[sender] = place
                victim = (await self._limited_handshake(wire))[1 if sender == "dialer" else 0]
                assert isinstance(victim, ENDED), f"{sender} cut after {place} of {length} bytes: {victim!r}"
                await wire.close()

    async def test_changed_data_closes_the_channel(self) -> None:
        for place in (0, 1, 2, 30, 5000):
            wire = Wire()
            one, other = await self._handshake(wire.dialer, wire.listener)
            near, far = Recorder(one), Recorder(other)
            one.attach(near)
            other.attach(far)
            wire.tamper["dialer"] = _flip(wire.carried["dialer"] + place)
            one.send((pattern(200_000),))
            one.send((pattern(200_000),))  # a changed length may ask for more than one call sends
            await far.until(lost=True)
            assert isinstance(far.lost[0], RemoteProtocolError), repr(far.lost[0])
            assert len(far.data) < 200_000
            assert far.data == pattern(len(far.data))
            await near.until(lost=True)
            await wire.close()

    async def test_truncated_data_is_noticed(self) -> None:
        wire = Wire()
        one, other = await self._handshake(wire.dialer, wire.listener)
        await one.write(b"all of this ")
        assert await ends(other.readexactly(12)) == b"all of this "
        wire.cut_after["dialer"] = wire.carried["dialer"] + 10
        await one.write(b"and a record that does not arrive whole")
        with raises(*ENDED):
            await ends(other.read(1000))
        await wire.close()

    async def test_an_end_that_was_not_announced_is_noticed(self) -> None:
        if self.notices_truncation:
            wire = Wire()
            one, other = await self._handshake(wire.dialer, wire.listener)
            wire.cut_after["dialer"] = 0
            await one.write(b"x")
            with raises(*ENDED):
                await ends(other.read(1000))
            await wire.close()

    async def test_garbage_instead_of_a_handshake_fails(self) -> None:
        for garbage in (bytes(200_000), b"\xff" * 200_000, b"GET / HTTP/1.1\r\n" * 12_000, bytes(range(256)) * 800):
            for outbound in (True, False):
                ours, theirs = pipe()
                theirs.send((garbage,))
                call = (
                    self.protocol().secure_outbound(ours, DIALER, expected_peer=None, muxers=())
                    if outbound
                    else self.protocol().secure_inbound(ours, LISTENER, muxers=())
                )
                with raises(HandshakeError):
                    await ends(call)
                await end(ours, theirs)

    async def test_a_handshake_can_be_cancelled(self) -> None:
        for outbound in (True, False):
            ours, theirs = pipe()
            protocol = self.protocol()
            handshake = await started(
                protocol.secure_outbound(ours, DIALER, expected_peer=None, muxers=())
                if outbound
                else protocol.secure_inbound(ours, LISTENER, muxers=())
            )
            assert await is_held(handshake)
            await cancel(handshake)
            await end(ours, theirs)

    async def _handshake_lengths(self) -> dict[str, int]:
        """How many bytes each side sends in a handshake."""
        wire = Wire()
        await self._handshake(wire.dialer, wire.listener)
        lengths = dict(wire.carried)
        await wire.close()
        return lengths

    async def _limited_handshake(self, wire: Wire) -> list[SecureChannel | BaseException]:
        """A handshake that may wait for bytes that never come; that counts as failed."""
        handshake = asyncio.ensure_future(self._try_handshake(wire.dialer, wire.listener))
        if await is_held(handshake):
            wire.dialer.abort(Libp2pError("the handshake does not end"))
            wire.listener.abort(Libp2pError("the handshake does not end"))
        return await ends(handshake)


class _AbortOnError:
    """Aborts a raw connection when the block raises."""

    def __init__(self, raw: RawConnection) -> None:
        self._raw = raw

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._raw.abort(error if isinstance(error, Exception) else None)


def _flip(place: int) -> Tamper:
    """Flip a bit of the byte at `place`."""

    def tamper(start: int, data: bytearray) -> None:
        if start <= place < start + len(data):
            data[place - start] ^= 0x10

    return tamper
