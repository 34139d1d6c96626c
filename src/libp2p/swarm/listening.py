"""The listeners of a swarm: begun, followed while their addresses change, and ended.

Rules:
- What is told by `ListenAddrAdded` and `ListenAddrRemoved` is where the swarm listens, one after the other.
- A listener that is being made when all end is ended too, before `close` is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..connection import Accept, Listener, Transport
from ..errors import ListenError
from ..events import EventBus
from ..io import all_of
from ..multiaddr import Multiaddr
from .events import ListenAddrAdded, ListenAddrRemoved, ListenerLost

logger = logging.getLogger(__name__)


class Listeners:
    """Listens by `transports`, which may grow, and reports to `accept`."""

    def __init__(self, transports: Sequence[Transport], accept: Accept, events: EventBus) -> None:
        self._transports = transports
        self._accept = accept
        self._events = events
        self._told: dict[Listener, tuple[Multiaddr, ...]] = {}
        self._making: dict[asyncio.Task[Listener], None] = {}
        self._closed = False

    @property
    def addrs(self) -> list[Multiaddr]:
        """Where they listen: real ports, wildcards resolved to the machine's addresses, no peer id."""
        return list(dict.fromkeys(addr for addrs in self._told.values() for addr in addrs))

    async def listen(self, addr: Multiaddr) -> Listener:
        """Listen on `addr`. Raises `ListenError`."""
        if self._closed:
            raise _closed(addr)
        transport = next((transport for transport in self._transports if transport.can_listen(addr)), None)
        if transport is None:
            raise ListenError(addr, "no transport of this host listens on such an address")
        making = asyncio.get_running_loop().create_task(self._make(transport, addr), name=f"listen on {addr}")
        self._making[making] = None
        making.add_done_callback(self._making.pop)
        try:
            await asyncio.wait({making})
        except asyncio.CancelledError:
            making.add_done_callback(self._not_wanted)
            making.cancel()
            await asyncio.wait({making})
            raise
        if making.cancelled():
            raise _closed(addr)
        return making.result()

    async def stop(self, listener: Listener) -> None:
        """Close a listener; the connections made through it stay."""
        self._forget(listener)
        await listener.close()

    def changed(self, listener: Listener) -> None:
        """Tell which addresses have come and gone."""
        if listener not in self._told:
            return  # it says so before it is known; or when it is no more
        before, after = self._told[listener], tuple(listener.addrs)
        self._told[listener] = after
        self._tell(before, after)

    def machine_changed(self) -> None:
        """The machine's addresses are not what they were; so may be those of any listener."""
        for listener in list(self._told):
            self.changed(listener)

    def died(self, listener: Listener, error: Exception) -> None:
        """A listener has ended by itself."""
        addrs = self._forget(listener)
        listener.abort()
        logger.error("no longer listening on %s: %s", ", ".join(map(str, addrs)), error)
        self._events.emit(ListenerLost(addrs, error))

    def abort(self) -> None:
        """End all, at once. Idempotent."""
        self._closed = True
        for making in self._making:
            making.cancel()
        for listener in list(self._told):
            self._forget(listener)
            listener.abort()

    async def close(self) -> None:
        """The same, and wait until nothing of them is left, those that are being made included."""
        self._closed = True
        listeners = list(self._told)
        self.abort()
        await all_of(*(listener.close() for listener in listeners), *(_ended(making) for making in self._making))

    async def _make(self, transport: Transport, addr: Multiaddr) -> Listener:
        listener = await transport.listen(addr, self._accept)
        if self._closed:
            listener.abort()
            raise _closed(addr)
        self._told[listener] = addrs = tuple(listener.addrs)
        self._tell((), addrs)
        return listener

    def _not_wanted(self, making: asyncio.Task[Listener]) -> None:
        if not making.cancelled() and making.exception() is None:
            listener = making.result()
            self._forget(listener)
            listener.abort()

    def _forget(self, listener: Listener) -> tuple[Multiaddr, ...]:
        addrs = self._told.pop(listener, ())
        self._tell(addrs, ())
        return addrs

    def _tell(self, before: Sequence[Multiaddr], after: Sequence[Multiaddr]) -> None:
        for addr in before:
            if addr not in after:
                self._events.emit(ListenAddrRemoved(addr))
        for addr in after:
            if addr not in before:
                self._events.emit(ListenAddrAdded(addr))


async def _ended(task: asyncio.Task[Listener]) -> None:
    await asyncio.wait({task})


def _closed(addr: Multiaddr) -> ListenError:
    return ListenError(addr, "the host is closed")
