"""What must not be used on both sides of a fork: keys that serve once, and sockets that two processes would share.

Rules:
- In the child a host, and what it has open, raise `LocalProtocolError`; the parent's go on. The child makes its own.
- What is registered by `at_fork` is called in the child before it runs anything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from .errors import LocalProtocolError

T = TypeVar("T")


class _Forks:
    """How many forks lie between the process that loaded this module and this one."""

    count = 0


_callbacks: WeakKeyDictionary[object, Callable[..., None]] = WeakKeyDictionary()


class ForkGuard:
    """Belongs to the process that made it."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = _Forks.count

    def check(self, what: str) -> None:
        """Raise `LocalProtocolError` in a process that was forked since, naming `what` it must not use."""
        if self._count != _Forks.count:
            raise LocalProtocolError(f"{what} belongs to the process that this one was forked from: make another here")


def at_fork(owner: T, forget: Callable[[T], None]) -> None:
    """Call `forget` with `owner`, which is not kept alive by this, in each process that is forked from this one."""
    _callbacks[owner] = forget


def _in_child() -> None:
    _Forks.count += 1
    for owner, forget in list(_callbacks.items()):
        forget(owner)


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
