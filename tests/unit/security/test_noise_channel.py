"""The data phase of Noise: framing, order, tampering, the ends, the limit of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from libp2p.connection import RawConnection
from libp2p.errors import LimitExceeded, RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.security.noise import MAX_MESSAGES, MAX_PLAINTEXT, NoiseChannel
from libp2p.security.noise.core import nonce
from libp2p.testing.conformance.one_end import Transcript, settle, transcribed
from libp2p.transports.memory.pipe import pipe

KEY = PrivateKey.generate()
THERE, BACK = bytes([1] * 32), bytes([2] * 32)


def sealed(plaintext: bytes, number: int) -> bytes:
    ciphertext = ChaCha20Poly1305(BACK).encrypt(nonce(number), plaintext, None)
    return len(ciphertext).to_bytes(2, "big") + ciphertext


@asynccontextmanager
async def channel_to() -> AsyncIterator[tuple[NoiseChannel, Transcript, RawConnection]]:
    """A channel that pushes to a transcript, and the raw connection at the other end."""
    here, there = pipe(window=1 << 20, segment=1 << 20)
    channel = NoiseChannel(
        here, send_key=THERE, receive_key=BACK, local_peer=KEY.peer_id, remote_key=KEY.public_key, stream_muxer=None
    )
    here.attach(channel)
    async with transcribed(channel, there) as recorder:
        yield channel, recorder, there


@pytest.mark.parametrize(
    ("buffers", "sizes"),
    [
        ([b"steak"], [5]),
        ([b"steak", bytearray(b" recipes"), memoryview(b", please")], [21]),
        ([bytes(MAX_PLAINTEXT)], [MAX_PLAINTEXT]),
        ([bytes(12), bytes(MAX_PLAINTEXT - 11)], [MAX_PLAINTEXT, 1]),
        ([bytes(2 * MAX_PLAINTEXT)], [MAX_PLAINTEXT, MAX_PLAINTEXT]),
        ([bytes(12), bytes(2 * MAX_PLAINTEXT)], [MAX_PLAINTEXT, MAX_PLAINTEXT, 12]),
        ([bytes(30_000)] * 5, [MAX_PLAINTEXT, MAX_PLAINTEXT, 150_000 - 2 * MAX_PLAINTEXT]),
        ([b""], []),
        ([], []),
    ],
)
async def test_what_is_sent_in_one_call_fills_messages(buffers: list[bytes], sizes: list[int]) -> None:
    async with channel_to() as (channel, _, there):
        channel.send(buffers)
        plaintexts = []
        for number in range(len(sizes)):
            size = int.from_bytes(await there.readexactly(2), "big")
            plaintexts.append(ChaCha20Poly1305(THERE).decrypt(nonce(number), await there.readexactly(size), None))
        assert [len(plaintext) for plaintext in plaintexts] == sizes
        assert b"".join(plaintexts) == b"".join(buffers)


async def test_messages_are_pushed_in_order_and_empty_ones_ignored() -> None:
    async with channel_to() as (_, recorder, there):
        there.send([sealed(b"a", 0) + sealed(b"", 1) + sealed(b"b" * MAX_PLAINTEXT, 2) + sealed(b"c", 3)])
        await settle()
        assert recorder.told == [b"a", b"b" * MAX_PLAINTEXT, b"c"]


@pytest.mark.parametrize(("plaintext", "cost"), [(b"", 1), (b"x", 0.125), (bytes(12), 0)])
async def test_small_messages_wait_for_their_turns_and_tiny_ones_count(plaintext: bytes, cost: float) -> None:
    async with channel_to() as (_, told, there):
        there.send([b"".join(sealed(plaintext, number) for number in range(1000)) + sealed(b"last" * 3, 1000)])
        turns = 0
        while not told.told or told.told[-1] != b"last" * 3:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 1000 // 128
        assert told.useless_cost == 1000 * cost
        assert len(told.told) == 1 + 1000 * bool(plaintext)


async def test_a_sink_that_pauses_gets_what_waited_when_it_resumes_and_then_the_end() -> None:
    async with channel_to() as (channel, told, there):
        told.on_data = channel.pause_reading
        there.send([b"".join(sealed(b"%03d" % number, number) for number in range(300))])
        closing = asyncio.ensure_future(there.close())
        await settle()
        assert len(told.told) == 128, "a turn"
        told.on_data = lambda: None
        channel.resume_reading()
        await settle()
        assert told.told == [*(b"%03d" % number for number in range(300)), "eof"]
        channel.abort()
        await closing


async def test_nothing_that_waits_is_pushed_behind_an_abort() -> None:
    async with channel_to() as (channel, told, there):
        there.send([b"".join(sealed(b"x", number) for number in range(300))])
        told.on_data = lambda: channel.abort() if len(told.told) == 200 else None
        await settle()
        assert told.told[:200] == [b"x"] * 200
        assert [what for what, _ in told.told[200:]] == ["lost"]


async def test_a_forged_message_that_waits_ends_the_connection() -> None:
    async with channel_to() as (_, told, there):
        there.send([b"".join(sealed(b"x", number) for number in range(200)) + sealed(b"forged", 7)])
        await settle()
        assert told.told[:-1] == [b"x"] * 200
        assert isinstance(told.told[-1][1], RemoteProtocolError)


@pytest.mark.parametrize(
    "damaged",
    [
        sealed(b"forged", 1)[:-1] + b"x",
        sealed(b"replayed", 0),
        sealed(b"reordered", 2),
        b"\x00\x00",
        b"\x00\x0f" + bytes(15),
        b"\xff\xff" + bytes(65535),
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 3])
async def test_forged_messages_end_the_connection(damaged: bytes, cut: int) -> None:
    async with channel_to() as (_, recorder, there):
        there.send([sealed(b"good", 0) + damaged[:cut]])
        await settle()
        there.send([damaged[cut:] + sealed(b"never pushed", 1)])
        await settle()
        good, (lost, error) = recorder.told
        assert (good, lost) == (b"good", "lost")
        assert isinstance(error, RemoteProtocolError)
        assert f"message 1 of {KEY.peer_id}" in str(error)
        assert "failed authentication" in str(error)


@pytest.mark.parametrize("partial", [b"\x00", b"\x00\x11", sealed(b"cut off", 1)[:-1]])
async def test_end_within_a_message_is_a_truncation(partial: bytes) -> None:
    async with channel_to() as (_, recorder, there):
        there.send([sealed(b"whole", 0) + partial])
        closing = asyncio.ensure_future(there.close())
        await settle()
        whole, (lost, error) = recorder.told
        assert (whole, lost) == (b"whole", "lost")
        assert isinstance(error, RemoteProtocolError)
        assert "truncated" in str(error)
        await closing


async def test_end_between_messages() -> None:
    async with channel_to() as (channel, recorder, there):
        there.send([sealed(b"whole", 0)])
        closing = asyncio.ensure_future(there.close())
        await settle()
        assert recorder.told == [b"whole", "eof"]
        await channel.close()
        await closing
        assert recorder.told == [b"whole", "eof", ("lost", None)]


async def test_nothing_is_pushed_behind_an_abort() -> None:
    async with channel_to() as (channel, recorder, there):
        recorder.on_data = channel.abort
        there.send([sealed(b"first", 0) + sealed(b"second", 1)])
        await settle()
        assert [told for told in recorder.told if isinstance(told, bytes)] == [b"first"]
        assert len(recorder.told) == 2


async def test_error_of_the_sink_is_the_connections() -> None:
    broken = RemoteProtocolError("no such frame")

    def fail() -> None:
        raise broken

    async with channel_to() as (_, recorder, there):
        recorder.on_data = fail
        there.send([sealed(b"first", 0) + sealed(b"second", 1)])
        await settle()
        assert recorder.told == [b"first", ("lost", broken)]


async def test_last_nonce_is_used_and_none_behind_it() -> None:
    async with channel_to() as (channel, recorder, there):
        channel._sent = channel._received = MAX_MESSAGES - 1
        channel.send([b"last"])
        assert await there.readexactly(2 + 4 + 16)
        there.send([sealed(b"last", MAX_MESSAGES - 1) + sealed(b"one more", MAX_MESSAGES)])
        await settle()
        last, (_, error) = recorder.told
        assert last == b"last"
        assert isinstance(error, LimitExceeded)
    async with channel_to() as (channel, recorder, there):
        channel._sent = MAX_MESSAGES - 1
        channel.send([bytes(MAX_PLAINTEXT + 1)])
        await settle()
        [(_, error)] = recorder.told
        assert isinstance(error, LimitExceeded)


async def test_idle_channel_keeps_no_buffer() -> None:
    async with channel_to() as (channel, _, there):
        message = sealed(bytes(MAX_PLAINTEXT), 0)
        there.send([message[:40_000]])
        await settle()
        assert len(channel._partial) == 40_000
        there.send([message[40_000:]])
        await settle()
        assert channel._partial.__sizeof__() < 100
