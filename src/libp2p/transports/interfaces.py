"""The IP addresses of this machine: one list for all transports of a host, read from the system when it has changed.

Rules:
- The list is kept between two changes. Linux tells of them (rtnetlink, by a socket); elsewhere, and where there is no
  such socket to be had, the list is read again every `_POLL` seconds.
- Changes come in bursts: the list is read `_SETTLE` seconds after the first of them.
- Where the system does not answer, as when no descriptor is left, the list stays as it was, and is asked for again.
- Nothing is watched that nobody has asked for, and nothing is left behind `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable

import ifaddr

from ..multiaddr import from_ip, is_link_local

logger = logging.getLogger(__name__)

_POLL = 10.0
_SETTLE = 0.25
_RETRY = 1.0  # seconds from a failure until the system is asked again
_LINK, _IP4_ADDRS, _IP6_ADDRS = 0x1, 0x10, 0x100  # rtnetlink(7): groups that are told of changes
_MESSAGES_AT_ONCE = 64
_MESSAGE = 65536


class Interfaces:
    """The addresses of this machine. `clock` tells the time in seconds."""

    def __init__(
        self,
        *,
        read: Callable[[], Iterable[str]] | None = None,
        open_changes: Callable[[], socket.socket | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` asks the system, `open_changes` gives a socket that gets something whenever there is a change."""
        self.on_change: Callable[[], None] | None = None
        """Called when the list is not what it was. The system is watched for whom has set this, once the list has been
        asked for; else it is read again when it is old.
        """
        self._read = read or _system_ips
        self._open_changes = open_changes or _netlink
        self._clock = clock
        self._ips: dict[str, tuple[str, ...]] = {}
        self._read_at: float | None = None  # None: never, or not successfully
        self._tried_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changes: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def ips(self, family: str) -> tuple[str, ...]:
        """The addresses of the family `ip4` or `ip6`, without link-local ones."""
        if self.on_change is not None and self._loop is None and not self._closed:
            self._watch()
        if self._is_stale():
            self._refresh()
        return self._ips.get(family, ())

    def close(self) -> None:
        """Watch no longer. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._changes is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._changes)
            self._changes.close()
            self._changes = None

    def _is_stale(self) -> bool:
        now = self._clock()
        if self._read_at is None:
            return self._tried_at is None or now - self._tried_at >= _RETRY
        return self._timer is None and self._changes is None and now - self._read_at >= _POLL

    def _refresh(self) -> bool:
        """Ask the system; whether the answer is another one than before."""
        self._tried_at = self._clock()
        try:
            addrs = {str(ip): from_ip(str(ip)) for ip in self._read()}
        except OSError as error:
            logger.warning("the addresses of this machine can't be read: %s", error)
            self._read_at = None
            return False
        before, self._read_at = self._ips, self._tried_at
        self._ips = {
            family: tuple(ip for ip, addr in addrs.items() if family in addr and not is_link_local(addr))
            for family in ("ip4", "ip6")
        }
        return before != self._ips

    # Watching

    def _watch(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._changes = self._open_changes()
            if self._changes is not None:
                self._loop.add_reader(self._changes, self._told)
                return
        except (OSError, NotImplementedError) as error:
            logger.debug("changes of this machine's addresses are polled for: %s", error)
            if self._changes is not None:
                self._changes.close()
                self._changes = None
        self._look_in(_POLL)

    def _told(self) -> None:
        assert self._changes is not None
        with contextlib.suppress(OSError):  # BlockingIOError: that was all; ENOBUFS: more changes than were told
            for _ in range(_MESSAGES_AT_ONCE):
                self._changes.recv(_MESSAGE)
        if self._timer is None:
            self._look_in(_SETTLE)

    def _look_in(self, seconds: float) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        changed = self._refresh()
        if self._changes is None:
            self._look_in(_POLL)
        elif self._read_at is None:
            self._look_in(_RETRY)
        if changed and self.on_change is not None:
            self.on_change()


def _system_ips() -> Iterable[str]:
    found = (ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return list(found)


def _netlink() -> socket.socket | None:
    """A socket that gets a message for each change; None where the system is not Linux."""
    if sys.platform != "linux":
        return None
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, _LINK | _IP4_ADDRS | _IP6_ADDRS))
    except OSError:
        sock.close()
        raise
    return sock
