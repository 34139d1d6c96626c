"""When to ping, what the answers say of the round-trip time, and when a peer counts as gone. No I/O.

    start --> ping --> ... interval ... --> anything heard? --yes, but no data--> wait on
                                                  |      \\--yes, data flows----> ping, for the round-trip time
                                                  no ----> ping --> ... timeout ... --> still nothing: silent

Rules:
- Any byte that arrives is a sign of life. So is a queue of ours that drains: over a slow link the answer to a ping
  waits behind all that was sent before it.
- One side's ping is a sign of life for the other. The listener waits a little longer, so that on an idle connection
  only the dialer pings.
"""

from __future__ import annotations

_MAX_VALUE = (1 << 32) - 1

_LISTENER_WAITS = 1.25
"""How many intervals the listener waits."""

_NEARLY = 0.9
"""Silence of this part of an interval is enough for a ping: another look for the rest of it is not worth its cost."""

_FLOWS = 64 * 1024
"""Bytes that must have moved between two looks for a new round-trip time to be worth a ping."""


class Keepalive:
    """The pings of one session. The session adds to `received`, and sets `heard_at`, whenever bytes arrive."""

    __slots__ = (
        "_alive_at",
        "_delivered",
        "_interval",
        "_moved",
        "_pinged_at",
        "_queued",
        "_timeout",
        "_value",
        "due",
        "heard_at",
        "received",
        "rtt",
        "silence",
    )

    def __init__(self, *, interval: float | None, timeout: float, is_dialer: bool) -> None:
        self._interval = interval if interval is None or is_dialer else interval * _LISTENER_WAITS
        self._timeout = timeout
        self._value = 0
        self._pinged_at: float | None = None  # when the ping under way was sent
        self._alive_at = 0.0  # the last sign of life, as of the last look
        self._moved = self._delivered = self._queued = 0  # bytes, as of the last look
        self.received = 0
        self.heard_at = 0.0
        self.due: float | None = None
        """When to look again; None: never."""
        self.rtt: float | None = None
        """The round-trip time, in seconds, smoothed."""
        self.silence: float | None = None
        """Seconds without a sign of life of a peer that counts as gone; None of one that does not."""

    def start(self, now: float) -> int:
        """The connection begins: the value of the first ping, which goes out now."""
        self.heard_at = self._alive_at = now
        if self._interval is not None:
            self.due = now + self._interval
        return self.ping(now)

    def answered(self, value: int, now: float) -> None:
        """An answer has come."""
        if self._pinged_at is not None and value == self._value:
            measured = now - self._pinged_at
            self.rtt = measured if self.rtt is None else (self.rtt + measured) / 2
            self._pinged_at = None

    def look(self, now: float, delivered: int, queued: int) -> int | None:
        """The value of a ping to send, if one is due. `delivered` bytes have left for the peer since the beginning,
        `queued` ones still wait for that.
        """
        if self.due is None or self._interval is None or now < self.due:
            return None
        self._alive_at = max(self._alive_at, self.heard_at)
        if self._queued and delivered > self._delivered:
            self._alive_at = now
        moved = self.received + delivered
        flows = moved - self._moved >= _FLOWS
        self._moved, self._delivered, self._queued = moved, delivered, queued
        if self._pinged_at is not None:
            since = max(self._alive_at, self._pinged_at)
            if now - since >= self._timeout:
                self.silence = now - self._alive_at
            self.due = since + self._timeout
            return None
        if not flows and now - self._alive_at < _NEARLY * self._interval:
            self.due = self._alive_at + self._interval
            return None
        self.due = now + min(self._interval, self._timeout)
        return self.ping(now)

    def ping(self, now: float) -> int:
        """The value of a ping that goes out now, whether one is due or not."""
        self._value = (self._value + 1) & _MAX_VALUE
        self._pinged_at = now
        return self._value
