"""What carries datagrams: the interface that a UDP socket and a simulated network both offer.

Rules:
- Datagrams are handed over, and sent, in batches: what a system call costs is shared by all in it.
- A batch to send goes to one address. Its datagrams are of one size, but for the last one, which may be smaller.
- Sending never waits. A datagram that can't be sent at once waits in the socket; one that is too large for the path is
  lost, as the network would lose it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

from ..interfaces import Interfaces

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""An IPv4 or IPv6 socket address, as the `socket` module has it."""


class Received(NamedTuple):
    """One or more datagrams that came from one address."""

    data: bytes
    """The datagrams, one behind the other."""
    size: int
    """Bytes of each datagram in `data`, but for the last one, which has the rest."""
    addr: SocketAddress
    """Who sent them."""
    local_ip: str | None
    """Which of this machine's addresses they came to; None where the system does not tell, or the socket is bound to
    one."""


class DatagramReceiver(Protocol):
    """What a socket reports to."""

    def datagrams_received(self, batch: Sequence[Received]) -> None:
        """These have arrived."""

    def writable(self) -> None:
        """After `send` returned False: what waited has been sent."""

    def refused(self, addr: SocketAddress, error: OSError) -> None:
        """The system sends nothing to `addr`, such as to where no route leads, or what a rule forbids. Called some time
        behind the `send` that it was about, where the system tells at all.
        """

    def lost(self, error: Exception) -> None:
        """The socket has broken: nothing is sent or received any more, and it wants closing."""


class DatagramSocket(ABC):
    """A bound UDP socket."""

    addr: SocketAddress
    """Where it is bound, with the real port."""

    @property
    def is_wildcard(self) -> bool:
        """Whether it is bound to all addresses of the machine."""
        return self.addr[0] in ("0.0.0.0", "::")  # noqa: S104 - compared

    def local_ips(self, interfaces: Interfaces) -> Sequence[str]:
        """The addresses of this machine that lead to it."""
        if self.is_wildcard:
            return interfaces.ips("ip6" if ":" in self.addr[0] else "ip4")
        return (self.addr[0],)

    @abstractmethod
    def attach(self, receiver: DatagramReceiver) -> None:
        """Start: report to `receiver` from now on."""

    @abstractmethod
    def send(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None = None) -> bool:
        """Send a batch to `addr`, from `local_ip` where the socket is bound to all addresses. False where the system
        takes no more: everything given is kept and sent later, but the caller should stop until `writable` is called.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop, at once. Idempotent."""


class OpenSocket(Protocol):
    """Opens sockets: the real ones, or those of a simulated machine."""

    async def __call__(self, addr: SocketAddress) -> DatagramSocket:
        """A socket bound to `addr` (port 0: any free one). Raises `OSError`."""
