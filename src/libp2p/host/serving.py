"""The serving half of a host: the handlers, and the streams of peers that are given to them.

    stream of a peer -> a place under the limits -> which protocol? -> its handler -> closed, or reset

Rules:
- A stream is one task, from its first byte to the end of its handler; with it the place is given back.
- A handler that still runs a grace after its connection has ended is cancelled.
- Where the offer has arrived whole no timer is set, and the handler begins in the task's first step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import overload

from .. import multistream
from ..connection import Connection, Handler, Match, Stream, StreamErrorCode, WhenFull
from ..connection.negotiation import incoming_of
from ..errors import Libp2pError, LimitExceeded, ProtocolNotSupported
from ..events import EventBus
from ..io import TaskSupervisor, within
from ..io.timers import CoarseTimer, Deadline
from ..swarm import StreamStarted, Swarm
from ..swarm.events import ConnectionLost
from ..swarm.limits.streams import StreamGrant
from .events import ProtocolsChanged
from .handlers import HandlerTable, Served, ids_and_handler

logger = logging.getLogger(__name__)


class Serving:
    """What a `Host` does for the streams that peers open."""

    events: EventBus
    swarm: Swarm

    def __init__(self, name: str, negotiation_timeout: float, handler_grace: float) -> None:
        self._negotiation_timeout = negotiation_timeout
        self._handlers = HandlerTable()
        self._serving = TaskSupervisor(name)
        self._draining = False
        self._stopped = False
        self._handler_grace = handler_grace
        self._overdue: dict[Connection, Deadline] = {}  # whose handlers are cancelled soon

    @property
    def protocols(self) -> list[str]:
        """The protocol ids that the host serves."""
        return self._handlers.protocols

    @overload
    def handle(
        self,
        *protocols: str,
        match: Match | None = None,
        cancel_on_reset: bool = True,
        max_streams_per_peer: int | None = None,
        when_full: WhenFull = "refuse",
    ) -> Callable[[Handler], Handler]: ...

    @overload
    def handle(
        self,
        protocol: str,
        handler: Handler,
        /,
        *,
        cancel_on_reset: bool = True,
        max_streams_per_peer: int | None = None,
        when_full: WhenFull = "refuse",
    ) -> Handler: ...

    def handle(
        self,
        *protocols: str | Handler,
        match: Match | None = None,
        cancel_on_reset: bool = True,
        max_streams_per_peer: int | None = None,
        when_full: WhenFull = "refuse",
    ) -> Callable[[Handler], Handler] | Handler:
        """Serve `protocols`, and what `match` accepts, with the function that this decorates:

            @host.handle("/echo/1.0.0", "/echo/0.9.0")
            async def echo(stream): ...

        or with the one that is given: `host.handle("/echo/1.0.0", echo)`. The stream's `protocol` says which was agreed
        on. The stream is closed when the handler returns (unless a raw connection has taken it over: `OverStream`) and
        reset when it raises; what is the program's mistake is logged. A handler whose stream the peer resets is
        cancelled, unless `cancel_on_reset` is False. (Over QUIC a reset without a code, by a peer that has ended its
        own direction, can't be told from its closing: it cancels nothing, and writing raises it.) So is one that
        still runs `SwarmConfig.handler_grace` seconds after its connection has ended.

        Of one peer at most `max_streams_per_peer` are served at a time; one more waits until another has ended, or is
        refused, as `when_full` says.

        Raises `ValueError` for a protocol that is served already, and `TypeError` for what is no protocol id or no
        `async def` function.
        """

        def add(handler: Handler) -> Handler:
            served = Served(
                handler,
                cancel_on_reset=cancel_on_reset,
                max_streams_per_peer=max_streams_per_peer,
                when_full=when_full,
            )
            self._handlers.add(ids, match, served)
            self.events.emit(ProtocolsChanged(tuple(self.protocols)))
            return handler

        ids, given = ids_and_handler(protocols)
        return add if given is None else add(given)

    def remove_handler(self, *protocols: str, handler: Handler | None = None) -> None:
        """Stop serving `protocols`; streams that are open go on. Raises `KeyError` for one that is not served. With a
        `handler` those are passed over that it does not serve (any more).
        """
        self._handlers.remove(protocols, handler)
        self.events.emit(ProtocolsChanged(tuple(self.protocols)))

    # Inside

    def _stream_opened(self, stream: Stream) -> None:
        if self._draining:
            stream.reset(StreamErrorCode.SHUTDOWN)
            return
        try:
            grant = self.swarm.limits.streams.admit(stream, partial(self._place_free, stream))
        except LimitExceeded:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        if grant is None:
            return
        task = self._serving.spawn(self._serve(stream, grant), name=f"stream {stream.id}", at_end=grant.release)
        if task is None:
            grant.release()
        else:
            grant.cancel = task.cancel

    def _place_free(self, stream: Stream) -> bool:
        """One handler has ended that `stream` has waited for; whether it takes the place."""
        if stream.is_over:
            return False
        self._stream_opened(stream)
        return True

    def _connection_lost(self, event: ConnectionLost) -> None:
        """Handlers of the connection get a little time to notice."""
        connection = event.connection
        if self.swarm.limits.streams.of_connection(connection) and not self._stopped:
            loop = asyncio.get_running_loop()
            due = loop.time() + self._handler_grace
            self._overdue[connection] = CoarseTimer.of(loop).call_at(due, partial(self._cancel_handlers, connection))

    def _cancel_handlers(self, connection: Connection) -> None:
        self._overdue.pop(connection, None)
        for grant in self.swarm.limits.streams.of_connection(connection):
            if grant.cancel is not None:
                grant.cancel()

    def _stop_serving(self) -> None:
        """End all handlers, at once."""
        self._stopped = True
        for deadline in self._overdue.values():
            deadline.cancel()
        self._overdue.clear()
        self._serving.abort()

    async def _serve(self, stream: Stream, grant: StreamGrant) -> None:
        """Agree on the protocol of a stream that a peer opened, and run the handler for it."""
        try:
            served = await self._agree(stream)
            grant.agreed(stream.protocol)
        except LimitExceeded:
            stream.reset(StreamErrorCode.RESOURCE_LIMIT_EXCEEDED)
            return
        except multistream.Refused as error:
            logger.debug("%r: %s", stream, error)
            await stream.close()  # a reset could overtake our answer
            return
        except Libp2pError as error:
            logger.debug("%r: no protocol agreed: %s", stream, error)
            stream.reset(StreamErrorCode.PROTOCOL_NEGOTIATION_FAILED)
            return
        except asyncio.CancelledError:
            stream.reset(StreamErrorCode.SHUTDOWN)
            raise
        except Exception:
            logger.exception("%r: a match function failed", stream)
            stream.reset()
            return
        self.events.emit(StreamStarted(stream))
        await served.run(stream)

    async def _agree(self, stream: Stream) -> Served:
        stream.protocol = await within(
            "protocol negotiation",
            self._negotiation_timeout,
            multistream.handle(incoming_of(stream), stream.write, self._supports, listed=lambda: self.protocols),
        )
        served = self._handlers.find(stream.protocol)
        if served is None:
            raise ProtocolNotSupported([stream.protocol])
        return served

    def _supports(self, protocol: str) -> bool:
        return self._handlers.find(protocol) is not None
