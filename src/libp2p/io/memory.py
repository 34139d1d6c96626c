"""Accounts of the memory that peers make a host hold: bytes received and unread, and what windows have grown by.

    host                    an eighth of the machine's memory
      '- peer               64 MiB
           '- connection    32 MiB

Rules:
- What one account counts, all above it count too.
- A window grows while there is room for it (`draw`): growth may take half of a limit, so that much of it is always left
  for bytes that come without having been asked for.
- Bytes received are counted in any case (`hold`): a peer may send into its first windows without asking. Where a limit
  is passed by that the largest holder below it gives something up, the largest child first, until all is within the
  limits again.
- What was read, or dropped, is given back (`release`). What is held by a buffer that nobody has any more is given back
  too (`forsake`, from whatever thread the collector runs in).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HOST_SHARE = 8
"""The host's limit is the machine's memory divided by this."""

_UNKNOWN_MACHINE = 1024 * 1024 * 1024
"""Bytes that a machine is taken to have where the system does not tell."""

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells what a container may use."""


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Limits of what peers make a host hold. Windows stop growing at half of each."""

    max_per_host: int | None = None
    """Bytes for all peers together; None: an eighth of the machine's memory, or of the container's."""
    max_per_peer: int = 64 * 1024 * 1024
    """Bytes for all connections of one peer."""
    max_per_connection: int = 32 * 1024 * 1024
    """Bytes for one connection. At a limit the fullest stream of the largest holder is reset."""


@cache
def machine_memory() -> int:
    """The memory of the machine, or of the container that this runs in, in bytes."""
    sizes = []
    with suppress(ValueError, OSError, AttributeError):  # not every system knows these names
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ValueError, OSError):  # no such file, or "max"
        sizes.append(int(_CGROUP_LIMIT.read_text()))
    return min((size for size in sizes if size > 0), default=_UNKNOWN_MACHINE)


class HostMemory:
    """The accounts of one host."""

    def __init__(self, config: MemoryConfig | None = None) -> None:
        self._config = config or MemoryConfig()
        limit = self._config.max_per_host
        self.account = MemoryAccount("host", machine_memory() // _HOST_SHARE if limit is None else limit)
        """What all peers together make the host hold."""

    def of_connection(self, peer: Hashable) -> MemoryAccount:
        """The account of a new connection to `peer`, whose connections share one above it."""
        of_peer = self.account.child("peer", self._config.max_per_peer, key=peer)
        return of_peer.child("connection", self._config.max_per_connection)


class MemoryAccount:
    """What one connection, one peer or the host holds, and may hold, in bytes."""

    __slots__ = ("_children", "_closed", "_forsaken", "_key", "_parent", "limit", "name", "reclaim", "used")

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        """What the account is of: "host", "peer", "connection"."""
        self.limit = limit
        self.used = 0
        self.reclaim: Callable[[MemoryAccount], bool] | None = None
        """Gives up something that this account holds, because the limit of the account that it is called with, this one
        or one above, is passed. Returns whether there was anything.
        """
        self._parent: MemoryAccount | None = None
        self._key: Hashable = None
        self._children: dict[Hashable, MemoryAccount] = {}
        self._forsaken: list[tuple[MemoryAccount, int]] = []  # one for the whole tree
        self._closed = False

    def child(self, name: str, limit: int, *, key: Hashable = None) -> MemoryAccount:
        """An account below this one, which counts what it does. With `key` the one that there is under it, if any; it
        is closed when the last account below it is.
        """
        self._settle()
        if key is not None and (known := self._children.get(key)) is not None:
            return known
        account = MemoryAccount(name, limit)
        account._parent = self
        account._forsaken = self._forsaken
        account._key = object() if key is None else key
        self._children[account._key] = account
        return account

    def draw(self, n: int) -> bool:
        """Take `n` bytes for a window to grow by. False, and nothing taken, where this account or one above would be
        filled to more than the half.
        """
        if self._closed:
            return False
        account: MemoryAccount | None = self
        while account is not None:
            if 2 * (account.used + n) > account.limit:
                return False
            account = account._parent
        self._add(n)
        return True

    def hold(self, n: int) -> None:
        """`n` bytes were received, which nobody has read yet. Where that passes a limit somebody pays at once: maybe
        the caller.
        """
        if (passed := self._add(n)) is not None:
            passed._relieve()

    def release(self, n: int) -> None:
        """`n` bytes that were drawn or held are free again."""
        account: MemoryAccount | None = self
        while account is not None:
            account.used -= n
            account = account._parent
        if self._closed and not self.used:
            self._leave()

    def forsake(self, n: int) -> None:
        """`release`, for finalizers: may be called in any thread; it is counted a little later."""
        self._forsaken.append((self, n))

    def close(self, *, keep: int = 0) -> None:
        """Nothing more will be drawn or held. All is given back but `keep` bytes, which buffers still hold and will
        release themselves.
        """
        if not self._closed:
            self._closed = True
            self.release(self.used - keep)

    def _add(self, n: int) -> MemoryAccount | None:
        """Count `n` bytes; return the topmost account that is above its limit."""
        passed = None
        account: MemoryAccount | None = self
        while account is not None:
            account.used += n
            if account.used > account.limit:
                passed = account
            account = account._parent
        return passed

    def _relieve(self) -> None:
        """Have the largest holders give up what they hold until this account is within its limit."""
        self._settle()
        while self.used > self.limit and self._give_up(self):
            pass

    def _give_up(self, scope: MemoryAccount) -> bool:
        """Give up something because the limit of `scope` is passed; whether there was anything to give up."""
        for child in sorted(self._children.values(), key=_used, reverse=True):
            if child._give_up(scope):
                return True
        return self.reclaim is not None and self.reclaim(scope)

    def _settle(self) -> None:
        """Give back what was forsaken."""
        while self._forsaken:
            account, n = self._forsaken.pop()
            account.release(n)

    def _leave(self) -> None:
        """Closed, and nothing is held any more: the parent needs not know of it; nor its own, if it was the last."""
        parent, self._parent, self.reclaim = self._parent, None, None
        if parent is not None:
            parent._children.pop(self._key, None)
            if not parent._children and parent._parent is not None:
                parent.close()

    def __repr__(self) -> str:
        return f"<MemoryAccount {self.name}: {self.used} of {self.limit} bytes>"


def _used(account: MemoryAccount) -> int:
    return account.used
