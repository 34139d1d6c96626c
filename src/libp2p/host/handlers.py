"""Which handler serves which protocol id: exact ids first, then match functions in the order they were added. And how a
stream is served.

Rules:
- A handler that returns closes its stream, one that raises resets it.
- What is the program's mistake is logged with its traceback; that a peer left, was silent or broke the protocol is not.
- A handler whose stream the peer has reset is cancelled, unless it was added otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from ..callbacks import is_async, plain
from ..connection import Handler, Match, Stream, StreamErrorCode, WhenFull
from ..errors import InvalidInput, Libp2pError, LocalProtocolError
from ..identity import PeerId
from ..multistream.core import encode_message

logger = logging.getLogger(__name__)


_NONE_OPEN: dict[PeerId, int] = {}
_NONE_WAIT: dict[PeerId, deque[asyncio.Future[None]]] = {}
"""Those of handlers without a limit, which stay empty: one of each for all."""


class Served:
    """A handler, and how it serves. Raises `TypeError` for one that is no `async def` function."""

    __slots__ = ("_cancel_on_reset", "_max", "_open", "_waiting", "_waits", "handler")

    def __init__(
        self,
        handler: Handler,
        *,
        cancel_on_reset: bool = True,
        max_streams_per_peer: int | None = None,
        when_full: WhenFull = "refuse",
    ) -> None:
        if not is_async(handler):
            raise TypeError(f"a handler is an `async def` function of one stream, which {handler!r} is not")
        if when_full not in {"wait", "refuse"}:
            raise ValueError(f'when_full is "wait" or "refuse", not {when_full!r}')
        if max_streams_per_peer is not None and max_streams_per_peer < 1:
            raise ValueError(f"max_streams_per_peer is at least 1, not {max_streams_per_peer}")
        self.handler = handler
        self._cancel_on_reset = cancel_on_reset
        self._max = max_streams_per_peer
        self._waits = when_full == "wait"
        self._open: dict[PeerId, int] = _NONE_OPEN if max_streams_per_peer is None else {}
        self._waiting: dict[PeerId, deque[asyncio.Future[None]]] = {} if self._waits else _NONE_WAIT

    async def run(self, stream: Stream) -> None:
        """Serve `stream` to its end."""
        task = asyncio.current_task()
        assert task is not None
        was_reset = False

        def cancel() -> None:
            nonlocal was_reset
            was_reset = True
            task.cancel()

        if self._cancel_on_reset:
            stream.on_reset = cancel
        try:
            await self._handle(stream)
            stream.on_reset = None
            if not stream.is_diverted:
                await stream.close()
        except asyncio.CancelledError:
            if was_reset and not task.uncancel():
                logger.debug("%r: the peer has reset it, its handler was cancelled", stream)
                return
            stream.reset(StreamErrorCode.SHUTDOWN)
            raise
        except Exception as error:
            if is_mistake(error):
                logger.exception("%r: handler failed", stream)
            else:
                logger.debug("%r: handler ended: %r", stream, error)
            stream.reset()
        finally:
            stream.on_reset = None

    async def _handle(self, stream: Stream) -> None:
        if self._max is None:
            await self.handler(stream)
            return
        peer = stream.connection.remote_peer
        if not await self._enter(peer, self._max):
            logger.debug("%r: the peer has %d streams of the protocol open: refused", stream, self._max)
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        try:
            await self.handler(stream)
        finally:
            self._leave(peer)

    async def _enter(self, peer: PeerId, limit: int) -> bool:
        """Take one of the peer's places, waiting for one if that is what to do; whether there was one."""
        taken = self._open.get(peer, 0)
        if taken < limit:
            self._open[peer] = taken + 1
            return True
        if not self._waits:
            return False
        turn = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(peer, deque())
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave(peer)
            elif turn in waiting:
                waiting.remove(turn)
                if not waiting:
                    del self._waiting[peer]
            raise
        return True

    def _leave(self, peer: PeerId) -> None:
        """Give the place to the stream that waits longest, or back."""
        while waiting := self._waiting.get(peer):
            turn = waiting.popleft()
            if not waiting:
                del self._waiting[peer]
            if not turn.done():
                turn.set_result(None)
                return
        self._open[peer] -= 1
        if not self._open[peer]:
            del self._open[peer]


def is_mistake(error: Exception) -> bool:
    """Whether the program made a mistake, rather than the peer or the network."""
    if isinstance(error, ExceptionGroup):
        return any(map(is_mistake, error.exceptions))
    if isinstance(error, Libp2pError):
        return isinstance(error, LocalProtocolError | InvalidInput)
    return not isinstance(error, TimeoutError)  # the peer was silent


class HandlerTable:
    """The protocols that a host serves."""

    def __init__(self) -> None:
        self._exact: dict[str, Served] = {}
        self._matching: list[tuple[Match, Served]] = []

    @property
    def protocols(self) -> list[str]:
        """The protocol ids served, without those that only a match function knows."""
        return list(self._exact)

    def add(self, protocols: tuple[str, ...], match: Match | None, served: Served) -> None:
        """Serve `protocols`, and what `match` accepts. Raises `ValueError` where that is nothing, or served already,
        and `TypeError` for an id that is no text.
        """
        if not protocols and match is None:
            raise ValueError("a handler needs a protocol id or a match function")
        if match is not None:
            plain(match, "a match function")
        check_ids(protocols)
        if taken := [protocol for protocol in protocols if protocol in self._exact]:
            raise ValueError(f"another handler serves {', '.join(taken)}")
        if twice := [protocol for protocol in protocols if protocols.count(protocol) > 1]:
            raise ValueError(f"named twice: {twice[0]}")
        for protocol in protocols:
            encode_message(protocol)  # refuses what no message can carry
        self._exact.update(dict.fromkeys(protocols, served))
        if match is not None:
            self._matching.append((match, served))

    def remove(self, protocols: tuple[str, ...], handler: Handler | None = None) -> None:
        """Stop serving `protocols`, and everything else that their handlers match. Raises `KeyError` for an unknown
        one. With a `handler` those are passed over that it does not serve.
        """
        if handler is not None:
            protocols = tuple(
                protocol
                for protocol in protocols
                if (served := self._exact.get(protocol)) is not None and served.handler == handler
            )
        removed = [self._exact[protocol] for protocol in protocols]
        for protocol in set(protocols):
            del self._exact[protocol]
        self._matching = [(match, served) for match, served in self._matching if served not in removed]

    def find(self, protocol: str) -> Served | None:
        """Who serves `protocol`."""
        if served := self._exact.get(protocol):
            return served
        return next((served for match, served in self._matching if match(protocol)), None)


def check_ids(protocols: tuple[object, ...]) -> None:
    """Raises `TypeError` where one is no protocol id."""
    for protocol in protocols:
        if not isinstance(protocol, str):
            raise TypeError(
                f'protocol ids are text, each an argument of its own, as in ("/a/1.0.0", "/b/1.0.0"): got {protocol!r}'
            )


def ids_and_handler(arguments: tuple[str | Handler, ...]) -> tuple[tuple[str, ...], Handler | None]:
    """The protocol ids, and the handler where one is given behind them. Raises `TypeError` for anything else."""
    ids = tuple(one for one in arguments if isinstance(one, str))
    others = [one for one in arguments if not isinstance(one, str)]
    if others and (others != [arguments[-1]] or not callable(others[0])):
        check_ids(tuple(others))
    return ids, others[0] if others else None
