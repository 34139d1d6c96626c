"""HTTP/1.1 on a libp2p stream: h11 turns bytes into requests and responses, the stream carries them.

The specs (http/README.md) give it the id `/http/1.1`. Here several requests follow one another on the stream, the last
one with `Connection: close`. Responses carry the hash of their body (RFC 9530):

    GET /ribeye HTTP/1.1\r\n                     HTTP/1.1 200 \r\n
    Host: <peer id>\r\n                          Content-Type: text/html; charset=utf-8\r\n
    \r\n                                         Content-Length: 425\r\n
                                                 Repr-Digest: sha-256=:<base64>:\r\n
                                                 \r\n
                                                 <!doctype html>...
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from ...connection import Stream
from ...errors import MessageTooLarge, RemoteProtocolError

HTTP = "/http/1.1"

_BODY_LIMIT = 1 << 20
"""Bytes of a request's or response's body that are taken."""

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def intact(self) -> bool:
        """Whether the body has the hash that the server gave for it."""
        return self.headers.get(b"repr-digest") == _digest(self.body)


class HttpClient:
    """Requests, one after the other, on one stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def get(self, path: str, *, last: bool = False) -> Response:
        """The page at `path`. Raises `RemoteProtocolError` where the answer is no HTTP."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        host = str(self._stream.connection.remote_peer)
        headers = [("Host", host), *([("Connection", "close")] if last else [])]
        request = self._http.send(h11.Request(method="GET", target=path, headers=headers)) or b""
        await self._stream.write(request + (self._http.send(h11.EndOfMessage()) or b""))
        response = await _next_event(self._stream, self._http)
        if not isinstance(response, h11.Response):
            raise RemoteProtocolError(f"expected the head of an HTTP response, got {response!r}")
        body = await _read_body(self._stream, self._http)
        return Response(response.status_code, dict(response.headers), body)


async def serve_http(stream: Stream, pages: Mapping[str, bytes]) -> list[str]:
    """Answer requests for `pages` until the client is done; return the paths asked for, in order."""
    http = h11.Connection(h11.SERVER)
    served: list[str] = []
    while isinstance(request := await _next_event(stream, http), h11.Request):
        await _read_body(stream, http)
        path = request.target.decode("ascii")
        served.append(path)
        if request.method != b"GET":
            status, body = 405, b"only GET is served here\n"
        else:
            status, body = (200, pages[path]) if path in pages else (404, b"no such recipe\n")
        headers = [
            (b"Content-Type", b"text/html; charset=utf-8" if status == 200 else b"text/plain"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Repr-Digest", _digest(body)),
        ]
        events = [h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        await stream.write(b"".join(http.send(event) or b"" for event in events))
        if http.our_state is not h11.DONE:
            break
        http.start_next_cycle()
    return served


async def _next_event(stream: Stream, http: h11.Connection) -> object:
    """What the peer sent next."""
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await stream.read(_CHUNK))
    except h11.RemoteProtocolError as error:
        raise RemoteProtocolError(f"HTTP: {error}") from error
    return event


async def _read_body(stream: Stream, http: h11.Connection) -> bytes:
    body = bytearray()
    while isinstance(event := await _next_event(stream, http), h11.Data):
        body += event.data
        if len(body) > _BODY_LIMIT:
            raise MessageTooLarge("HTTP body", limit=_BODY_LIMIT)
    return bytes(body)


def _digest(body: bytes) -> bytes:
    """RFC 9530: the hash as a structured field's byte sequence."""
    return b"sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()) + b":"
