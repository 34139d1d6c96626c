"""Messages of DCUtR as bytes, and what they say as values. Spec: relay/DCUtR.md, "RPC messages".

HolePunch   1 type (CONNECT 100, SYNC 300)   2 ObsAddrs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from ...errors import InvalidMultiaddr, RemoteProtocolError
from ...multiaddr import Multiaddr
from .dcutr_pb2 import HolePunch

PROTOCOL_ID = "/libp2p/dcutr"

MAX_MESSAGE = 4096
"""Bytes of a message."""

_CONNECT, _SYNC = 100, 300


@dataclass(frozen=True, slots=True)
class Connect:
    """ "I may be reached at these addresses"."""

    addrs: tuple[Multiaddr, ...] = ()


@dataclass(frozen=True, slots=True)
class Sync:
    """ "Now"."""


Message: TypeAlias = Connect | Sync


def encode(message: Message) -> bytes:
    """The bytes of a message, without a length before them."""
    match message:
        case Connect(addrs):
            encoded = HolePunch(type=_CONNECT, ObsAddrs=[addr.to_bytes() for addr in addrs])
        case Sync():
            encoded = HolePunch(type=_SYNC)
    return encoded.SerializeToString(deterministic=True)


def decode(data: bytes) -> Message:
    """Read a message; addresses that can't be read are left out. Raises `RemoteProtocolError` where it is malformed."""
    message = HolePunch()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"malformed hole punch message: {error}") from error
    if message.type == _SYNC:
        return Sync()
    if message.type != _CONNECT:
        raise RemoteProtocolError(f"hole punch message of the unknown type {message.type}")
    addrs = []
    for binary in message.ObsAddrs:
        try:
            addrs.append(Multiaddr.from_bytes(binary))
        except InvalidMultiaddr:
            continue  # of a transport that is newer than we are
    return Connect(tuple(addrs))
