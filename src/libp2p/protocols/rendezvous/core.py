"""What a rendezvous point remembers: who is registered in which namespace. Pure: time comes in as `now`, in seconds.

Rules:
- A cookie says how far a peer has read: the number of the last registration that it got, and of which namespace. It is
  told, not remembered, so it costs the point nothing. One of another life of the point or namespace is refused.
- Registrations are numbered as they come; one that is renewed gets a new number, since its addresses may be new.
- Bounded: namespaces' length, times to live, registrations of a peer, of a namespace, and in all; answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from ...errors import Libp2pError
from ...identity import PeerId

HOUR = 3600.0


class Status(IntEnum):
    """What a rendezvous point answers."""

    OK = 0
    INVALID_NAMESPACE = 100
    INVALID_SIGNED_PEER_RECORD = 101
    INVALID_TTL = 102
    INVALID_COOKIE = 103
    NOT_AUTHORIZED = 200
    INTERNAL_ERROR = 300
    UNAVAILABLE = 400


class Refused(Libp2pError):
    """A rendezvous point does not do what it was asked: `status` says why."""

    def __init__(self, status: int, text: str = "") -> None:
        name = Status(status).name if status in Status.__members__.values() else str(status)
        super().__init__(f"the rendezvous point refused: {name}{f': {text}' if text else ''}")
        self.status = status


@dataclass(frozen=True, slots=True)
class RendezvousConfig:
    """Limits of a rendezvous point; times in seconds. "Recommendations for Rendezvous Points configurations"."""

    min_ttl: float = 2 * HOUR
    """A shorter time to live is refused..."""
    max_ttl: float = 72 * HOUR
    """...and so is a longer one."""
    default_ttl: float = 2 * HOUR
    """For who does not say."""
    max_namespace_length: int = 255
    """Bytes of a namespace."""
    max_registrations: int = 20_000
    """Registrations of all peers."""
    max_registrations_per_peer: int = 100
    """Of one peer. The specification recommends up to 1000, which would let twenty peers fill the point."""
    max_registrations_per_namespace: int = 10_000
    """In one namespace."""
    max_discovered: int = 1000
    """Registrations in one answer..."""
    max_answer_size: int = 512 * 1024
    """...and bytes of them."""
    max_record_size: int = 4096
    """Bytes of a signed peer record."""
    timeout: float = 10.0
    """A request is read and answered within so long."""
    idle_timeout: float = 60.0
    """A stream on which no request comes for so long is reset."""
    max_streams_per_peer: int = 4
    """Streams of one peer that are served; one more is reset."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A peer in a namespace: its signed record, as it came, and until when it holds."""

    peer: PeerId
    namespace: str
    record: bytes
    number: int
    expires: float

    def ttl(self, now: float) -> int:
        """Seconds left."""
        return max(0, int(self.expires - now))


class Registry:
    """The registrations of a rendezvous point. `life` is any bytes that no other life of it has."""

    def __init__(self, config: RendezvousConfig, life: bytes) -> None:
        self._config = config
        self._life = life
        self._number = 0
        self._all: OrderedDict[tuple[str, PeerId], Registration] = OrderedDict()  # by number
        self._namespaces: dict[str, OrderedDict[PeerId, Registration]] = {}  # each by number
        self._peers: dict[PeerId, set[str]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def register(self, peer: PeerId, namespace: str, record: bytes, ttl: int | None, now: float) -> int:
        """Register `peer`, or renew that; `record` is verified already. Returns the seconds for which it holds; raises
        `Refused`.
        """
        config = self._config
        ttl = int(config.default_ttl) if ttl is None else ttl
        self._check_namespace(namespace)
        if not config.min_ttl <= ttl <= config.max_ttl:
            raise Refused(Status.INVALID_TTL, f"it must be {config.min_ttl:g} to {config.max_ttl:g} s")
        known = namespace in self._peers.get(peer, ())
        if not known:
            self._check_room(peer, namespace, now)
        self.unregister(peer, namespace)
        self._number += 1
        registration = Registration(peer, namespace, record, self._number, now + ttl)
        self._all[namespace, peer] = registration
        self._namespaces.setdefault(namespace, OrderedDict())[peer] = registration
        self._peers.setdefault(peer, set()).add(namespace)
        return ttl

    def unregister(self, peer: PeerId, namespace: str) -> None:
        """End a registration; nothing happens where there is none."""
        if self._all.pop((namespace, peer), None) is None:
            return
        of_namespace, of_peer = self._namespaces[namespace], self._peers[peer]
        del of_namespace[peer]
        of_peer.discard(namespace)
        if not of_namespace:
            del self._namespaces[namespace]
        if not of_peer:
            del self._peers[peer]

    def discover(
        self, namespace: str, cookie: bytes, limit: int | None, now: float
    ) -> tuple[list[Registration], bytes]:
        """Registrations in `namespace` ("": in all) that came behind `cookie`, and the cookie for the next ones. Raises
        `Refused`.
        """
        if namespace:
            self._check_namespace(namespace)
        last = self._read_cookie(cookie, namespace)
        most = min(limit or self._config.max_discovered, self._config.max_discovered)
        found: list[Registration] = []
        room = self._config.max_answer_size
        for registration in self._newer(namespace, last):
            if registration.expires <= now:
                continue
            room -= len(registration.record) + len(namespace) + 32
            if len(found) >= most or room < 0:
                break
            found.append(registration)
            last = registration.number
        return found, self._life + last.to_bytes(8, "big") + namespace.encode()

    def expire(self, now: float) -> int:
        """Drop what does not hold any more; how many went."""
        gone = [key for key, registration in self._all.items() if registration.expires <= now]
        for namespace, peer in gone:
            self.unregister(peer, namespace)
        return len(gone)

    def next_expiry(self) -> float | None:
        """When the next registration is over; None where there is none."""
        return min((registration.expires for registration in self._all.values()), default=None)

    def _newer(self, namespace: str, last: int) -> list[Registration]:
        """Registrations with numbers above `last`, in their order."""
        of_all: Iterable[Registration] = reversed(self._all.values())
        in_namespace = self._namespaces.get(namespace, OrderedDict())
        newer = []
        for registration in reversed(in_namespace.values()) if namespace else of_all:
            if registration.number <= last:
                break
            newer.append(registration)
        return newer[::-1]

    def _check_namespace(self, namespace: str) -> None:
        length = len(namespace.encode())
        if not 0 < length <= self._config.max_namespace_length:
            raise Refused(Status.INVALID_NAMESPACE, f"it must have 1 to {self._config.max_namespace_length} bytes")

    def _check_room(self, peer: PeerId, namespace: str, now: float) -> None:
        config = self._config
        if len(self._all) >= config.max_registrations:
            self.expire(now)
        if len(self._peers.get(peer, ())) >= config.max_registrations_per_peer:
            raise Refused(Status.NOT_AUTHORIZED, f"{config.max_registrations_per_peer} registrations of one peer")
        if (
            len(self._all) >= config.max_registrations
            or len(self._namespaces.get(namespace, ())) >= config.max_registrations_per_namespace
        ):
            raise Refused(Status.UNAVAILABLE, "the rendezvous point is full")

    def _read_cookie(self, cookie: bytes, namespace: str) -> int:
        if not cookie:
            return 0
        life, number, name = cookie[: len(self._life)], cookie[len(self._life) :][:8], cookie[len(self._life) + 8 :]
        if life != self._life or len(number) != 8 or name != namespace.encode():
            raise Refused(Status.INVALID_COOKIE)
        return int.from_bytes(number, "big")
