"""Dialing and listening on Unix sockets, `/unix/<path>` (multiaddr's protocols.csv, code 400).

Rules:
- The value of /unix is the absolute path of the socket's file; nothing can stand behind it, so no peer id either.
- A file that is left over from a listener that is gone is replaced; one that somebody listens on is not, and neither is
  anything that is no socket. A closed listener removes its file, if it is still its own.
- The file's mode says who may connect; it is set before anybody can.
- The dialer's socket has no name. Both ends of a connection are known by the listener's address.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...connection import Accept, Connection, DialOptions, Direction, Listener, StreamTransport
from ...errors import InvalidMultiaddr, ListenError
from ...identity import PeerId
from ...multiaddr import Multiaddr
from ..inbound import InboundUpgrades
from ..tcp.acceptor import Acceptor
from ..tcp.connection import SocketConnection

_SUPPORTED = hasattr(socket, "AF_UNIX")
_MEMORY = 256 * 1024


@dataclass(frozen=True, slots=True)
class UnixConfig:
    """Settings of the Unix socket transport."""

    mode: int = 0o600
    """Permissions of a listener's file. Who may write to it may connect; by default that is its owner."""
    backlog: int = 1024
    """Connections that the system keeps for a listener that has not accepted them yet; more are refused."""
    max_pending_inbound: int = 2048
    """Inbound connections of a listener that may be in the handshake at a time; more are closed at once."""


class UnixConnection(SocketConnection):
    """A connected Unix socket."""

    def __init__(
        self, addr: Multiaddr, memory: memoryview, connected: Callable[[UnixConnection], None] | None = None
    ) -> None:
        super().__init__(memory, connected)
        self._addr = addr

    def address_of(self, socket_name: Any) -> Multiaddr:  # noqa: ARG002 - the one that has a name has this
        return self._addr


class Unix(StreamTransport):
    """Unix stream sockets, on systems that have them."""

    def __init__(self, config: UnixConfig | None = None) -> None:
        self._config = config or UnixConfig()
        self._memory = memoryview(b"")

    def can_dial(self, addr: Multiaddr) -> bool:
        return _SUPPORTED and addr.head is not None and addr.head.name == "unix"

    def can_listen(self, addr: Multiaddr) -> bool:
        return self.can_dial(addr)

    async def dial(self, addr: Multiaddr, peer: PeerId | None, options: DialOptions = DialOptions()) -> Connection:
        path, loop, memory = _path(addr), asyncio.get_running_loop(), self._receive_memory()
        sock = _socket()
        try:
            sock.connect(path)  # never waits
            _, raw = await loop.create_unix_connection(lambda: UnixConnection(addr, memory), sock=sock)
        except BlockingIOError as error:
            sock.close()
            raise ConnectionRefusedError(error.errno, f"too many connections wait at {path} already") from error
        except BaseException:
            sock.close()
            raise
        return await self.context.upgrader.upgrade(raw, Direction.OUTBOUND, role=options.role, peer=peer)

    async def listen(self, addr: Multiaddr, accept: Accept) -> Listener:
        config, path = self._config, _path(addr)
        upgrades = InboundUpgrades(addr, self.context.upgrader, accept, limit=config.max_pending_inbound)
        try:
            listener = UnixListener(addr, _bind(path, config.mode), path, upgrades)
            listener.start(self._receive_memory(), config.backlog, lambda error: accept.listener_died(listener, error))
        except OSError as error:
            raise ListenError(addr, error.strerror or str(error)) from error
        return listener

    def _receive_memory(self) -> memoryview:
        if not self._memory:
            self._memory = memoryview(bytearray(_MEMORY))
        return self._memory


class UnixListener(Listener):
    """A listening socket with its file, and the connections accepted on it that are still in the handshake."""

    def __init__(self, addr: Multiaddr, sock: socket.socket, path: str, upgrades: InboundUpgrades) -> None:
        self._addr = addr
        self._sock = sock
        self._path = path
        self._file = _identity(path)
        self._upgrades = upgrades
        self._acceptor: Acceptor | None = None

    def start(self, memory: memoryview, backlog: int, died: Callable[[OSError], None]) -> None:
        """Begin to accept. Where that fails socket and file are gone."""
        self._acceptor = Acceptor(self._sock, lambda: UnixConnection(self._addr, memory, self._upgrades.take), died)
        try:
            self._acceptor.start(backlog)
        except BaseException:
            self.abort()
            raise

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        return (self._addr,)

    def abort(self) -> None:
        if self._file is not None and _identity(self._path) == self._file:
            os.unlink(self._path)
        self._file = None
        if self._acceptor is not None:
            self._acceptor.close()
        self._upgrades.abort()

    async def close(self) -> None:
        self.abort()
        await self._upgrades.close()


def _path(addr: Multiaddr) -> str:
    """The path in `addr`. Raises `InvalidMultiaddr`."""
    head = addr.head
    if head is None or head.name != "unix":
        raise InvalidMultiaddr(f"{addr} is no /unix address")
    return os.fsdecode(head.raw)


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


def _bind(path: str, mode: int) -> socket.socket:
    """A socket bound to `path`, not listening yet. Raises `OSError`."""
    sock = _socket()
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            sock.bind(path)
        os.chmod(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    """Whether `path` is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with _socket() as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except BlockingIOError:
        return False  # somebody listens, with a full backlog
    return False


def _identity(path: str) -> tuple[int, int] | None:
    """What tells the file at `path` from one that takes its place; None if there is none."""
    with suppress(FileNotFoundError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None
