"""The data phase of TLS: records, tampering, the ends, memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from OpenSSL import SSL

from libp2p.errors import RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.security.tls import channel as channel_module
from libp2p.security.tls.certificate import make_certificate
from libp2p.security.tls.channel import RECORD_OVERHEAD, RECORD_SIZE, TlsChannel
from libp2p.security.tls.handshake import TlsHandshake, make_context
from libp2p.testing.conformance.one_end import Transcript, settle, transcribed
from libp2p.transports.memory.pipe import MemoryConnection, pipe

KEY = PrivateKey.generate()
CONTEXT = make_context(KEY)
FULL = RECORD_SIZE + RECORD_OVERHEAD


def handshake() -> tuple[SSL.Connection, SSL.Connection]:
    """Both ends of a finished one, dialer and listener."""
    sides = [TlsHandshake(CONTEXT, is_dialer=is_dialer, expected_peer=None, muxers=()) for is_dialer in (True, False)]
    for sender, receiver in (sides, sides[::-1], sides):
        sender.proceed()
        receiver.receive(sender.data_to_send())
    assert all(side.proceed() for side in sides)
    return sides[0].connection, sides[1].connection


def take(tls: SSL.Connection) -> bytes:
    try:
        return tls.bio_read(1 << 20)
    except SSL.WantReadError:
        return b""


def sealed(tls: SSL.Connection, *plaintexts: bytes) -> bytes:
    for plaintext in plaintexts:
        tls.send(plaintext)
    return take(tls)


@asynccontextmanager
async def channel_to() -> AsyncIterator[tuple[TlsChannel, Transcript, MemoryConnection, SSL.Connection]]:
    """A dialer's channel that pushes to a transcript, and the other end: its raw connection, and its half of TLS."""
    here, there = pipe(window=1 << 20, segment=1 << 20)
    ours, theirs = handshake()
    channel = TlsChannel(here, ours, local_peer=KEY.peer_id, remote_key=KEY.public_key, stream_muxer=None)
    channel.start()
    async with transcribed(channel, there, join=True) as recorder:
        yield channel, recorder, there, theirs


def record_sizes(wire: bytes) -> list[int]:
    sizes = []
    while wire:
        size = 5 + int.from_bytes(wire[3:5], "big")
        sizes.append(size - RECORD_OVERHEAD)
        wire = wire[size:]
    return sizes


@pytest.mark.parametrize(
    ("buffers", "sizes"),
    [
        ([b"steak"], [5]),
        ([b"steak", bytearray(b" recipes"), memoryview(b", please")], [21]),
        ([bytes(RECORD_SIZE)], [RECORD_SIZE]),
        ([bytes(12), bytes(RECORD_SIZE - 11)], [RECORD_SIZE, 1]),
        ([bytes(12), bytes(4 * RECORD_SIZE - 12)] * 2, [RECORD_SIZE] * 8),
        ([bytes(12), bytes(8 * RECORD_SIZE)], [RECORD_SIZE] * 8 + [12]),
        ([bytes(30_000)] * 5, [RECORD_SIZE] * 9 + [150_000 - 9 * RECORD_SIZE]),
        ([b""], []),
        ([], []),
    ],
)
async def test_what_is_sent_in_one_call_fills_records(buffers: list[bytes], sizes: list[int]) -> None:
    async with channel_to() as (channel, _, there, theirs):
        channel.send(buffers)
        await settle()
        wire = await there.read(1 << 20) if sizes else b""
        while len(wire) < sum(sizes) + RECORD_OVERHEAD * len(sizes):
            wire += await there.read(1 << 20)
        assert record_sizes(wire) == sizes
        theirs.bio_write(wire or b"\0")
        assert b"".join(theirs.recv(RECORD_SIZE) for _ in sizes) == b"".join(buffers)


async def test_records_are_pushed_in_order_and_large_pieces_whole() -> None:
    async with channel_to() as (_, recorder, there, theirs):
        data = bytes(range(256)) * 2000
        there.send([sealed(theirs, b"a", data, b"c")])
        await settle()
        assert recorder.told == [b"a" + data + b"c"]


@pytest.mark.parametrize("place", [0, 1, 3, 5, 20, FULL - 1])
async def test_forged_records_end_the_connection_and_the_peer_is_told(place: int) -> None:
    async with channel_to() as (channel, recorder, there, theirs):
        there.send([sealed(theirs, b"good")])
        await settle()
        damaged = bytearray(sealed(theirs, bytes(RECORD_SIZE), b"never pushed"))
        damaged[place] ^= 0x20
        there.send([damaged])
        await settle()
        good, (lost, error) = recorder.told
        assert (good, lost) == (b"good", "lost")
        assert isinstance(error, RemoteProtocolError)
        assert str(KEY.peer_id) in str(error)
        channel.send([b"nothing is sent behind it"])
        theirs.bio_write(await there.read(1000))
        with pytest.raises(SSL.Error, match="alert"):
            theirs.recv(1)


async def test_replayed_and_reordered_records_end_the_connection() -> None:
    for order in ((0, 0), (1, 0)):
        async with channel_to() as (_, recorder, there, theirs):
            records = [sealed(theirs, b"first"), sealed(theirs, b"second")]
            there.send([records[index] for index in order])
            await settle()
            assert isinstance(recorder.told[-1][1], RemoteProtocolError)
            assert recorder.told[:-1] == [b"first"][: 1 - order[0]]


@pytest.mark.parametrize("partial", [0, 1, 5, 20])
async def test_an_end_that_is_not_announced_is_a_truncation(partial: int) -> None:
    async with channel_to() as (_, recorder, there, theirs):
        there.send([sealed(theirs, b"whole") + sealed(theirs, b"cut off")[:partial]])
        closing = asyncio.ensure_future(there.close())
        await settle()
        whole, (lost, error) = recorder.told
        assert (whole, lost) == (b"whole", "lost")
        assert isinstance(error, RemoteProtocolError)
        assert "without close_notify" in str(error)
        await closing


async def test_an_announced_end_is_told_at_once_and_the_other_direction_goes_on() -> None:
    async with channel_to() as (channel, recorder, there, theirs):
        theirs.send(b"all")
        theirs.shutdown()
        there.send([take(theirs), sealed_garbage := b"\x17\x03\x03\x00\x20" + bytes(32)])
        await settle()
        assert recorder.told == [b"all", "eof"]
        channel.send([b"go on"])
        theirs.bio_write(await there.read(1000))
        assert theirs.recv(100) == b"go on"
        there.send([sealed_garbage])
        closing = asyncio.ensure_future(there.close())
        await settle()
        await channel.close()
        assert recorder.told == [b"all", "eof", ("lost", None)]
        await closing


async def test_close_announces_the_end_once() -> None:
    async with channel_to() as (channel, recorder, there, theirs):
        channel.send([b"bye"])
        closing = asyncio.gather(channel.close(), channel.close())
        await asyncio.sleep(0)
        channel.send([b"nothing is sent behind it"])
        theirs.bio_write(await there.read())
        assert theirs.recv(100) == b"bye"
        with pytest.raises(SSL.ZeroReturnError):
            theirs.recv(100)
        await there.close()
        await closing
        assert recorder.told == [("lost", None)]


async def test_tickets_of_the_peer_are_ignored() -> None:
    here, there = pipe()
    side = TlsHandshake(CONTEXT, is_dialer=True, expected_peer=None, muxers=())
    context = SSL.Context(SSL.TLS_METHOD)  # which sends two tickets
    certificate, key = make_certificate(KEY, now=datetime.now(UTC))
    context.use_certificate(certificate)
    context.use_privatekey(key)
    peer = SSL.Connection(context, None)
    peer.set_accept_state()
    side.proceed()
    peer.bio_write(side.data_to_send())
    with pytest.raises(SSL.WantReadError):
        peer.do_handshake()
    side.receive(take(peer))
    assert side.proceed()
    peer.bio_write(side.data_to_send())
    peer.do_handshake()
    tickets = take(peer)
    assert len(tickets) > 300
    channel = TlsChannel(here, side.connection, local_peer=KEY.peer_id, remote_key=side.remote_key, stream_muxer=None)
    channel.start()
    async with transcribed(channel, there) as recorder:
        there.send([tickets[:50], tickets[50:] + sealed(peer, b"data")])
        await settle()
        assert recorder.told == [b"data"]


async def test_nothing_is_pushed_behind_an_abort() -> None:
    async with channel_to() as (channel, recorder, there, theirs):
        recorder.on_data = channel.abort
        there.send([sealed(theirs, *[bytes(RECORD_SIZE)] * 20)])
        await settle()
        data, (lost, _) = recorder.told
        assert isinstance(data, bytes)
        assert 0 < len(data) < 20 * RECORD_SIZE
        assert lost == "lost"


async def test_a_sink_may_drive_other_channels() -> None:
    async with channel_to() as (one, outer, there, theirs), channel_to() as (_, inner, inner_there, inner_theirs):
        pieces: list[tuple[bytes, bytes]] = []

        def nested(data: memoryview) -> None:
            before = bytes(data)
            inner_there._peer._sink.data_received(memoryview(sealed(inner_theirs, b"\xff" * 40_000)))
            pieces.append((before, bytes(data)))

        outer.data_received = nested  # type: ignore[method-assign]
        there.send([sealed(theirs, bytes(200_000))])
        await settle()
        assert pieces
        assert all(before == after for before, after in pieces)
        assert sum(len(before) for before, _ in pieces) == 200_000
        assert inner.told == [b"\xff" * 40_000 * len(pieces)]
        one.abort()
        assert len(channel_module._spare) <= 4


async def test_small_records_wait_for_their_turns() -> None:
    async with channel_to() as (_, told, there, theirs):
        there.send([sealed(theirs, *[b"x"] * 20_000)])
        turns = 0
        while not told.told or len(told.told[0]) < 20_000:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 20_000 // 1024
        there.send([sealed(theirs, bytes(4 * RECORD_SIZE))])
        await settle()
        assert len(told.told[0]) == 20_000 + 4 * RECORD_SIZE
