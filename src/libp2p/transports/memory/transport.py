"""The `/memory/<n>` transport: connections within one process, for tests and for programs that embed several hosts.

Rules:
- `<n>` names a listener, like a port; 0 asks for a free one. Names live in a `MemoryRegistry` that transports share.
- Connections are upgraded like any other: the peers prove who they are.
"""

from __future__ import annotations

from ...connection import Accept, Connection, DialOptions, Direction, Listener, StreamTransport
from ...errors import InvalidMultiaddr, ListenError
from ...identity import PeerId
from ...multiaddr import Multiaddr
from .listener import MAX_PENDING_INBOUND, InProcessListener
from .pipe import pipe


class MemoryRegistry:
    """Which number belongs to which listener. All listeners of one registry can be dialed by all its transports."""

    def __init__(self) -> None:
        self._listeners: dict[int, InProcessListener] = {}
        self._last = 0

    def fresh(self) -> int:
        """A number that is not in use."""
        self._last += 1
        while self._last in self._listeners:
            self._last += 1
        return self._last

    def find(self, number: int) -> InProcessListener | None:
        """The listener called `number`."""
        return self._listeners.get(number)

    def add(self, number: int, listener: InProcessListener) -> None:
        """Give `listener` the name `number`, which must be free."""
        assert number not in self._listeners
        self._listeners[number] = listener

    def remove(self, number: int) -> None:
        """Free `number`."""
        del self._listeners[number]


_PROCESS_WIDE = MemoryRegistry()


class MemoryTransport(StreamTransport):
    """Dials and listens on `/memory/<n>`. Transports with the same `registry` (default: the process's own) meet.

    `max_pending_inbound` is how many connections of a listener may be in the handshake at a time; more are closed.
    """

    def __init__(
        self, *, registry: MemoryRegistry = _PROCESS_WIDE, max_pending_inbound: int = MAX_PENDING_INBOUND
    ) -> None:
        self._registry = registry
        self._max_pending_inbound = max_pending_inbound

    def can_dial(self, addr: Multiaddr) -> bool:
        return _number(addr) is not None

    def can_listen(self, addr: Multiaddr) -> bool:
        return _number(addr) is not None

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        if (number := _number(addr)) is None:
            raise InvalidMultiaddr(f"{addr} is no /memory address")
        listener = self._registry.find(number)
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens on {addr}")
        ours, theirs = pipe(Multiaddr(f"/memory/{self._registry.fresh()}"), addr.without_peer())
        listener.incoming(theirs)
        return await self.context.upgrader.upgrade(ours, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        if (wanted := _number(addr)) is None:
            raise ListenError(addr, "it is no /memory address")
        number = wanted or self._registry.fresh()
        if self._registry.find(number) is not None:
            raise ListenError(addr, "it is in use")
        bound = Multiaddr(f"/memory/{number}")
        listener = InProcessListener(
            [bound],
            self.context,
            accept,
            limit=self._max_pending_inbound,
            on_close=lambda: self._registry.remove(number),
        )
        self._registry.add(number, listener)
        return listener


def _number(addr: Multiaddr) -> int | None:
    bare = addr.without_peer()
    value = bare.get("memory")
    return int(value) if value is not None and len(bare) == 1 else None
