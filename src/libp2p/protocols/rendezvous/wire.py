"""Messages of rendezvous as bytes, and what they say as values. Spec: rendezvous/README.md, "Protobuf".

Message   1 type   2 register   3 register_response   4 unregister   5 discover   6 discover_response
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from ...errors import RemoteProtocolError
from .rendezvous_pb2 import Message as MessagePb

_MAX_TEXT = 256
_MAX_REGISTRATIONS = 1000

REGISTER, REGISTER_RESPONSE, UNREGISTER, DISCOVER, DISCOVER_RESPONSE = range(5)


@dataclass(frozen=True, slots=True)
class Register:
    """ "I am in this namespace", or: this peer is. `record` is its signed peer record; `ttl` is in seconds."""

    namespace: str
    record: bytes
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """What came of a `Register`."""

    status: int
    ttl: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Unregister:
    """ "I am in this namespace no more"."""

    namespace: str


@dataclass(frozen=True, slots=True)
class Discover:
    """ "Who is in this namespace?" ("": in any), behind what the cookie stands for."""

    namespace: str
    limit: int | None = None
    cookie: bytes = b""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What came of a `Discover`."""

    status: int
    registrations: tuple[Register, ...] = ()
    cookie: bytes = b""
    text: str = ""


Message: TypeAlias = Register | Registered | Unregister | Discover | Discovered


def encode(message: Message) -> bytes:
    """The bytes of a message, without a length before them."""
    encoded = MessagePb()
    match message:
        case Register():
            encoded.type = REGISTER
            _fill(encoded.register, message)
        case Registered(status, ttl, text):
            encoded.type = REGISTER_RESPONSE
            encoded.register_response.CopyFrom(
                MessagePb.RegisterResponse(status=status, status_text=text.encode() or None, ttl=ttl or None)
            )
        case Unregister(namespace):
            encoded.type = UNREGISTER
            encoded.unregister.ns = namespace.encode()
        case Discover(namespace, limit, cookie):
            encoded.type = DISCOVER
            encoded.discover.CopyFrom(
                MessagePb.Discover(ns=namespace.encode() or None, limit=limit, cookie=cookie or None)
            )
        case Discovered(status, registrations, cookie, text):
            encoded.type = DISCOVER_RESPONSE
            encoded.discover_response.CopyFrom(
                MessagePb.DiscoverResponse(status=status, cookie=cookie or None, status_text=text.encode() or None)
            )
            for one in registrations:
                _fill(encoded.discover_response.registrations.add(), one)
    return encoded.SerializeToString(deterministic=True)


def decode(data: bytes) -> Message:
    """Read a message. Raises `RemoteProtocolError` where it is malformed."""
    message = MessagePb()
    try:
        message.ParseFromString(data)
        return _read(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"malformed rendezvous message: {error}") from error


def _fill(encoded: MessagePb.Register, message: Register) -> None:
    encoded.ns = message.namespace.encode()
    encoded.signed_peer_record = message.record
    if message.ttl is not None:
        encoded.ttl = message.ttl


def _read(message: MessagePb) -> Message:
    match message.type:
        case 0 if message.HasField("register"):
            return _register(message.register)
        case 1 if message.HasField("register_response"):
            answer = message.register_response
            return Registered(answer.status, answer.ttl, _text(answer.status_text))
        case 2 if message.HasField("unregister"):
            return Unregister(message.unregister.ns.decode())
        case 3 if message.HasField("discover"):
            request = message.discover
            return Discover(request.ns.decode(), request.limit or None, request.cookie)
        case 4 if message.HasField("discover_response"):
            found = message.discover_response
            registrations = tuple(_register(one) for one in found.registrations[:_MAX_REGISTRATIONS])
            return Discovered(found.status, registrations, found.cookie, _text(found.status_text))
    raise RemoteProtocolError(f"rendezvous message of the type {message.type} without what belongs to it")


def _register(encoded: MessagePb.Register) -> Register:
    ttl = encoded.ttl if encoded.HasField("ttl") else None
    return Register(encoded.ns.decode(), encoded.signed_peer_record, ttl)


def _text(encoded: bytes) -> str:
    return encoded[:_MAX_TEXT].decode(errors="replace")
