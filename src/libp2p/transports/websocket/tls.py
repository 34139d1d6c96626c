"""TLS on a raw connection, by the standard library's `ssl`: the outer layer of `/tls/ws`, as every web server has it.

The certificate is for the host's name, and proves nothing about the peer id; that is for the libp2p handshake within.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress

from ...connection import LayeredConnection, RawConnection
from ...errors import HandshakeError, RemoteProtocolError
from ...io import Buffer

_CHUNK = 64 * 1024


async def start_tls(
    raw: RawConnection, context: ssl.SSLContext, *, server_name: str | None, memory: memoryview
) -> TlsConnection:
    """Run the handshake over `raw`: as the client of `server_name`, or, with None, as the server.

    `memory` may be shared by all connections of a loop. Raises `HandshakeError`, and what reading `raw` raises.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls = context.wrap_bio(incoming, outgoing, server_side=server_name is None, server_hostname=server_name)
    except ValueError as error:
        raise HandshakeError(f"TLS with {raw.remote_addr}: {server_name!r} is no server name: {error}") from error
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            _send_pending(raw, outgoing)  # the alert
            raise HandshakeError(f"TLS with {raw.remote_addr}: {_text(error)}") from error
        else:
            break
        _send_pending(raw, outgoing)
        data = await raw.read(_CHUNK)
        if not data:
            raise HandshakeError(f"TLS with {raw.remote_addr}: the peer ended the connection within the handshake")
        incoming.write(data)
    _send_pending(raw, outgoing)
    return TlsConnection(raw, tls, incoming, outgoing, memory)


class TlsConnection(LayeredConnection):
    """A raw connection after the TLS handshake. Made by `start_tls`.

    The end of the connection is passed on whether or not the peer announced it within TLS: WebSocket has its own way.
    """

    record_size = 16 * 1024

    def __init__(
        self,
        raw: RawConnection,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        memory: memoryview,
    ) -> None:
        super().__init__(raw)
        self._tls = tls
        self._in = incoming
        self._out = outgoing
        self._memory = memory
        self._closing = False
        self._ended = False  # the sink knows
        self._deliver()  # what came in one piece with the end of the handshake
        raw.attach(self)

    # RawConnection

    def send(self, buffers: Sequence[Buffer]) -> None:
        if self._closing:
            return
        try:
            for buffer in buffers:
                if buffer:
                    self._tls.write(buffer)
                    _send_pending(self._raw, self._out)
        except ssl.SSLError as error:
            self.abort(RemoteProtocolError(f"TLS: {_text(error)}"))

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            with suppress(ssl.SSLError):  # it wants the peer's answer, for which nobody waits
                self._tls.unwrap()
            _send_pending(self._raw, self._out)
        await self._raw.close()

    def abort(self, error: Exception | None = None) -> None:
        self._closing = True
        self._raw.abort(error)

    # The sink of the connection below

    def data_received(self, data: memoryview) -> None:
        """Decrypt and push on. Raises `RemoteProtocolError`."""
        if not self._closing:
            self._in.write(data)
            self._deliver()

    def _deliver(self) -> None:
        memory, size = self._memory, len(self._memory)
        filled, ended = size, False
        while filled == size and not ended:
            filled = 0
            try:
                while filled < size and not ended:
                    n: int = self._tls.read(size - filled, memory[filled:])  # type: ignore[assignment]
                    filled += n
                    ended = not n
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                _send_pending(self._raw, self._out)
                raise RemoteProtocolError(f"TLS: {_text(error)}") from error
            if filled and not self._closing:
                self._sink.data_received(memory[:filled])
        _send_pending(self._raw, self._out)
        if ended:
            self.eof_received()

    def eof_received(self) -> None:
        if not self._ended and not self._closing:
            self._ended = True
            self._sink.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._sink.connection_lost(error)


def _send_pending(raw: RawConnection, outgoing: ssl.MemoryBIO) -> None:
    if outgoing.pending:
        raw.send((outgoing.read(),))


def _text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {error.verify_message}"
    return error.reason or str(error)
