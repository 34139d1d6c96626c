"""The connections there are, and which of several to one peer is used. No I/O, no asyncio.

Rules:
- A direct connection is used before a relayed one, whether its relay limits that or not.
- A connection from which nothing was heard since a later one of the same peer came may lead to a process that is no
  more: those that were heard from since are used before it.
- Of two that are equally good both sides use the same: the one that was dialed by the smaller peer id, and of one
  dialer's the oldest. The others are duplicates, and closed, by their dialer, when they carry no stream. Those that
  were made on purpose beside another are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..connection import Connection, Direction, Scope
from ..errors import ConnectionClosed
from ..identity import PeerId
from ..multiaddr import Multiaddr, is_relayed

K = TypeVar("K")


@dataclass(slots=True, eq=False)
class Entry:
    """A connection in the table: a `Holder`."""

    connection: Connection
    scope: Scope
    since: float
    """When it was added."""
    on_purpose: bool
    """Whether it was made beside another one that there was."""
    dialed: tuple[Multiaddr, ...]
    """The addresses that lead to it, as far as they were dialed."""
    protected: Callable[[PeerId], bool]
    """Whether a peer's connections must be kept."""
    let_go: Callable[[Connection, str], None]
    """Closes a connection, with a goodbye that says why."""
    lost: Callable[[Entry, ConnectionClosed], None]
    """Is told of its end."""

    @property
    def is_kept(self) -> bool:
        """See `Holder`."""
        return self.protected(self.connection.remote_peer)

    @property
    def is_idle(self) -> bool:
        """See `Holder`. What we have asked, and the peer has not answered yet, makes it no busier: identify, mostly."""
        return not self.is_kept and not any(stream.bytes_read for stream in self.connection.streams)

    def ended(self, reason: ConnectionClosed) -> None:
        """The connection is over."""
        self.lost(self, reason)

    def evict(self, error: Exception) -> None:
        """See `Holder`."""
        self.let_go(self.connection, str(error))


class ConnectionTable:
    """All connections of a host, by their peers and by the addresses that were dialed."""

    def __init__(self, local_peer: PeerId) -> None:
        self._local_peer = local_peer
        self._by_peer: dict[PeerId, list[Entry]] = {}
        self._by_addr: dict[Multiaddr, list[Entry]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_peer.values()))

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [entry for entries in self._by_peer.values() for entry in entries]

    @property
    def connections(self) -> list[Connection]:
        """All of them."""
        return [entry.connection for entries in self._by_peer.values() for entry in entries]

    @property
    def peers(self) -> dict[PeerId, list[Connection]]:
        """All of them, by their peers."""
        return {peer: [entry.connection for entry in entries] for peer, entries in self._by_peer.items()}

    def to(self, peer: PeerId) -> list[Connection]:
        """Those to `peer`, the oldest first."""
        return [entry.connection for entry in self._by_peer.get(peer, ())]

    def add(self, entry: Entry) -> bool:
        """Whether it is the first to its peer."""
        entries = self._by_peer.setdefault(entry.connection.remote_peer, [])
        entries.append(entry)
        for addr in entry.dialed:
            self._by_addr.setdefault(addr, []).append(entry)
        return len(entries) == 1

    def remove(self, entry: Entry) -> bool:
        """Whether it was the last to its peer."""
        _take(self._by_peer, entry.connection.remote_peer, entry)
        for addr in entry.dialed:
            _take(self._by_addr, addr, entry)
        return entry.connection.remote_peer not in self._by_peer

    def best(self, peer: PeerId) -> Connection | None:
        """The connection to open a stream on; None where none takes streams."""
        return next(iter(self._ranked(self._by_peer.get(peer, ()))), None)

    def at(self, addrs: Iterable[Multiaddr]) -> Connection | None:
        """An open connection that was made by dialing one of `addrs`."""
        found = [entry for addr in addrs for entry in self._by_addr.get(addr, ())]
        return next(iter(self._ranked(found)), None)

    def doubtful(self, peer: PeerId) -> list[Connection]:
        """Those that may have ended unnoticed: nothing was heard from them since a later one came."""
        entries = self._by_peer.get(peer, ())
        newest = max((entry.since for entry in entries), default=0.0)
        return [entry.connection for entry in entries if not _is_heard(entry, newest)]

    def duplicates(self, peer: PeerId) -> list[Connection]:
        """Those that we dialed and that neither side needs."""
        entries = [entry for entry in self._by_peer.get(peer, ()) if not _is_relayed(entry.connection)]
        newest = max((entry.since for entry in entries), default=0.0)
        sound = self._ranked([entry for entry in entries if _is_heard(entry, newest)])
        extra = set(map(id, sound[1:]))
        return [
            entry.connection
            for entry in entries
            if id(entry.connection) in extra
            and entry.connection.direction is Direction.OUTBOUND
            and not entry.on_purpose
        ]

    def _ranked(self, entries: Sequence[Entry]) -> list[Connection]:
        """Those that take streams, the best first."""
        usable = [entry for entry in entries if not entry.connection.is_closed]
        if len(usable) > 1:
            newest = max(entry.since for entry in usable)
            usable.sort(key=lambda entry: self._order(entry, newest))
        return [entry.connection for entry in usable]

    def _order(self, entry: Entry, newest: float) -> tuple[bool, bool, bytes]:
        connection = entry.connection
        is_ours = connection.direction is Direction.OUTBOUND
        dialer = self._local_peer if is_ours else connection.remote_peer
        return _is_relayed(connection), not _is_heard(entry, newest), dialer.to_bytes()


def _is_relayed(connection: Connection) -> bool:
    return connection.is_limited or is_relayed(connection.remote_addr)


def _is_heard(entry: Entry, newest: float) -> bool:
    """Whether the peer was heard on it since the newest connection came. One that can't tell is believed."""
    heard = entry.connection.heard_at
    return entry.since >= newest or heard is None or heard >= newest


def _take(table: dict[K, list[Entry]], key: K, entry: Entry) -> None:
    entries = table[key]
    entries.remove(entry)
    if not entries:
        del table[key]
