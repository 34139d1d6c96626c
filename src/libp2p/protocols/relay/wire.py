"""Messages of circuit relay v2 as bytes, and what they say as values. Spec: relay/circuit-v2.md, "Protobuf".

HopMessage    1 type   2 peer   3 reservation   4 limit    5 status     client <-> relay
StopMessage   1 type   2 peer   3 limit         4 status                relay <-> the peer behind it
Peer          1 id     2 addrs
Reservation   1 expire (Unix time, s)   2 addrs   3 voucher
Limit         1 duration (s)   2 data (bytes, each way)    0 or absent: none

Rules:
- What is read is bounded by the message's limit of 4 KiB; of the addresses those are dropped that can't be read.
- A status that is not known is kept as the number it is: it counts as a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from ...errors import InvalidMultiaddr, InvalidPeerId, RemoteProtocolError
from ...identity import PeerId
from ...multiaddr import Multiaddr
from .relay_pb2 import HopMessage, StopMessage
from .relay_pb2 import Limit as LimitPb
from .relay_pb2 import Peer as PeerPb

M = TypeVar("M", HopMessage, StopMessage)

HOP_ID = "/libp2p/circuit/relay/0.2.0/hop"
STOP_ID = "/libp2p/circuit/relay/0.2.0/stop"

MAX_MESSAGE = 4096
"""Bytes of a message, as go-libp2p has it."""

_MAX_SECONDS = 2**32 - 1
_RESERVE, _CONNECT, _STATUS = range(3)
_STOP_CONNECT, _STOP_STATUS = range(2)


class Status(IntEnum):
    """What came of a request."""

    UNUSED = 0
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


def status_name(status: int) -> str:
    """What to call a status that may be none of ours."""
    return Status(status).name if status in frozenset(Status) else f"status {status}"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a relay allows a circuit; 0: as much as it likes."""

    duration: int = 0
    """Seconds."""
    data: int = 0
    """Bytes in each direction."""

    def __bool__(self) -> bool:
        return bool(self.duration or self.data)

    def __str__(self) -> str:
        parts = [f"{self.data} bytes each way"] if self.data else []
        parts += [f"{self.duration} s"] if self.duration else []
        return " and ".join(parts) or "none"


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a relay has granted; `voucher` is a sealed envelope, empty where the relay gives none."""

    expire: int
    """Unix time, in seconds."""
    addrs: tuple[Multiaddr, ...] = ()
    """Of the relay, with its peer id."""
    voucher: bytes = b""


@dataclass(frozen=True, slots=True)
class Reserve:
    """To the relay: "take connections for me"."""


@dataclass(frozen=True, slots=True)
class Connect:
    """To the relay: "connect me to this peer"; from the relay: "this peer wants to talk to you"."""

    peer: PeerId
    limit: Limit = Limit()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    status: int
    reservation: Reservation | None = None
    limit: Limit = Limit()


Hop: TypeAlias = Reserve | Connect | Answer
Stop: TypeAlias = Connect | Answer


def encode_hop(message: Hop) -> bytes:
    """The bytes of a message between client and relay, without a length before them."""
    encoded = HopMessage()
    match message:
        case Reserve():
            encoded.type = _RESERVE
        case Connect(peer):
            encoded.type = _CONNECT
            encoded.peer.id = peer.to_bytes()
        case Answer(status, reservation, limit):
            encoded.type = _STATUS
            encoded.status = status
            if reservation is not None:
                encoded.reservation.expire = reservation.expire
                encoded.reservation.addrs.extend(addr.to_bytes() for addr in reservation.addrs)
                if reservation.voucher:
                    encoded.reservation.voucher = reservation.voucher
            _fill(encoded.limit, limit)
    return encoded.SerializeToString(deterministic=True)


def encode_stop(message: Stop) -> bytes:
    """The bytes of a message between a relay and the peer behind it, without a length before them."""
    encoded = StopMessage()
    match message:
        case Connect(peer, limit):
            encoded.type = _STOP_CONNECT
            encoded.peer.id = peer.to_bytes()
            _fill(encoded.limit, limit)
        case Answer(status):
            encoded.type = _STOP_STATUS
            encoded.status = status
    return encoded.SerializeToString(deterministic=True)


def decode_hop(data: bytes) -> Hop:
    """Read a message between client and relay. Raises `RemoteProtocolError` where it is malformed."""
    message = _parsed(HopMessage(), data)
    match message.type if message.HasField("type") else None:
        case 0:
            return Reserve()
        case 1 if message.HasField("peer"):
            return Connect(_peer(message.peer), _limit(message.limit))
        case 2:
            reservation = None
            if message.HasField("reservation"):
                told = message.reservation
                reservation = Reservation(told.expire, tuple(_readable(told.addrs)), told.voucher)
            return Answer(message.status, reservation, _limit(message.limit))
    raise RemoteProtocolError(f"hop message of the type {message.type} without what belongs to it")


def decode_stop(data: bytes) -> Stop:
    """Read a message between a relay and the peer behind it. Raises `RemoteProtocolError` where it is malformed."""
    message = _parsed(StopMessage(), data)
    match message.type if message.HasField("type") else None:
        case 0 if message.HasField("peer"):
            return Connect(_peer(message.peer), _limit(message.limit))
        case 1:
            return Answer(message.status, limit=_limit(message.limit))
    raise RemoteProtocolError(f"stop message of the type {message.type} without what belongs to it")


def _parsed(message: M, data: bytes) -> M:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise RemoteProtocolError(f"malformed relay message: {error}") from error
    return message


def _fill(encoded: LimitPb, limit: Limit) -> None:
    if limit.duration:
        encoded.duration = min(limit.duration, _MAX_SECONDS)
    if limit.data:
        encoded.data = limit.data


def _limit(encoded: LimitPb) -> Limit:
    return Limit(encoded.duration, encoded.data)


def _peer(encoded: PeerPb) -> PeerId:
    try:
        return PeerId.from_bytes(encoded.id)
    except InvalidPeerId as error:
        raise RemoteProtocolError(f"relay message: {error}") from error


def _readable(addrs: Iterable[bytes]) -> Iterable[Multiaddr]:
    for addr in addrs:
        try:
            yield Multiaddr.from_bytes(addr)
        except InvalidMultiaddr:
            continue  # of a transport that is newer than we are
