"""The upgrader: its stages, their time limits, and that nothing stays open where one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from libp2p.connection import Connection, Direction, RawConnection, SecureChannel, SecurityProtocol, Turn
from libp2p.errors import (
    HandshakeError,
    IncompleteRead,
    Libp2pError,
    PeerIdMismatch,
    ProtocolNotSupported,
    RemoteProtocolError,
    StageTimeout,
)
from libp2p.identity import PeerId, PrivateKey
from libp2p.muxers.yamux import Yamux
from libp2p.security.noise import Noise
from libp2p.security.plaintext import InsecurePlaintext
from libp2p.transports.memory import MemoryConnection, pipe
from libp2p.upgrader import Upgrader, UpgraderConfig

OUTBOUND, INBOUND = Direction.OUTBOUND, Direction.INBOUND
A, B = PrivateKey.generate(), PrivateKey.generate()


class OldNoise(Noise):
    """Without muxers in the handshake."""

    async def secure_outbound(
        self, raw: RawConnection, key: PrivateKey, *, expected_peer: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        return await super().secure_outbound(raw, key, expected_peer=expected_peer, muxers=())

    async def secure_inbound(
        self,
        raw: RawConnection,
        key: PrivateKey,
        *,
        expected_peer: PeerId | None = None,
        muxers: Sequence[str],
        turn: Turn | None = None,
    ) -> SecureChannel:
        return await super().secure_inbound(raw, key, expected_peer=expected_peer, muxers=(), turn=turn)


class OtherNoise(Noise):
    protocol_id = "/noise/other"


class OtherYamux(Yamux):
    protocol_id = "/yamux/other"


class ForeignMuxer(Noise):
    """Agrees on a muxer that nobody offered."""

    async def secure_outbound(self, *args: Any, **settings: Any) -> SecureChannel:
        channel = await super().secure_outbound(*args, **settings)
        channel.stream_muxer = "/mplex/6.7.0"
        return channel


class Stuck(SecurityProtocol):
    """A handshake that never ends."""

    protocol_id = "/noise"

    async def secure_outbound(self, *_: Any, **__: Any) -> SecureChannel:
        await asyncio.Event().wait()
        raise AssertionError

    async def secure_inbound(self, *_: Any, **__: Any) -> SecureChannel:
        return await self.secure_outbound()


def upgrader(key: PrivateKey, security: list[Any] | None = None, muxers: list[Any] | None = None) -> Upgrader:
    return Upgrader(key, security=security or [Noise()], muxers=muxers or [Yamux()], config=UpgraderConfig(3.0, 5.0))


async def both(dialer: Upgrader, listener: Upgrader, peer: PeerId | None = None) -> list[Any]:
    """What comes of an upgrade on both sides; everything is closed at the end."""
    raw = pipe()
    outcomes: list[Any] = await asyncio.gather(
        dialer.upgrade(raw[0], OUTBOUND, peer=peer), listener.upgrade(raw[1], INBOUND), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, Connection):
            outcome.abort()
    for end in raw:
        await asyncio.wait_for(end.close(), 5)
    return outcomes


@pytest.mark.parametrize(
    ("dialer", "listener", "muxer"),
    [
        (upgrader(A), upgrader(B), "/yamux/1.0.0"),
        (upgrader(A, [OldNoise()]), upgrader(B), "/yamux/1.0.0"),
        (upgrader(A), upgrader(B, [OldNoise()]), "/yamux/1.0.0"),
        (upgrader(A, [OtherNoise(), Noise()]), upgrader(B), "/yamux/1.0.0"),
        (upgrader(A, None, [OtherYamux(), Yamux()]), upgrader(B), "/yamux/1.0.0"),
        (upgrader(A, None, [OtherYamux(), Yamux()]), upgrader(B, None, [Yamux(), OtherYamux()]), "/yamux/other"),
        (
            upgrader(A, [OldNoise()], [OtherYamux(), Yamux()]),
            upgrader(B, None, [Yamux(), OtherYamux()]),
            "/yamux/other",
        ),
    ],
)
async def test_the_dialers_order_decides(dialer: Upgrader, listener: Upgrader, muxer: str) -> None:
    for peer in (B.public_key.peer_id, None):
        dialed, accepted = await both(dialer, listener, peer)
        assert (dialed.remote_peer, accepted.remote_peer) == (B.public_key.peer_id, A.public_key.peer_id)
        assert (dialed.muxer, accepted.muxer) == (muxer, muxer)


@pytest.mark.parametrize(
    ("dialer", "listener", "peer", "error", "others"),
    [
        (upgrader(A, [OtherNoise()]), upgrader(B), None, ProtocolNotSupported, (RemoteProtocolError, OSError)),
        (upgrader(A), upgrader(B), A.public_key.peer_id, PeerIdMismatch, (HandshakeError, OSError)),
        (upgrader(A, None, [OtherYamux()]), upgrader(B), None, HandshakeError, (HandshakeError, OSError)),
        (upgrader(A, [OldNoise()], [OtherYamux()]), upgrader(B), None, ProtocolNotSupported, (Libp2pError, OSError)),
        (upgrader(A, [ForeignMuxer()]), upgrader(B), None, HandshakeError, Connection),
        (upgrader(A, [Stuck()]), upgrader(B), None, StageTimeout, (HandshakeError, OSError, StageTimeout)),
        (upgrader(A), upgrader(B, [Stuck()]), None, StageTimeout, StageTimeout),
    ],
)
async def test_failures_have_names_on_both_sides(
    dialer: Upgrader, listener: Upgrader, peer: PeerId | None, error: type, others: Any
) -> None:
    dialed, accepted = await both(dialer, listener, peer)
    assert type(dialed) is error
    assert isinstance(accepted, others)


@pytest.mark.parametrize(
    ("answer", "stage", "seconds"),
    [
        (b"", "security negotiation", 3),
        (b"\x13/multistream/1.0.0\n", "security negotiation", 3),
        (b"\x13/multistream/1.0.0\n\x07/noise\n", "/noise handshake", 5),
        (b"\x13/multistream/1.0.0\n\x07/noise\n\x10", "/noise handshake", 5),
    ],
)
async def test_each_stage_has_its_time(answer: bytes, stage: str, seconds: float) -> None:
    ours_of_two = upgrader(A, [Noise(), InsecurePlaintext()])  # with one alone the dialer would not wait for the answer
    for direction in (OUTBOUND, INBOUND):
        ours, theirs = pipe()
        await theirs.write(answer)
        start = asyncio.get_running_loop().time()
        with pytest.raises(StageTimeout) as caught:
            await ours_of_two.upgrade(ours, direction)
        assert (caught.value.stage, asyncio.get_running_loop().time() - start) == (stage, seconds)
        with pytest.raises(ConnectionResetError):
            await theirs.read()
        await ours.close()
        await theirs.close()


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (b"", StageTimeout, "/noise handshake took more than 5 s"),
        (b"\x13/multistream/1.0.0\n\x07/noise\n", StageTimeout, "/noise handshake took more than 5 s"),
        (b"\x13/multistream/1.0.0\n\x03na\n", ProtocolNotSupported, "supports none of: /noise"),
        (b"\x13/multistream/2.0.0\n\x07/noise\n", RemoteProtocolError, "expected '/multistream/1.0.0'"),
        (b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x00", HandshakeError, "noise message 2"),
    ],
)
async def test_a_single_security_protocol_is_not_waited_for(answer: bytes, error: type[Exception], reason: str) -> None:
    ours, theirs = pipe()
    upgrading = asyncio.ensure_future(upgrader(A).upgrade(ours, OUTBOUND))
    opening = b"\x13/multistream/1.0.0\n\x07/noise\n"
    message = await theirs.readexactly(len(opening) + 2 + 32)
    assert message.startswith(opening + b"\x00\x20"), "the offer, and the first message of the handshake"
    await theirs.write(answer)
    with pytest.raises(error, match=reason):
        await upgrading
    await ours.close()
    theirs.abort()
    await theirs.close()


async def test_a_peer_that_hangs_up_is_noticed_at_each_stage() -> None:
    for answer in (b"", b"\x13/multis", b"\x13/multistream/1.0.0\n", b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x20"):
        ours, theirs = pipe()
        await theirs.write(answer)
        closing = asyncio.ensure_future(theirs.close())
        with pytest.raises((IncompleteRead, HandshakeError)):
            await upgrader(A).upgrade(ours, INBOUND)
        await closing
        await ours.close()


@pytest.mark.parametrize("side", [0, 1])
async def test_cancelled_at_any_step_it_leaves_no_raw_connection(side: int) -> None:
    for step in range(60):
        raw: tuple[MemoryConnection, MemoryConnection] = pipe()
        calls: tuple[Callable[[], Any], Callable[[], Any]] = (
            lambda raw=raw: upgrader(A).upgrade(raw[0], OUTBOUND),
            lambda raw=raw: upgrader(B).upgrade(raw[1], INBOUND),
        )
        tasks = [asyncio.ensure_future(call()) for call in calls]
        for _ in range(step):
            await asyncio.sleep(0)
        tasks[side].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        done = [outcome for outcome in outcomes if isinstance(outcome, Connection)]
        if len(done) == 2:
            break
        for connection in done:
            await asyncio.wait_for(connection.wait_closed(), 5)
        for end in raw:
            assert end._over, f"still open when cancelled after {step} steps"
    else:
        pytest.fail("the upgrade never came to its end")
    for connection in done:
        connection.abort()


def test_an_upgrader_needs_something_to_offer() -> None:
    for security, muxers in (([], [Yamux()]), ([Noise()], [])):
        with pytest.raises(ValueError, match="at least one"):
            Upgrader(A, security=security, muxers=muxers)
