"""The data phase of TLS: a secure channel that is the sink of its raw connection.

    +------+---------+-----------------+---------------------------------------+
    | type | version | length, 2 bytes | ciphertext, with its tag of 16 bytes  |     of 16,384 bytes at most
    +------+---------+-----------------+---------------------------------------+

Rules:
- Bytes that arrive are decrypted and pushed on before `data_received` returns; OpenSSL keeps the beginning of a record
  that is not complete yet, and answers by itself what belongs to TLS (key updates; tickets, which are not used).
- What is sent in one call leaves in one call, in as few records as it fits.
- The end of the data is announced, by an alert called close_notify. Where the raw connection ends without it somebody
  may have cut it: that is an error, not an end.
- What OpenSSL answers by itself leaves at once; while nothing can be sent, nothing more is read that asks for answers.
  Records that bring no data (key updates, tickets, empty ones) are few beside those that do.
- AES-GCM is safe for so much under one key only, and OpenSSL's bindings have no call that would renew it: a connection
  ends there. (2^24.5 full records, RFC 8446, 5.5.)
- Nothing is pushed behind the end. A sink that pauses reading within `data_received` still gets the records that have
  arrived in the same receive buffer.
- Two calls of OpenSSL are made directly, behind pyOpenSSL's back: `SSL_read` and `BIO_read`, into memory of ours. Its
  own `recv` and `bio_read` copy twice and allocate each time, which takes as long as deciphering does. What goes wrong
  is left to pyOpenSSL to name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from ...connection import SMALL, TURN, RawConnection, SecureChannel
from ...errors import ConnectionClosed, HandshakeError, RemoteProtocolError
from ...identity import PeerId, PublicKey
from ...io import Buffer
from .handshake import BUFFER_SIZE, explain
from .records import RecordCounter

RECORD_SIZE = 16_384
"""Bytes that one record carries."""

RECORD_OVERHEAD = 22
"""Bytes of a record that are not plaintext: its header, the type, the tag."""

_BATCH = 4 * RECORD_SIZE
"""Bytes that are encrypted by one call of OpenSSL."""

MAX_USELESS_RECORDS = 32
"""Records without data that a peer may send; one more for each `_USEFUL` that bring some."""

_USEFUL = 64

MAX_SEALED = 1 << 38
"""Bytes that are encrypted with one key of AES-GCM."""

_SEALED_OVERHEAD = 64
"""Bytes that a record counts for beside its plaintext: what AES-GCM encrypts and hashes with it."""

_FEED = 8 * (RECORD_SIZE + RECORD_OVERHEAD)
"""Bytes that OpenSSL is given at once: it keeps as much memory for a connection that has received so many."""

_SMALL_FEED = TURN * (SMALL + RECORD_OVERHEAD)
"""The same, where the records are small: what is decrypted in one turn of the loop."""


class _Memory:
    """Where OpenSSL puts what it has decrypted or encrypted; used within one call only."""

    __slots__ = ("start", "view")

    def __init__(self) -> None:
        self.start: Any = ffi.new("char[]", BUFFER_SIZE)
        self.view = memoryview(ffi.buffer(self.start))


_spare: list[_Memory] = []
"""Memory that no channel uses right now. (A sink may bring another channel to use some while one pushes to it.)"""


class TlsChannel(SecureChannel):
    """An encrypted and authenticated connection to one proven peer. `connection` has its handshake behind it."""

    record_size = _BATCH

    def __init__(
        self,
        raw: RawConnection,
        connection: SSL.Connection,
        *,
        local_peer: PeerId,
        remote_key: PublicKey,
        stream_muxer: str | None,
        records: RecordCounter | None = None,
    ) -> None:
        super().__init__(
            raw, protocol="/tls/1.0.0", local_peer=local_peer, remote_key=remote_key, stream_muxer=stream_muxer
        )
        self._connection = connection
        self._heard = False  # whether the peer has sent anything since the handshake
        self._closing = False  # nothing more is sent
        self._peer_ended = False  # the peer has announced its end
        self._over = False  # nothing more is pushed
        self._records = records or RecordCounter()
        self._useful = 0  # records that brought data
        self._useless = 0  # and those that did not
        self._sealed = 0  # bytes that were encrypted
        self._blocked = False  # whether writing is paused
        self._feed = _FEED  # bytes that OpenSSL is given at once: fewer where the records are small

    def start(self) -> None:
        """Push what came together with the end of the handshake, then whatever arrives. Raises what
        `data_received` raises.
        """
        self._decrypt()
        self._useful = self._records.count  # those of the handshake are not counted
        self._raw.attach(self)

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self._closing:
            return
        group: list[Buffer] = []  # what is encrypted next
        room = _BATCH
        for buffer in buffers:
            size = len(buffer)
            if size <= room:
                group.append(buffer)
                room -= size
                continue
            view = memoryview(buffer)
            while len(view) > room:
                group.append(view[:room])
                self._encrypt(group)
                view, group, room = view[room:], [], _BATCH
            group.append(view)
            room -= len(view)
        if room < _BATCH:
            self._encrypt(group)

    def _encrypt(self, group: list[Buffer]) -> None:
        """Send what `group` holds, at most `_BATCH` bytes."""
        plaintext = group[0] if len(group) == 1 else b"".join(group)
        self._sealed += len(plaintext) + _SEALED_OVERHEAD
        if self._sealed > MAX_SEALED and not self._closing and "GCM" in (self._connection.get_cipher_name() or ""):
            self.abort(ConnectionClosed(f"tls: {MAX_SEALED} bytes were encrypted with one key: dial anew", by="local"))
        if not self._closing:
            self._connection.send(plaintext)
            self._flush()

    def _flush(self) -> bool:
        """Send what OpenSSL has to send; whether there was something."""
        sent = False
        memory = _spare.pop() if _spare else _Memory()
        while (count := lib.BIO_read(self._connection._from_ssl, memory.start, BUFFER_SIZE)) > 0:
            self._raw.send((memory.view[:count],))
            sent = True
            if count < BUFFER_SIZE:
                break
        _spare.append(memory)
        return sent

    def _take(self, data: memoryview) -> int:
        """Decrypt and push on. Raises `RemoteProtocolError` for a record that is forged or malformed, and for an alert;
        `HandshakeError` for an alert in place of the first record: a server judges the client's certificate when
        the client takes the handshake for done.
        """
        write = self._connection.bio_write
        start, end = 0, len(data)
        while start < end:
            piece = data[start : start + self._feed]
            before = self._records.count
            self._records.feed(piece)
            write(piece)
            self._decrypt()
            start += len(piece)
            are_small = self._records.count - before >= max(TURN, len(piece) // SMALL)
            self._feed = _SMALL_FEED if are_small else _FEED
            if are_small:
                break
        useless = self._records.count - self._useful
        if useless > self._useless:
            self._useless = useless
            self._answer()
        return start

    def _answer(self) -> None:
        """Send what OpenSSL may have answered to records without data, and see to it that these are few.

        The last answer it makes only with the next data that we send, or the next record that asks for one.
        """
        if self._closing or self._over or self._peer_ended:
            return
        if self._useless > MAX_USELESS_RECORDS + self._useful // _USEFUL:
            raise RemoteProtocolError(f"tls: {self.remote_peer} has sent {self._useless} records without data")
        if self._flush() and self._blocked and not self._stalled:
            self._stalled = True
            self.read_or_not()

    def _decrypt(self) -> None:
        """Push what OpenSSL can decrypt of what it was given."""
        connection = self._connection
        memory = _spare.pop() if _spare else _Memory()
        filled = 0
        while not self._over:
            count = lib.SSL_read(connection._ssl, memory.start + filled, RECORD_SIZE)
            if count <= 0:
                break
            self._useful += 1
            filled += count
            if filled > BUFFER_SIZE - RECORD_SIZE:
                self._push(memory.view[:filled])
                filled = 0
        if filled:
            self._push(memory.view[:filled])
        _spare.append(memory)
        if not (self._over or connection.want_read()):
            self._no_more(count)

    def _push(self, plaintext: memoryview) -> None:
        self._heard = True
        self._sink.data_received(plaintext)

    def _no_more(self, result: int) -> None:
        """`SSL_read` has failed, and not for want of bytes."""
        try:
            self._connection._raise_ssl_error(self._connection._ssl, result)
        except SSL.ZeroReturnError:
            self._peer_has_ended()
        except SSL.Error as error:
            # Beyond repair: tell the peer by the alert that OpenSSL has prepared, and us why.
            self._closing = self._over = True
            self._flush()
            kind = RemoteProtocolError if self._heard else HandshakeError
            raise kind(f"tls: {self.remote_peer}: {explain(error)}") from error

    def _peer_has_ended(self) -> None:
        if not self._peer_ended:
            self._peer_ended = True
            self._sink.eof_received()

    def pause_writing(self) -> None:
        self._blocked = True
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._stalled:
            self._stalled = False
            self.read_or_not()
        self._sink.resume_writing()

    def _ended(self) -> None:
        if not (self._peer_ended or self._over):
            self.abort(
                RemoteProtocolError(f"tls: truncated, {self.remote_peer} ended the connection without close_notify")
            )

    def _lost(self, error: Exception | None) -> None:
        self._closing = self._over = True
        self._sink.connection_lost(error)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._connection.shutdown()
            self._flush()
        try:
            await self._raw.close()
        except BaseException:  # cancelled, mostly: nobody will wait for the rest to be sent
            self.abort()
            raise

    def abort(self, error: Exception | None = None) -> None:
        self._closing = self._over = True
        super().abort(error)
