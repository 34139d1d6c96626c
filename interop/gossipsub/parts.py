"""The messages in parts of the framework's scenarios, and what is told to whom. Spec: its go program, partial.go.

a group of 8 parts of 1024 bytes: big-endian u64 that count up from the group's number, through all parts
what is said of parts    a byte, bit i: "I have part i"
parts on the wire        that byte, of those that follow | the parts | the group's number, u64 big-endian
"""

from __future__ import annotations

from dataclasses import dataclass, field

PARTS = 8
SIZE = 1024
ALL = (1 << PARTS) - 1


class BadParts(Exception):
    """What came is no such message."""


@dataclass(slots=True)
class Known:
    """What we know of a peer, in a group."""

    heard: bool = False
    """Whether it said which parts it has."""
    has: int = 0
    told: int | None = None
    """The parts of which it knows that we have them; None: it was told of none, nor that there are none."""


@dataclass(slots=True)
class Group:
    """A message in parts, as far as it is here."""

    number: int
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def name(self) -> bytes:
        return self.number.to_bytes(8, "big")

    @property
    def have(self) -> int:
        """The parts that are here."""
        return sum(1 << n for n in self.parts)

    def fill(self, bitmap: int) -> None:
        """Have these parts."""
        for n in bits(bitmap):
            first = self.number + n * SIZE // 8
            self.parts[n] = b"".join(((first + at) % 2**64).to_bytes(8, "big") for at in range(SIZE // 8))

    def encode(self, lacking: int) -> bytes | None:
        """The parts that somebody lacks and we have; None: there are none."""
        wanted = self.have & lacking
        if not wanted:
            return None
        return bytes([wanted]) + b"".join(self.parts[n] for n in bits(wanted)) + self.name

    def take(self, message: bytes) -> bool:
        """Add parts that came; whether any was new. Raises `BadParts`."""
        bitmap = bits(message[0]) if message else []
        if len(message) != 1 + SIZE * len(bitmap) + 8 or message[-8:] != self.name:
            raise BadParts(f"{len(message)} bytes are no parts of group {self.number}")
        before = self.have
        for at, n in enumerate(bitmap):
            self.parts.setdefault(n, message[1 + at * SIZE : 1 + (at + 1) * SIZE])
        return self.have != before

    def heard_from(self, peer: Known, message: bytes | None, parts: bytes | None) -> None:
        """A peer sent this."""
        if parts:
            peer.heard = True
            peer.has |= parts[0]
        if message:
            peer.has |= message[0]
            peer.told = (peer.told or 0) | message[0]  # it knows that we have what it sent

    def for_peer(self, peer: Known, *, wants: bool) -> tuple[bytes | None, bytes | None]:
        """The parts that a peer is to be sent, if it wants any, and what is to be said of ours."""
        message = self.encode(ALL & ~peer.has) if wants and peer.heard else None
        if message is not None:
            peer.has |= self.have
            peer.told = (peer.told or 0) | self.have
        if peer.told is None or self.have & ~peer.told:
            peer.told = (peer.told or 0) | self.have
            return message, bytes([peer.told])
        return message, None


def bits(bitmap: int) -> list[int]:
    """The numbers of the bits that are set."""
    return [n for n in range(PARTS) if bitmap >> n & 1]
