"""TLS under any input: bytes split anywhere give the same plaintext, and garbage ends in a named error."""

from __future__ import annotations

import asyncio
import warnings
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from libp2p.errors import HandshakeError, RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.security.tls import Tls
from libp2p.security.tls.certificate import CLOCK_SKEW, make_certificate, verify_certificate
from libp2p.security.tls.channel import TlsChannel
from libp2p.security.tls.handshake import TlsHandshake, make_context
from libp2p.testing.conformance.one_end import end, received_in_pieces, split, wire_image
from libp2p.transports.memory.pipe import MemoryConnection, pipe

KEY = PrivateKey.generate()
CONTEXT = make_context(KEY)
TLS = Tls()
NOW = datetime(2026, 2, 3, tzinfo=UTC)
CERTIFICATE = make_certificate(KEY, now=NOW)[0].public_bytes(Encoding.DER)


def handshake(cuts: list[int]) -> tuple[SSL.Connection, SSL.Connection]:
    """Both ends of a finished one, the bytes of which came in pieces."""
    sides = [TlsHandshake(CONTEXT, is_dialer=is_dialer, expected_peer=None, muxers=()) for is_dialer in (True, False)]
    for sender, receiver in (sides, sides[::-1], sides):
        sender.proceed()
        for piece in split(sender.data_to_send(), cuts):
            receiver.receive(piece)
            receiver.proceed()
    return sides[0].connection, sides[1].connection


def channel_over(raw: MemoryConnection, tls: SSL.Connection) -> TlsChannel:
    channel = TlsChannel(raw, tls, local_peer=KEY.peer_id, remote_key=KEY.public_key, stream_muxer=None)
    channel.start()
    return channel


async def sent(tls: SSL.Connection, writes: list[bytes]) -> bytes:
    here, there = pipe(window=1 << 20)
    return await wire_image(channel_over(here, tls), there, writes)


plaintexts = st.lists(st.binary(max_size=40) | st.integers(15_000, 140_000).map(bytes), max_size=4)
splits = st.lists(st.integers(0, 2**32), max_size=12)


@settings(max_examples=60, deadline=None)
@given(plaintexts, splits)
async def test_any_split_gives_the_same_plaintext(writes: list[bytes], cuts: list[int]) -> None:
    ours, theirs = handshake(cuts)
    image = await sent(theirs, writes)
    here, there = pipe()
    assert await received_in_pieces(channel_over(here, ours), split(image, cuts)) == b"".join(writes)
    await end(here, there)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4), st.data())
async def test_byte_by_byte_and_damaged_anywhere(writes: list[bytes], data: st.DataObject) -> None:
    ours, theirs = handshake([])
    image = bytearray(await sent(theirs, writes))
    position = data.draw(st.integers(0, len(image) - 1))
    image[position] ^= data.draw(st.integers(1, 255))
    here, there = pipe()
    channel = channel_over(here, ours)
    sink = channel._sink
    try:
        for offset in range(len(image)):
            channel.data_received(memoryview(image)[offset : offset + 1])
        channel.eof_received()
    except RemoteProtocolError as error:
        channel.abort(error)
    await channel.close()
    received = sink.incoming  # type: ignore[attr-defined]
    assert isinstance(received._error, RemoteProtocolError), "the damage went unnoticed"
    assert b"".join(writes).startswith(received.take_all())
    await end(here, there)


garbage = st.binary(min_size=1, max_size=300) | st.builds(
    lambda kind, data: b"%c\x03\x03%b%b" % (kind, len(data).to_bytes(2, "big"), data),
    st.sampled_from([20, 21, 22, 23]),
    st.binary(max_size=300),
)


@settings(deadline=None)
@given(st.sampled_from(["dialer", "listener"]), garbage)
async def test_garbage_in_place_of_the_first_message(role: str, data: bytes) -> None:
    here, there = pipe()
    if role == "dialer":
        secured = TLS.secure_outbound(here, KEY, expected_peer=None, muxers=["/yamux/1.0.0"])
    else:
        secured = TLS.secure_inbound(here, KEY, muxers=["/yamux/1.0.0"])
    task = asyncio.ensure_future(secured)
    there.send([data])
    closing = asyncio.ensure_future(there.close())
    try:
        await task
        raise AssertionError("garbage made a channel")
    except (HandshakeError, OSError):
        pass
    await end(here, there)
    await closing


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, len(CERTIFICATE) - 1), st.integers(1, 255)), min_size=1, max_size=3),
    st.booleans(),
)
def test_a_certificate_damaged_anywhere_is_refused(damage: list[tuple[int, int]], cut: bool) -> None:
    damaged = bytearray(CERTIFICATE)
    for place, change in damage:
        damaged[place] ^= change
    if cut:
        del damaged[damage[0][0] :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what `cryptography` says of bad ones
        try:
            verify_certificate(bytes(damaged), now=NOW)
        except HandshakeError:
            return
    assert bytes(damaged) == CERTIFICATE, f"{damage} went unnoticed"


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_certificate_is_valid_in_its_time_only(now: datetime) -> None:
    certificate, _ = make_certificate(KEY, now=NOW, lifetime=timedelta(days=14))
    try:
        verify_certificate(certificate.public_bytes(Encoding.DER), now=now)
        valid = True
    except HandshakeError:
        valid = False
    assert valid == (NOW - CLOCK_SKEW <= now <= NOW + timedelta(days=14))
