"""The keys of TLS's data phase: a peer that renews them all the time, and how much is encrypted with one of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from libp2p.errors import ConnectionClosed, RemoteProtocolError
from libp2p.identity import PrivateKey
from libp2p.security.tls import channel as channel_module
from libp2p.security.tls.channel import MAX_USELESS_RECORDS, RECORD_OVERHEAD, TlsChannel
from libp2p.security.tls.handshake import TlsHandshake, make_context
from libp2p.security.tls.records import RecordCounter
from libp2p.testing.conformance.one_end import Transcript, settle, split, transcribed
from libp2p.transports.memory.pipe import MemoryConnection, pipe

KEY = PrivateKey.generate()
DATA, HANDSHAKE = 23, 22
ANSWER = 5 + RECORD_OVERHEAD  # bytes of a KeyUpdate
UPDATE_REQUESTED, UPDATE = b"\x18\0\0\1\1", b"\x18\0\0\1\0"


class Sealer:
    """The dialer's records, from the secret of its half of the connection (RFC 8446, 5.2 and 7.2)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._number = 0

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
        return HKDFExpand(SHA256(), size, info).derive(self._secret)

    def record(self, kind: int, content: bytes) -> bytes:
        plain = content + bytes((kind,))
        header = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        nonce = int.from_bytes(self._expand(b"iv", 12), "big") ^ self._number
        self._number += 1
        return header + AESGCM(self._expand(b"key", 16)).encrypt(nonce.to_bytes(12, "big"), plain, header)

    def update(self, message: bytes = UPDATE_REQUESTED) -> bytes:
        sealed = self.record(HANDSHAKE, message)
        self._secret, self._number = self._expand(b"traffic upd", 32), 0
        return sealed


@asynccontextmanager
async def listener(
    suite: bytes = b"TLS_AES_128_GCM_SHA256",
) -> AsyncIterator[tuple[TlsChannel, Transcript, MemoryConnection, Sealer]]:
    """A listener's channel, and the other end: its raw connection, and what seals its records."""
    context = make_context(KEY)
    context.set_tls13_ciphersuites(suite)
    secrets: list[bytes] = []
    context.set_keylog_callback(lambda _, line: secrets.append(line))
    sides = [TlsHandshake(context, is_dialer=is_dialer, expected_peer=None, muxers=()) for is_dialer in (True, False)]
    for sender, receiver in (sides, sides[::-1], sides):
        sender.proceed()
        receiver.receive(sender.data_to_send())
    assert sides[1].proceed()
    sides[1].data_to_send()  # its tickets
    secret = next(line.split()[2] for line in secrets if line.startswith(b"CLIENT_TRAFFIC_SECRET_0"))
    here, there = pipe(window=1 << 20)
    channel = TlsChannel(
        here,
        sides[1].connection,
        local_peer=KEY.peer_id,
        remote_key=sides[1].remote_key,
        stream_muxer=None,
        records=sides[1].records,
    )
    channel.start()
    async with transcribed(channel, there, join=True) as recorder:
        yield channel, recorder, there, Sealer(bytes.fromhex(secret.decode()))


async def test_answers_to_key_updates_do_not_pile_up() -> None:
    """OpenSSL makes an answer when the next update comes, or with our own data."""
    async with listener() as (channel, recorder, there, sealer):
        there.send([sealer.update()])
        for _ in range(10):
            there.send([sealer.update()])
            await settle()
            assert len(await there.read(1000)) == ANSWER
        channel.send([b"x"])
        assert len(await there.read(1000)) == ANSWER + RECORD_OVERHEAD + 1
        there.send([sealer.record(DATA, b"data")])
        await settle()
        assert recorder.told == [b"data"]


@pytest.mark.parametrize("message", [UPDATE_REQUESTED, UPDATE])
@pytest.mark.parametrize("at_once", [True, False])
async def test_key_updates_without_data_are_limited(message: bytes, at_once: bool) -> None:
    async with listener() as (_, recorder, there, sealer):
        allowed = [sealer.update(message) for _ in range(MAX_USELESS_RECORDS)]
        there.send([b"".join(allowed)] if at_once else allowed)
        await settle()
        assert recorder.told == []
        there.send([sealer.update(message)])
        await settle()
        ((lost, error),) = recorder.told
        assert lost == "lost"
        assert isinstance(error, RemoteProtocolError)
        assert f"{MAX_USELESS_RECORDS + 1} records without data" in str(error)


async def test_key_updates_beside_data_are_not() -> None:
    async with listener() as (_, recorder, there, sealer):
        for _ in range(MAX_USELESS_RECORDS * 3):
            there.send([sealer.record(DATA, b"x") for _ in range(64)] + [sealer.update()])
            await settle()
        assert len(await there.read(5000)) == (MAX_USELESS_RECORDS * 3 - 1) * ANSWER
        assert all(isinstance(told, bytes) for told in recorder.told)


async def test_no_more_answers_are_made_than_can_be_sent() -> None:
    async with listener() as (channel, recorder, there, sealer):
        channel.pause_writing()
        there.send([sealer.update(), sealer.update()])
        await settle()
        there.send([sealer.update(), sealer.record(DATA, b"later")])
        await settle()
        assert recorder.told == ["pause"]
        channel.resume_reading()  # the sink has its own reasons to
        await settle()
        assert recorder.told == ["pause"]
        channel.resume_writing()
        await settle()
        assert recorder.told == ["pause", "resume", b"later"]


async def test_data_is_read_while_writing_is_paused() -> None:
    """Two peers that both wait for the other one to read would wait for ever."""
    async with listener() as (channel, recorder, there, sealer):
        channel.pause_writing()
        there.send([sealer.record(DATA, b"data")])
        await settle()
        assert recorder.told == ["pause", b"data"]


async def test_a_connection_ends_before_one_key_of_aes_is_worn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_SEALED", 100_000)
    async with listener() as (channel, recorder, *_):
        channel.send([bytes(65_536)])
        await settle()
        assert recorder.told == []
        channel.send([bytes(65_536)])
        await settle()
        ((lost, error),) = recorder.told
        assert lost == "lost"
        assert isinstance(error, ConnectionClosed)
        assert "100000 bytes were encrypted with one key" in str(error)


async def test_chacha20_is_not_worn_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_SEALED", 1000)
    async with listener(b"TLS_CHACHA20_POLY1305_SHA256") as (channel, recorder, *_):
        channel.send([bytes(65_536)] * 3)
        await settle()
        assert recorder.told == []


@given(st.lists(st.integers(0, 40), max_size=20), st.lists(st.integers(0, 2**32), max_size=12))
def test_records_are_counted_wherever_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    stream = b"".join(b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size) for size in sizes)
    counter = RecordCounter()
    for piece in split(stream + b"\x17\x03", cuts):
        counter.feed(memoryview(piece))
    assert counter.count == len(sizes)
