"""What takes time, told to whoever watches: dials, handshakes, opening streams, requests.

    with span("dial", host=self._local_peer, peer=peer): ...

Rules:
- Where nobody watches, a span costs a look at an empty tuple, and its attributes are not made into text.
- Watchers are of the process: a span says which host it is of, by the attribute `host`.
- A span begins and ends in one task. A watcher that raises is logged, and harms nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, TypeAlias

logger = logging.getLogger(__name__)

End: TypeAlias = Callable[[BaseException | None], None]
"""Called when a span is over, with what it raised."""


class Watcher(Protocol):
    """Is told of each span."""

    def begin(self, name: str, attributes: Mapping[str, object]) -> End | None:
        """A span begins; what is returned is called at its end."""
        ...


_watchers: tuple[Watcher, ...] = ()


def watch(watcher: Watcher) -> Callable[[], None]:
    """Tell `watcher` of each span from now on. Returns the function that ends this (idempotent)."""
    global _watchers  # noqa: PLW0603 - one tuple, so that looking costs nothing
    _watchers = (*_watchers, watcher)

    def remove() -> None:
        global _watchers  # noqa: PLW0603
        _watchers = tuple(one for one in _watchers if one is not watcher)

    return remove


def span(name: str, **attributes: object) -> AbstractContextManager[None]:
    """What is within the block is told of as `name`."""
    return _Span(name, attributes) if _watchers else _NOTHING


class _Nothing:
    """Nobody watches."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


_NOTHING = _Nothing()


class _Span:
    __slots__ = ("_attributes", "_ends", "_name")

    def __init__(self, name: str, attributes: Mapping[str, object]) -> None:
        self._name = name
        self._attributes = attributes
        self._ends: list[End] = []

    def __enter__(self) -> None:
        for watcher in _watchers:
            try:
                end = watcher.begin(self._name, self._attributes)
            except Exception:
                logger.exception("a watcher failed at the beginning of %s", self._name)
            else:
                if end is not None:
                    self._ends.append(end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in reversed(self._ends):
            try:
                end(error)
            except Exception:
                logger.exception("a watcher failed at the end of %s", self._name)
