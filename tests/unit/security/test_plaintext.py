"""The plaintext exchange: what is sent, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libp2p.connection import RawConnection
from libp2p.errors import HandshakeError, PeerIdMismatch
from libp2p.identity import PrivateKey
from libp2p.security.plaintext import MAX_EXCHANGE, InsecurePlaintext
from libp2p.transports.memory import MemoryConnection, pipe
from libp2p.varint import encode_varint

US = PrivateKey.from_protobuf(
    bytes.fromhex("08011240" + "01" * 32 + "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c")
)
THEM, OTHER = PrivateKey.generate(), PrivateKey.generate()
KEY, ID = THEM.public_key.to_protobuf(), THEM.peer_id.to_bytes()


def field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + encode_varint(len(value)) + value


def framed(message: bytes) -> bytes:
    return encode_varint(len(message)) + message


@asynccontextmanager
async def raw_pair() -> AsyncIterator[tuple[MemoryConnection, MemoryConnection]]:
    ends = pipe()
    try:
        yield ends
    finally:
        for raw in ends:
            raw.abort()
            await raw.close()


async def secure(raw: RawConnection, *, outbound: bool) -> None:
    protocol = InsecurePlaintext()
    if outbound:
        await protocol.secure_outbound(raw, US, expected_peer=THEM.peer_id, muxers=())
    else:
        await protocol.secure_inbound(raw, US, muxers=())


async def test_the_bytes_on_the_wire() -> None:
    """id: the multihash; pubkey: an embedded message of the key's type and bytes."""
    async with raw_pair() as (left, right):
        exchange = asyncio.ensure_future(secure(left, outbound=False))
        public = "08011220" + "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
        expected = bytes.fromhex("4e" + "0a260024" + public + "1224" + public)
        assert await right.readexactly(len(expected)) == expected
        await right.write(framed(field(1, ID) + field(2, KEY)))
        await exchange


async def test_what_follows_the_exchange_belongs_to_the_channel() -> None:
    async with raw_pair() as (left, right):
        await right.write(framed(field(1, ID) + field(2, KEY)) + b"and more")
        channel = await InsecurePlaintext().secure_inbound(left, US, muxers=())
        assert channel.remote_peer == THEM.peer_id
        assert await channel.readexactly(8) == b"and more"


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (framed(field(1, OTHER.peer_id.to_bytes()) + field(2, KEY)), "is not that of the key"),
        (framed(field(2, KEY)), "is not that of the key"),
        (framed(field(1, ID)), "public key"),
        (framed(field(1, ID) + field(2, KEY[:-1])), "public key"),
        (framed(b""), "public key"),
        (framed(b"\xff\xff"), "malformed"),
        (encode_varint(MAX_EXCHANGE + 1), f"{MAX_EXCHANGE + 1} bytes, the limit is {MAX_EXCHANGE}"),
        (framed(field(1, ID) + field(2, KEY))[:-1], "the stream ended after"),
    ],
    ids=["another id", "no id", "no key", "a part of a key", "nothing", "no message", "too much", "truncated"],
)
async def test_a_claim_that_does_not_fit_is_refused(sent: bytes, reason: str, outbound: bool) -> None:
    async with raw_pair() as (left, right):
        await right.write(sent)
        closing = asyncio.ensure_future(right.close())
        with pytest.raises(HandshakeError, match=reason):
            await secure(left, outbound=outbound)
        left.abort()
        await closing


async def test_somebody_else_than_dialed_is_refused() -> None:
    async with raw_pair() as (left, right):
        await right.write(framed(field(1, OTHER.peer_id.to_bytes()) + field(2, OTHER.public_key.to_protobuf())))
        with pytest.raises(PeerIdMismatch) as caught:
            await secure(left, outbound=True)
        assert (caught.value.expected, caught.value.actual) == (THEM.peer_id, OTHER.peer_id)
