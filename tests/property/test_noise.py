"""Noise under any input: bytes split anywhere give the same plaintext, and garbage ends in a named error."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from libp2p.errors import HandshakeError, RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.security.noise import Noise, NoiseChannel
from libp2p.security.noise.core import NoiseHandshake
from libp2p.security.noise.payload_pb2 import NoiseHandshakePayload
from libp2p.testing.conformance.one_end import end, received_in_pieces, split, wire_image
from libp2p.transports.memory.pipe import MemoryConnection, pipe

KEY = PrivateKey.generate()
NOISE = Noise()


def channel_over(raw: MemoryConnection) -> NoiseChannel:
    channel = NoiseChannel(
        raw,
        send_key=bytes(32),
        receive_key=bytes(32),
        local_peer=KEY.peer_id,
        remote_key=KEY.public_key,
        stream_muxer=None,
    )
    raw.attach(channel)
    return channel


async def sent(writes: list[bytes]) -> bytes:
    here, there = pipe(window=1 << 20)
    return await wire_image(channel_over(here), there, writes)


plaintexts = st.lists(st.binary(max_size=40) | st.integers(60_000, 140_000).map(bytes), max_size=4)


@settings(max_examples=60)
@given(plaintexts, st.lists(st.integers(0, 2**32), max_size=12))
async def test_any_split_of_the_ciphertext_gives_the_same_plaintext(writes: list[bytes], cuts: list[int]) -> None:
    image = await sent(writes)
    here, there = pipe()
    assert await received_in_pieces(channel_over(here), split(image, cuts)) == b"".join(writes)
    await end(here, there)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4), st.data())
async def test_byte_by_byte_and_damaged_anywhere(writes: list[bytes], data: st.DataObject) -> None:
    image = bytearray(await sent(writes))
    position = data.draw(st.integers(0, len(image) - 1))
    image[position] ^= data.draw(st.integers(1, 255))
    here, there = pipe()
    channel = channel_over(here)
    error = None
    try:
        for offset in range(len(image)):
            channel.data_received(memoryview(image)[offset : offset + 1])
    except RemoteProtocolError as caught:
        error = caught
    if error is None:
        channel.eof_received()
        assert channel._partial, "the damage went unnoticed"
    await end(here, there)
    received = channel._sink.incoming.take_all()  # type: ignore[attr-defined]
    assert b"".join(writes).startswith(received)
    assert len(received) < len(b"".join(writes))


garbage = st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: len(data).to_bytes(2, "big") + data)


@given(st.sampled_from(["initiator", "responder"]), garbage)
async def test_garbage_in_place_of_the_first_answer(role: str, data: bytes) -> None:
    here, there = pipe()
    if role == "initiator":
        handshake = NOISE.secure_outbound(here, KEY, expected_peer=None, muxers=["/yamux/1.0.0"])
    else:
        handshake = NOISE.secure_inbound(here, KEY, muxers=["/yamux/1.0.0"])
    task = asyncio.ensure_future(handshake)
    there.send([data])
    closing = asyncio.ensure_future(there.close())
    await asyncio.wait([task])
    assert isinstance(task.exception(), HandshakeError)
    await end(here)
    await closing


@given(
    st.sampled_from([2, 3]),
    st.binary(max_size=200) | st.binary(max_size=60).map(lambda field: b"\x0a%c%b" % (len(field), field)),
)
async def test_garbage_as_an_encrypted_payload(number: int, payload: bytes) -> None:
    here, there = pipe()
    if number == 2:
        handshake = NOISE.secure_outbound(here, KEY, expected_peer=None, muxers=[])
    else:
        handshake = NOISE.secure_inbound(here, KEY, muxers=[])
    task = asyncio.ensure_future(handshake)
    peer: NoiseHandshake = NOISE._handshake(initiator=number == 3)
    if number == 3:
        there.send([framed(peer.write_message(b""))])
    size = int.from_bytes(await there.readexactly(2), "big")
    NoiseHandshakePayload.FromString(peer.read_message(await there.readexactly(size)))
    there.send([framed(peer.write_message(payload))])
    await asyncio.wait([task])
    assert isinstance(task.exception(), HandshakeError)
    await end(here, there)


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
