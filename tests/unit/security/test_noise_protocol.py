"""`/noise` between two raw connections: identities, muxers, and peers that break the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from libp2p.connection import RawConnection, SecureChannel
from libp2p.errors import HandshakeError, PeerIdMismatch
from libp2p.identity import KeyType, PeerId, PrivateKey
from libp2p.security.noise import Noise
from libp2p.security.noise.core import KeyPair, NoiseHandshake, nonce
from libp2p.security.noise.payload_pb2 import NoiseHandshakePayload
from libp2p.transports.memory.pipe import pipe

ALICE, BOB = PrivateKey.generate(), PrivateKey.generate()
YAMUX, MPLEX = "/yamux/1.0.0", "/mplex/6.7.0"
PREFIX = b"noise-libp2p-static-key:"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[RawConnection, RawConnection]]:
    dialer, listener = pipe()
    try:
        yield dialer, listener
    finally:
        dialer.abort()
        listener.abort()
        await asyncio.gather(dialer.close(), listener.close())


async def secured(
    dialer: RawConnection,
    listener: RawConnection,
    *,
    expected: PeerId | None = BOB.peer_id,
    muxers: tuple[Sequence[str], Sequence[str]] = ((), ()),
    keys: tuple[PrivateKey, PrivateKey] = (ALICE, BOB),
) -> tuple[SecureChannel, SecureChannel]:
    outbound = Noise().secure_outbound(dialer, keys[0], expected_peer=expected, muxers=muxers[0])
    inbound = Noise().secure_inbound(listener, keys[1], muxers=muxers[1])
    return await asyncio.gather(outbound, inbound)


class Peer:
    """The other side of a handshake, played by the test."""

    def __init__(self, raw: RawConnection, *, initiator: bool) -> None:
        self.raw = raw
        self.static = KeyPair(X25519PrivateKey.generate())
        ephemeral = KeyPair(X25519PrivateKey.generate())
        self.handshake = NoiseHandshake(initiator=initiator, static=self.static, ephemeral=ephemeral)

    async def send(self, payload: bytes) -> None:
        message = self.handshake.write_message(payload)
        await self.raw.write(len(message).to_bytes(2, "big") + message)

    async def receive(self) -> NoiseHandshakePayload:
        size = int.from_bytes(await self.raw.readexactly(2), "big")
        return NoiseHandshakePayload.FromString(self.handshake.read_message(await self.raw.readexactly(size)))

    def payload(self, key: PrivateKey = BOB) -> NoiseHandshakePayload:
        signature = key.sign(PREFIX + self.static.public)
        return NoiseHandshakePayload(identity_key=key.public_key.to_protobuf(), identity_sig=signature)


@pytest.mark.parametrize("key_type", list(KeyType))
async def test_both_sides_know_each_other(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type)
    async with connected() as (dialer, listener):
        outbound, inbound = await secured(dialer, listener, expected=key.peer_id, keys=(ALICE, key))
        assert (outbound.remote_peer, outbound.local_peer) == (key.peer_id, ALICE.peer_id)
        assert (inbound.remote_key, inbound.local_peer) == (ALICE.public_key, key.peer_id)
        assert (outbound.protocol, outbound.stream_muxer) == ("/noise", None)
        await outbound.write(b"steak")
        assert await inbound.readexactly(5) == b"steak"
        await inbound.write(b"recipes")
        assert await outbound.readexactly(7) == b"recipes"


async def test_anybody_may_answer_where_nobody_is_expected() -> None:
    async with connected() as (dialer, listener):
        outbound, _ = await secured(dialer, listener, expected=None)
        assert outbound.remote_peer == BOB.peer_id


async def test_dialer_does_not_say_who_it_is_to_the_wrong_peer() -> None:
    async with connected() as (dialer, listener):
        inbound = asyncio.ensure_future(Noise().secure_inbound(listener, BOB, muxers=()))
        with pytest.raises(PeerIdMismatch) as caught:
            await Noise().secure_outbound(dialer, ALICE, expected_peer=ALICE.peer_id, muxers=())
        assert (caught.value.expected, caught.value.actual) == (ALICE.peer_id, BOB.peer_id)
        closing = asyncio.ensure_future(dialer.close())
        with pytest.raises(HandshakeError, match="message 3: the stream ended after 0 bytes"):
            await inbound
        await closing


@pytest.mark.parametrize(
    ("dialer_has", "listener_has", "chosen"),
    [
        ((YAMUX, MPLEX), (MPLEX, YAMUX), YAMUX),
        ((MPLEX, YAMUX), (YAMUX,), YAMUX),
        ((), (YAMUX,), None),
        ((YAMUX,), (), None),
    ],
)
async def test_muxer_is_the_initiators_first_that_both_have(
    dialer_has: Sequence[str], listener_has: Sequence[str], chosen: str | None
) -> None:
    async with connected() as (dialer, listener):
        outbound, inbound = await secured(dialer, listener, muxers=(dialer_has, listener_has))
        assert outbound.stream_muxer == inbound.stream_muxer == chosen


async def test_no_muxer_in_common_fails() -> None:
    async with connected() as (dialer, listener):
        inbound = asyncio.ensure_future(Noise().secure_inbound(listener, BOB, muxers=[YAMUX]))
        with pytest.raises(HandshakeError, match=r"no muxer in common: '/mplex/6\.7\.0' dial, '/yamux/1\.0\.0' listen"):
            await Noise().secure_outbound(dialer, ALICE, expected_peer=None, muxers=[MPLEX])
        inbound.cancel()


async def test_what_is_sent_to_a_listener() -> None:
    """Nothing in message 1; in message 3 the identity and the muxers, none where there is none."""
    for muxers in ([], [YAMUX, MPLEX]):
        async with connected() as (dialer, listener):
            peer = Peer(listener, initiator=False)
            outbound = asyncio.ensure_future(
                Noise().secure_outbound(dialer, ALICE, expected_peer=BOB.peer_id, muxers=muxers)
            )
            assert await peer.receive() == NoiseHandshakePayload()
            await peer.send(peer.payload().SerializeToString())
            payload = await peer.receive()
            await outbound
            assert payload.identity_key == ALICE.public_key.to_protobuf()
            assert ALICE.public_key.verify(PREFIX + peer.handshake.remote_static, payload.identity_sig)
            assert payload.HasField("extensions") == bool(muxers)
            assert list(payload.extensions.stream_muxers) == [name.encode() for name in muxers]


async def test_what_others_may_add_is_ignored() -> None:
    """A payload in message 1, unknown fields and extensions, certificate hashes, a muxer that is no UTF-8."""
    async with connected() as (dialer, listener):
        peer = Peer(dialer, initiator=True)
        inbound = asyncio.ensure_future(Noise().secure_inbound(listener, ALICE, muxers=[YAMUX]))
        await peer.send(b"\xffwhatever")
        assert list((await peer.receive()).extensions.stream_muxers) == [YAMUX.encode()]
        extensions = b"\x0a\x02\x01\x02" + b"\x12\x01\xff" + b"\x12\x0c/yamux/1.0.0" + b"\x82\x40\x01x"
        unknown = b"\x1a\x01x" + b"\xc8\x3e\x07"
        await peer.send(peer.payload().SerializeToString() + b"\x22" + bytes([len(extensions)]) + extensions + unknown)
        assert (await inbound).stream_muxer == YAMUX


def forged(peer: Peer) -> NoiseHandshakePayload:
    payload = peer.payload()
    payload.identity_key = ALICE.public_key.to_protobuf()
    return payload


def replayed(peer: Peer) -> NoiseHandshakePayload:
    return Peer(peer.raw, initiator=True).payload()


def unsigned(peer: Peer) -> NoiseHandshakePayload:
    return NoiseHandshakePayload(identity_key=peer.payload().identity_key)


def without_prefix(peer: Peer) -> NoiseHandshakePayload:
    payload = peer.payload()
    payload.identity_sig = BOB.sign(peer.static.public)
    return payload


BAD_PAYLOADS: list[tuple[Callable[[Peer], bytes], str]] = [
    (lambda peer: forged(peer).SerializeToString(), "did not sign the static key"),
    (lambda peer: replayed(peer).SerializeToString(), "did not sign the static key"),
    (lambda peer: unsigned(peer).SerializeToString(), "did not sign the static key"),
    (lambda peer: without_prefix(peer).SerializeToString(), "did not sign the static key"),
    (lambda peer: b"", "identity key: "),
    (lambda peer: b"\x0a\x03\x01\x02\x03", "identity key: "),
    (lambda peer: b"\x0a\xff", "malformed payload: "),
]


@pytest.mark.parametrize(("bad", "says"), BAD_PAYLOADS)
async def test_identity_is_proved_by_both_sides(bad: Callable[[Peer], bytes], says: str) -> None:
    async with connected() as (dialer, listener):
        peer = Peer(listener, initiator=False)
        outbound = asyncio.ensure_future(Noise().secure_outbound(dialer, ALICE, expected_peer=None, muxers=()))
        await peer.receive()
        await peer.send(bad(peer))
        with pytest.raises(HandshakeError, match="noise message 2: .*" + says):
            await outbound
    async with connected() as (dialer, listener):
        peer = Peer(dialer, initiator=True)
        inbound = asyncio.ensure_future(Noise().secure_inbound(listener, ALICE, muxers=()))
        await peer.send(b"")
        await peer.receive()
        await peer.send(bad(peer))
        with pytest.raises(HandshakeError, match="noise message 3: .*" + says):
            await inbound


@pytest.mark.parametrize(
    ("received", "says"),
    [
        (b"", "message 1: the stream ended after 0 bytes, before 2 bytes"),
        (b"\x00\x20abc", "message 1: the stream ended after 3 bytes, before 32 bytes"),
        (b"\x00\x00", "message 1: 0 bytes, too short for the ephemeral key"),
        (b"\x00\x20" + bytes(32), "message 2: the peer's key gives no secret"),
    ],
)
async def test_listener_names_the_stage_that_failed(received: bytes, says: str) -> None:
    async with connected() as (dialer, listener):
        await dialer.write(received)
        closing = asyncio.ensure_future(dialer.close())
        with pytest.raises(HandshakeError, match=says):
            await Noise().secure_inbound(listener, BOB, muxers=())
        await closing


async def test_bytes_right_behind_the_handshake_are_not_lost() -> None:
    async with connected() as (dialer, listener):
        peer = Peer(dialer, initiator=True)
        inbound = asyncio.ensure_future(Noise().secure_inbound(listener, ALICE, muxers=()))
        await peer.send(b"")
        await peer.receive()
        last = peer.handshake.write_message(peer.payload().SerializeToString())
        early = ChaCha20Poly1305(peer.handshake.split()[0]).encrypt(nonce(0), b"early", None)
        await dialer.write(b"".join(len(message).to_bytes(2, "big") + message for message in (last, early)))
        assert await (await inbound).readexactly(5) == b"early"


async def test_static_key_is_signed_once_for_each_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[bytes] = []
    sign = PrivateKey.sign
    monkeypatch.setattr(PrivateKey, "sign", lambda key, data: signed.append(data) or sign(key, data))
    noise = Noise()
    for key, count in ((ALICE, 1), (ALICE, 1), (BOB, 2)):
        async with connected() as (dialer, listener):
            await asyncio.gather(
                noise.secure_outbound(dialer, key, expected_peer=None, muxers=()),
                noise.secure_inbound(listener, key, muxers=()),
            )
            assert len(signed) == count
    assert signed[0] == signed[1]


async def test_an_ephemeral_key_serves_one_handshake() -> None:
    noise, sent = Noise(), set()
    for turns in (0, 0, 1, 1, 0, 2):  # with and without a spare one at hand
        for _ in range(turns):
            await asyncio.sleep(0)
        sent.add(noise._handshake(initiator=True).write_message(b""))
    assert len(sent) == 6
