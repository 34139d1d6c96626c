"""The opening handshake, on both sides (RFC 6455 section 4), read from the connection like a script.

    dialer                                        listener
      | -- GET / HTTP/1.1, Upgrade: websocket ------> |
      | <-- HTTP/1.1 101 Switching Protocols -------- |

The head of the request, or of the response, is read line by line up to the empty line at its end and no further, within
a limit of its size. What it says is judged by `websockets`.
"""

from __future__ import annotations

import logging

from websockets.client import ClientProtocol
from websockets.http11 import Request
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from ...connection import RawConnection
from ...errors import HandshakeError, IncompleteRead, MessageTooLarge
from .address import WsAddress

_logger = logging.getLogger("libp2p.transports.websocket.websockets")
"""What `websockets` says, in the tree of this package."""


async def request_upgrade(raw: RawConnection, address: WsAddress, *, host: str, max_head: int) -> Protocol:
    """The dialer's handshake over `raw`, with the server that is called `host`. Raises `HandshakeError`, and what
    reading `raw` raises.
    """
    uri = WebSocketURI(address.secure, host, address.target.port, address.path, "", None, None)
    protocol = ClientProtocol(uri, logger=_logger)
    protocol.send_request(protocol.connect())
    raw.send(protocol.data_to_send())
    status = await _read_head(raw, protocol, max_head)
    if protocol.state is not State.OPEN:
        raise _refusal(raw, protocol, f"it answered {status!r}")
    return protocol


async def answer_upgrade(raw: RawConnection, *, path: str, max_head: int) -> tuple[Protocol, Request]:
    """The listener's handshake over `raw`, for requests that ask for `path` ("/": any).

    Raises `HandshakeError` when the dialer has been sent an HTTP error, and what reading `raw` raises.
    """
    protocol = ServerProtocol(logger=_logger)
    await _read_head(raw, protocol, max_head)
    request = next(iter(protocol.events_received()), None)
    if isinstance(request, Request):
        if path in ("/", request.path.partition("?")[0]):
            protocol.send_response(protocol.accept(request))
        else:
            protocol.send_response(protocol.reject(404, f"Nothing at {request.path}.\n"))
    raw.send([data for data in protocol.data_to_send() if data])
    if protocol.state is not State.OPEN or not isinstance(request, Request):
        await raw.close()  # in order: the answer has to get there
        raise _refusal(raw, protocol, "it asks for a path that is not served")
    return protocol, request


async def _read_head(raw: RawConnection, protocol: Protocol, limit: int) -> str:
    """Give the head of the HTTP message to `protocol`, until it objects; return the first line."""
    first, left = b"", limit
    while protocol.handshake_exc is None:
        try:
            line = await raw.readuntil(b"\n", limit=left)
        except MessageTooLarge as error:
            raise HandshakeError(f"{raw.remote_addr} sent an HTTP head of more than {limit} bytes") from error
        except IncompleteRead as error:
            raise HandshakeError(f"{raw.remote_addr} ended the connection within the HTTP handshake") from error
        protocol.receive_data(line)
        first = first or line
        left -= len(line)
        if line == b"\r\n":
            break
    return first.strip().decode(errors="replace")


def _refusal(raw: RawConnection, protocol: Protocol, otherwise: str) -> HandshakeError:
    """What went wrong, with all the causes that `websockets` chains."""
    cause: BaseException | None = protocol.handshake_exc
    reasons = []
    while cause is not None:
        reasons.append(str(cause))
        cause = cause.__cause__
    error = HandshakeError(f"WebSocket with {raw.remote_addr}: {'; '.join(reasons) or otherwise}")
    error.__cause__ = protocol.handshake_exc
    return error
