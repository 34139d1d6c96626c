"""The links of the simulated network: how long what is sent is under way, in which order it arrives, what a cut does.

    connection -> Carrier -> Road (bandwidth, shared) -> Arrivals (all that is under way, one timer) -> the other end

Rules:
- All delays are in the event loop's time.
- What one carrier takes arrives in the order it was sent. Nothing arrives within the call that sent it.
- A segment that is lost comes late, by a retransmission delay, and holds up all behind it.
- On a road that is cut nothing arrives; once it is whole again everything does, in order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from weakref import ref

SEGMENT = 1400
"""Bytes at most that travel, and are lost, in one piece."""

_WINDOW = 4 * 1024 * 1024
"""Bytes of one connection that may be under way in one direction..."""

_MIN_WINDOW = 64 * 1024
_QUEUE = 0.1
"""...or fewer on a narrow link: what it carries in a round trip and this many seconds, but not less than 64 KiB."""

_RETRANSMISSION = 0.2
"""Seconds at least until a lost segment is sent again (RFC 6298 says 1, today's systems 0.2)."""


@dataclass(frozen=True, slots=True)
class Link:
    """How bytes travel from one machine to another. What comes behind `loss` is for datagrams only."""

    latency: float = 0.0
    """Seconds, one way."""
    bandwidth: float | None = None
    """Bytes per second, headers not counted; None: no bound."""
    loss: float = 0.0
    """Probability that a segment, or a datagram, is lost; below 1 where there are connections."""
    jitter: float = 0.0
    """Seconds at most that a datagram is late in addition, at random: datagrams overtake each other."""
    duplicate: float = 0.0
    """Probability that a datagram arrives twice."""
    mtu: int = 1500
    """Bytes of an IP packet at most: a datagram that is larger, with its 28 (IPv4) or 48 (IPv6) bytes of headers, is
    dropped silently."""
    queue: float = 0.1
    """Seconds of bandwidth that the datagrams waiting for it may take; a datagram that comes when they take more is
    dropped. Without a bandwidth none waits."""

    @property
    def window(self) -> int:
        """Bytes of one connection that may be under way in one direction."""
        if self.bandwidth is None:
            return _WINDOW
        return min(_WINDOW, max(_MIN_WINDOW, int(self.bandwidth * (2 * self.latency + _QUEUE))))


class Fate(Enum):
    """What happens to a road, as the connections on it are told."""

    CUT = "cut"
    HEALED = "healed"
    RESET = "reset"
    """Cut, and its connections are to end."""


class Arrivals:
    """All that is under way in a network: one timer for it, set for the first that arrives."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Carrier, Callable[[], None] | None]] = []
        self._counter = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, when: float, carrier: Carrier, arrive: Callable[[], None] | None) -> None:
        """Have `carrier` deliver `arrive` at `when`, not before the next turn of the loop."""
        if self._closed:
            return
        self._counter += 1  # what arrives at the same instant does so in the order of sending
        heappush(self._heap, (when, self._counter, carrier, arrive))
        if self._timer is None or when < self._timer.when():
            self._set_timer()

    def close(self) -> None:
        """Drop all that is under way, and what is sent later."""
        self._closed = True
        self._heap.clear()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._due)

    def _due(self) -> None:
        heap, last = self._heap, self._counter
        now = max(asyncio.get_running_loop().time(), heap[0][0])  # a timer may be early by a clock's tick
        try:
            while heap and heap[0][0] <= now and heap[0][1] <= last:  # what is sent meanwhile has its turn later
                _, _, carrier, arrive = heappop(heap)
                carrier.deliver(arrive)
        finally:
            self._timer = None
            self._set_timer()


class Road:
    """One direction of a link, shared by all connections and datagrams that go along it."""

    __slots__ = ("_carriers", "busy_until", "cut", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.cut = False
        self.busy_until = 0.0
        self._carriers: list[ref[Carrier]] = []

    def busy(self, size: int, now: float) -> float:
        """When the last of `size` bytes, sent now, has left: behind what waits for the bandwidth already."""
        left = max(now, self.busy_until)
        if self.link.bandwidth is not None and size:
            left += size / self.link.bandwidth
            self.busy_until = left
        return left

    def join(self, carrier: Carrier) -> None:
        """One more goes along here."""
        self._carriers = [known for known in self._carriers if known() is not None]
        self._carriers.append(ref(carrier))

    def close(self) -> None:
        """Cut it: what connections have under way is held up."""
        if not self.cut:
            self.cut = True
            self._tell(Fate.CUT)

    def open(self) -> None:
        """Heal it: what was held up arrives."""
        if self.cut:
            self.cut = False
            self._tell(Fate.HEALED)

    def reset(self) -> None:
        """End all connections on it."""
        self._tell(Fate.RESET)

    def _tell(self, fate: Fate) -> None:
        for known in list(self._carriers):
            if (carrier := known()) is not None:
                carrier.told(fate)


class Carrier:
    """One direction of one connection: calls back what has arrived, in order. It is a `Carry`."""

    __slots__ = ("__weakref__", "_arrivals", "_dice", "_heals", "_held", "_last", "_road", "tell")

    def __init__(self, road: Road, arrivals: Arrivals, dice: random.Random) -> None:
        self.tell: Callable[[Fate], None] | None = None
        """Told what happens to the road."""
        self._road = road
        self._arrivals = arrivals
        self._dice = dice
        self._last = 0.0  # when what was sent last arrives
        self._held: list[Callable[[], None]] | None = [] if road.cut else None  # arrived on a road that is cut
        self._heals = 0  # of which the end is under way
        road.join(self)

    @property
    def road(self) -> Road:
        """Where it goes along."""
        return self._road

    def __call__(self, size: int, arrive: Callable[[], None]) -> None:
        """Take `size` bytes along; 0: something that takes no bandwidth and is never lost."""
        road = self._road
        now = asyncio.get_running_loop().time()
        when = (road.busy(size, now) if size else now) + road.link.latency
        if road.link.loss:
            when += self._late(size)
        self._last = max(self._last, when)
        self._arrivals.add(self._last, self, arrive)

    def deliver(self, arrive: Callable[[], None] | None) -> None:
        """Its time has come. None: that of all that the road held up while it was cut."""
        if arrive is None:
            self._release()
        elif self._held is None:
            arrive()
        else:
            self._held.append(arrive)

    def told(self, fate: Fate) -> None:
        """What has happened to the road."""
        if fate is Fate.CUT and self._held is None:
            self._held = []
        elif fate is Fate.HEALED:  # what was sent while the road was cut is sent again now
            self._heals += 1
            self._last = max(self._last, asyncio.get_running_loop().time() + self._road.link.latency)
            self._arrivals.add(self._last, self, None)
        if self.tell is not None:
            self.tell(fate)

    def _release(self) -> None:
        self._heals -= 1
        if not self._heals and not self._road.cut:
            held, self._held = self._held, None
            for arrive in held or ():
                arrive()

    def _late(self, size: int) -> float:
        """Seconds that the last of `size` bytes is late, because segments were lost."""
        link, late = self._road.link, 0.0
        for _ in range(-(-size // SEGMENT)):
            delay, again = 0.0, max(_RETRANSMISSION, 2 * link.latency)
            while self._dice.random() < link.loss:
                delay, again = delay + again, 2 * again
            late = max(late, delay)
        return late
