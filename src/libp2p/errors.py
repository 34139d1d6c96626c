"""Every error that this package raises by design.

    Libp2pError
    ├── InvalidInput (ValueError)         malformed text or bytes, before any network is touched
    │   ├── InvalidVarint
    │   ├── InvalidMultiaddr
    │   ├── InvalidPeerId
    │   ├── InvalidKey                    malformed, unsupported or too weak
    │   ├── InvalidCid                    text or bytes that are no CID, or no multihash
    │   └── InvalidRecord                 envelope, peer or DHT record: malformed, forged or for another peer
    ├── ResolveError                      a /dns* name could not be turned into addresses
    ├── LocalProtocolError                the caller did what the protocol or the object's state forbids
    │   ├── StreamClosed                  writing behind close_write(), reading behind close()
    │   └── BusyResource                  two tasks read one stream at once
    ├── RemoteProtocolError               the peer broke the protocol
    │   ├── MessageTooLarge               its length prefix or its line is above our limit
    │   ├── IncompleteRead (EOFError)     it ended the stream in the middle of a message
    │   └── HandshakeError                the secure channel could not be agreed
    │       └── PeerIdMismatch            it is somebody else than the one dialed
    ├── ProtocolNotSupported              it supports none of the protocols offered
    ├── LimitExceeded                     a documented limit of ours: name, scope, value
    ├── StageTimeout (TimeoutError)       a stage of the connection's set-up took too long
    ├── RequestFailed                     the other side answered a request with an error: its type and text
    ├── ConnectionClosed                  the connection is gone; says why, and who closed it
    ├── StreamReset                       the stream was reset; code, and by whom
    ├── LimitedConnection                 only a relay leads to the peer, and the caller did not allow that
    ├── DialError                         no address led to the peer; holds the error of each
    ├── RoutingError                      no peer, provider or value was found, or nobody took what was to be stored
    └── ListenError                       an address could not be listened on

Where another implementation's error is the cause it is chained (`__cause__`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from .error_codes import code_text
from .ground_errors import (
    InvalidCid,
    InvalidInput,
    InvalidKey,
    InvalidMultiaddr,
    InvalidPeerId,
    InvalidRecord,
    InvalidVarint,
    Libp2pError,
    ResolveError,
)
from .identity import PeerId
from .multiaddr import Multiaddr

__all__ = [
    "BusyResource",
    "By",
    "ConnectionClosed",
    "DialError",
    "HandshakeError",
    "IncompleteRead",
    "InvalidCid",
    "InvalidInput",
    "InvalidKey",
    "InvalidMultiaddr",
    "InvalidPeerId",
    "InvalidRecord",
    "InvalidVarint",
    "Libp2pError",
    "LimitExceeded",
    "ListenError",
    "LocalProtocolError",
    "MessageTooLarge",
    "PeerIdMismatch",
    "ProtocolNotSupported",
    "RemoteProtocolError",
    "RequestFailed",
    "ResolveError",
    "RoutingError",
    "StageTimeout",
    "StreamClosed",
    "StreamReset",
    "copy_of",
]

By = Literal["local", "remote"]
"""Who did it: this side or the peer."""

E = TypeVar("E", bound=Exception)


def copy_of(error: E) -> E:
    """An error equal to `error`, as an object of its own: each task that waits gets one, so that the traceback and the
    notes of one are not those of the others, and none keeps their frames alive.
    """
    kind = type(error)
    copy = kind.__new__(kind, *error.args)
    copy.args = error.args  # which `OSError` reads in `__init__` only
    copy.__dict__.update(error.__dict__)
    copy.__dict__.pop("__notes__", None)
    copy.__cause__ = error.__cause__
    return copy


class LocalProtocolError(Libp2pError):
    """The caller asked for what the protocol, or the present state, does not allow."""


class StreamClosed(LocalProtocolError):
    """Written to behind `close_write()`, or read from behind `close()`."""


class BusyResource(LocalProtocolError):
    """Another task is already waiting for what only one can have: the bytes of a stream, the next event."""


class RemoteProtocolError(Libp2pError):
    """The peer sent what the protocol does not allow."""


class MessageTooLarge(RemoteProtocolError):
    """A message is larger than the limit for it. `size` is None where only "more than the limit" is known."""

    def __init__(self, what: str, *, limit: int, size: int | None = None) -> None:
        super().__init__(f"{what}: {f'{size} bytes' if size is not None else 'more'}, the limit is {limit} bytes")
        self.limit = limit
        self.size = size


class IncompleteRead(RemoteProtocolError, EOFError):
    """The stream ended before as much arrived as was asked for. `partial` holds what did arrive."""

    def __init__(self, partial: bytes, expected: int | None) -> None:
        wanted = f"{expected} bytes" if expected is not None else "the separator"
        super().__init__(f"the stream ended after {len(partial)} bytes, before {wanted}")
        self.partial = partial
        self.expected = expected


class HandshakeError(RemoteProtocolError):
    """The secure channel could not be agreed: bad message, bad signature, failed decryption."""


class PeerIdMismatch(HandshakeError):
    """The peer proved to be somebody else than the one who was dialed."""

    def __init__(self, *, expected: PeerId, actual: PeerId) -> None:
        super().__init__(f"dialed {expected}, but {actual} answered")
        self.expected = expected
        self.actual = actual


class ProtocolNotSupported(Libp2pError):
    """The peer supports none of the protocols that were offered."""

    def __init__(self, offered: Sequence[str], *, peer: PeerId | None = None) -> None:
        super().__init__(f"{peer or 'the peer'} supports none of: {', '.join(offered)}")
        self.offered = tuple(offered)
        self.peer = peer


class LimitExceeded(Libp2pError):
    """A limit of ours was reached: its name, what it applies to, and its value."""

    def __init__(self, limit: str, *, scope: str, value: float) -> None:
        super().__init__(f"{limit} of {value:g} reached for {scope}")
        self.limit = limit
        self.scope = scope
        self.value = value


class Gated(Libp2pError):
    """A rule of ours forbids to talk to a peer, or at an address."""


class StageTimeout(Libp2pError, TimeoutError):
    """A stage of a connection's or stream's set-up took longer than its limit, in seconds."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(f"{stage} took more than {seconds:g} s")
        self.stage = stage
        self.seconds = seconds


class ConnectionClosed(Libp2pError, ConnectionError):
    """The connection is closed. `code` is the muxer's or transport's close code, None where none was given."""

    def __init__(self, reason: str, *, by: By, code: int | None = None) -> None:
        told = f", code {code_text(code)}" if code else ""
        super().__init__(f"connection closed by {'us' if by == 'local' else 'the peer'}: {reason}{told}")
        self.reason = reason
        self.by: By = by
        self.code = code


class StreamReset(Libp2pError):
    """The stream was reset. `code` is the application's error code (0: none given)."""

    def __init__(self, code: int = 0, *, by: By, reason: str = "") -> None:
        who = "us" if by == "local" else "the peer"
        told = f", code {code_text(code)}" if code else ""
        super().__init__(f"stream reset by {who}{told}{f': {reason}' if reason else ''}")
        self.code = code
        self.by: By = by
        self.reason = reason


class RequestFailed(Libp2pError):
    """The other side answered a request with an error. `kind` is its type, `text` what it says. A responder that raises
    it chooses both.
    """

    def __init__(self, kind: str, text: str = "", *, peer: PeerId | None = None) -> None:
        super().__init__(f"{peer or 'the responder'} answered with {kind}{f': {text}' if text else ''}")
        self.kind = kind
        self.text = text
        self.peer = peer


class LimitedConnection(Libp2pError):
    """The only connection to the peer goes through a relay that bounds its time and bytes, and the caller did not allow
    it.
    """

    def __init__(self, peer: PeerId) -> None:
        super().__init__(f"the only connection to {peer} is a limited one, through a relay: allow it, or wait")
        self.peer = peer


class DialError(Libp2pError, OSError):
    """No connection to the peer could be made. `attempts` maps each address that was tried to its error."""

    def __init__(self, peer: PeerId | None, attempts: Mapping[Multiaddr, Exception], *, reason: str = "") -> None:
        lines = [f"{address}: {error!r}" for address, error in attempts.items()]
        summary = reason or ("no address worked" if attempts else "no addresses known")
        super().__init__("\n  ".join([f"cannot dial {peer or 'the peer'}: {summary}", *lines]))
        self.peer = peer
        self.attempts = dict(attempts)


class ListenError(Libp2pError, OSError):
    """The address cannot be listened on; the cause is chained."""

    def __init__(self, address: Multiaddr, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address


class RoutingError(Libp2pError):
    """A router found no peer, provider or value, or nobody took what was to be stored; says why as far as is known."""
