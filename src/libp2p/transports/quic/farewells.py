"""The goodbyes of connections that are over, sent again to peers that have not heard them (RFC 9000, 10.2.1).

"An endpoint in the closing state sends a packet containing a CONNECTION_CLOSE frame in response to any incoming packet
that it attributes to the connection. An endpoint SHOULD limit the rate at which it generates packets in the closing
state": here the first, second, fourth, eighth... is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

MAX_FAREWELLS = 1024
"""Connections whose goodbyes are kept; of more of them none is."""


class _Farewell:
    def __init__(self, cids: tuple[bytes, ...], datagram: bytes) -> None:
        self.cids = cids
        self.datagram = datagram
        self.heard = 0


class Farewells:
    """The goodbyes of one endpoint."""

    def __init__(self) -> None:
        self._by_cid: dict[bytes, _Farewell] = {}
        self._timers: dict[_Farewell, asyncio.TimerHandle] = {}

    def keep(self, cids: Iterable[bytes], datagram: bytes, seconds: float) -> None:
        """Answer what comes for `cids` with `datagram`, for as long."""
        if len(self._timers) < MAX_FAREWELLS:
            farewell = _Farewell(tuple(cids), datagram)
            self._by_cid.update(dict.fromkeys(farewell.cids, farewell))
            self._timers[farewell] = asyncio.get_running_loop().call_later(seconds, self._drop, farewell)

    def __contains__(self, cid: bytes) -> bool:
        return cid in self._by_cid

    def answer(self, cid: bytes) -> bytes | None:
        """What to send to who has sent something for `cid`; None: nothing, this time."""
        if (farewell := self._by_cid.get(cid)) is None:
            return None
        farewell.heard += 1
        return farewell.datagram if farewell.heard.bit_count() == 1 else None

    def clear(self) -> None:
        """Forget all."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._by_cid.clear()

    def _drop(self, farewell: _Farewell) -> None:
        del self._timers[farewell]
        for cid in farewell.cids:
            del self._by_cid[cid]
