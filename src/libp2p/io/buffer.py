"""The receive half of every byte stream: bytes are fed in as they arrive and read out as a task asks for them.

Rules:
- `feed` copies, so the caller may reuse its memory at once, and a small payload never keeps a large buffer alive.
- Cancelling a read loses nothing: bytes leave the buffer only in the step that returns them.
- Bytes that arrived before the end or an error are read first.
- `on_consumed(n)` reports bytes that the reader took, or that it is waiting for as part of a longer read: flow control
  may then let the sender send as many more, so a read of more than the receive window completes. Small reads are
  reported together, once they make `_REPORTED` bytes.
- Once nothing more will come nothing is reported, and the owner's method is let go, so that the two form no cycle. An
  owner who needs to know hears of what is left (`to_the_end`), all of it, when it was read.
- Where there is a `MemoryAccount` it counts what is buffered and not asked for, but for the bytes that the growth of
  the window has paid for already (`prepay`); both are given back when they are read, dropped or forgotten. What comes
  to a task that waits for it is counted when the task has left it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from ..errors import BusyResource, IncompleteRead, MessageTooLarge, copy_of
from .chunks import Chunks
from .memory import MemoryAccount

DEFAULT_READ_LIMIT = 64 * 1024 * 1024
"""Bytes that a read to the end of the stream collects before it gives up with `MessageTooLarge`."""

_REPORTED = 8 * 1024
"""Bytes that are worth a report of their own."""

_SLACK = 4 * 1024
"""Bytes that an account may count for a stream although they were read: giving back less is not worth the call."""

_UNCOUNTED = 256
"""Bytes of a stream that no account counts: less than the stream itself takes, and many messages have no more."""


class ReceiveBuffer(Chunks):
    """Bytes received and not yet read. One task may read at a time; another gets `BusyResource`."""

    __slots__ = (
        "_account",
        "_behind",
        "_credited",
        "_end_told",
        "_eof",
        "_error",
        "_guard",
        "_on_consumed",
        "_paid",
        "_prepaid",
        "_to_the_end",
        "_unreported",
        "_waiter",
        "ended",
        "on_arrival",
        "received",
    )

    def __init__(
        self,
        on_consumed: Callable[[int], None] | None = None,
        *,
        to_the_end: bool = False,
        account: MemoryAccount | None = None,
    ) -> None:
        super().__init__()
        self._credited = 0  # bytes at the front that were counted as consumed before they were taken
        self._unreported = 0  # bytes consumed that on_consumed was not told of yet
        self._eof = False
        self._error: Exception | None = None
        self.ended = False
        """Whether nothing more will arrive, by its end or an error."""
        self._end_told = False  # whether a reader has heard of the end
        self._behind: Exception | None = None  # what reads raise once one has
        self._waiter: asyncio.Future[None] | None = None
        self.on_arrival: Callable[[], None] | None = None
        """Called when there is something to take, or nothing more will come, where no task waits for that."""
        self.received = 0
        """Bytes that were fed, in all."""
        self._on_consumed = on_consumed
        self._to_the_end = to_the_end
        self._guard: Callable[[], Awaitable[None]] | None = None
        self._account = account
        free = 0 if account is not None else sys.maxsize
        self._prepaid = free  # bytes that the growth of the window has paid for
        self._paid = free  # bytes that the account counts, with those prepaid

    @property
    def available(self) -> int:
        """Bytes that can be read without waiting."""
        return self._size

    @property
    def at_eof(self) -> bool:
        """Whether the sender has ended the stream and everything was read."""
        return self._eof and not self._size

    @property
    def error(self) -> Exception | None:
        """What ended the stream, if that was no end in order."""
        return self._error

    @property
    def unclaimed(self) -> int:
        """Bytes buffered that no read has asked for yet."""
        return self._size - self._credited

    @property
    def held(self) -> int:
        """Bytes that the account counts for this buffer."""
        return self._paid if self._account is not None else 0

    def feed(self, data: bytes | memoryview) -> None:
        """Append a copy of `data`."""
        length = len(data)
        if not length:
            return
        self._append(data, length)
        self.received += length
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)  # it pays for what it leaves
            return
        if waiter is None and self.on_arrival is not None:
            self.on_arrival()
        if self._size - self._credited > self._paid + _UNCOUNTED:
            self._pay()  # last: what has to be given up may be just this

    def feed_eof(self) -> None:
        """Nothing more will come; reads return what is left, then b""."""
        self._eof = self.ended = True
        self._release()
        self._wake()
        if self._paid:
            self._pay_back()

    def set_error(self, error: Exception, *, instead_of_end: bool = False, behind_end: bool = False) -> None:
        """Nothing more will come; reads return what is left, then raise `error`. The first end or error counts, but
        that an error may come `instead_of_end`, or `behind_end`: then the end is told once, and the error from then on.
        """
        if behind_end and self._eof and not self._end_told:
            self._behind = error
        elif not self.ended or ((instead_of_end or behind_end) and self._eof):
            self._eof = False
            self.ended = True
            self._error = error
            self._release()
            self._wake()
            if self._paid:
                self._pay_back()

    def discard(self) -> int:
        """Drop what is buffered; return how many bytes of it the sender had not been credited for."""
        uncredited = self.unclaimed
        self._chunks.clear()
        self._offset = self._size = self._credited = 0
        self._pay_back()
        return uncredited

    def drop(self, error: Exception) -> None:
        """Drop what is buffered; reads raise `error` from now on, however the stream had ended."""
        self._eof = False
        self.ended = True
        self._error = error
        self.discard()
        self._release()
        self._wake()

    def prepay(self, n: int) -> None:
        """The window has grown by `n` bytes, for which the account was drawn from. They are this buffer's to give back,
        when nothing more will come.
        """
        self._paid += n
        self._prepaid += n
        self._pay_back()

    def guard(self, guard: Callable[[], Awaitable[None]]) -> None:
        """Before anything is read, await `guard`, which reads from here itself, and raises where nothing may be read;
        then it is awaited again by the next read. It must survive being cancelled and called again.
        """
        self._guard = guard

    @property
    def is_guarded(self) -> bool:
        """Whether something has to be awaited before anything may be read."""
        return self._guard is not None

    async def unguarded(self) -> None:
        """Wait until anything may be read. Raises what the guard raises, and `BusyResource` while another task waits in
        it.
        """
        if self._guard is None:
            self._check_free()
            return
        guard, self._guard = self._guard, None  # it reads from here
        try:
            await guard()
        except BaseException:
            self._guard = guard
            raise

    async def read(self, n: int = -1, *, limit: int = DEFAULT_READ_LIMIT) -> bytes:
        """Up to `n` bytes, as soon as there are any; b"" at the end. With n = -1 all bytes up to the end.

        Raises `MessageTooLarge` where n = -1 and more than `limit` bytes come (they stay readable), and the error that
        ended the stream, if one did.
        """
        if self._guard is not None:
            await self.unguarded()
        self._check_free()
        if n < 0:
            await self._fill(limit + 1)
            if self._size > limit:
                raise MessageTooLarge("read to the end of the stream", limit=limit)
            if self._error is not None:
                raise copy_of(self._error)
            rest = self._take(self._size)
            self._end_read()
            return rest
        if not self._size:
            if n:
                await self._fill(1)
            if not self._size:
                return self._nothing(n)
        return self._take(min(n, self._size, self._handy()))

    async def readexactly(self, n: int) -> bytes:
        """Just `n` bytes. Raises `IncompleteRead` where the stream ends before; what came stays in its `partial`."""
        if self._guard is not None:
            await self.unguarded()
        self._check_free()
        if self._size < n:
            await self._fill(n)
            if self._size < n:
                if self._error is not None:
                    raise copy_of(self._error)
                self._end_read()
                raise IncompleteRead(self._take(self._size), n)
        return self._take(n)

    async def readuntil(self, separator: bytes = b"\n", *, limit: int = 65536) -> bytes:
        """Bytes up to and with `separator`.

        Raises `MessageTooLarge` where it is not within the first `limit` bytes (they stay readable), and
        `IncompleteRead` where the stream ends before it.
        """
        if self._guard is not None:
            await self.unguarded()
        self._check_free()
        searched = 0
        while True:
            joined = self._gathered()
            found = joined.find(separator, searched)
            if found >= 0 and found + len(separator) <= limit:
                return self._take(found + len(separator))
            if found >= 0 or self._size >= limit:
                raise MessageTooLarge(f"no {separator!r} within reach", limit=limit)
            if self.ended:
                if self._error is not None:
                    raise copy_of(self._error)
                self._end_read()
                raise IncompleteRead(self._take(self._size), None)
            searched = max(0, self._size - len(separator) + 1)
            await self._fill(self._size + 1)

    async def fill(self, n: int) -> None:
        """Wait until `n` bytes can be read without waiting, or nothing more will come."""
        self._check_free()
        await self._fill(n)

    def skip(self, expected: bytes) -> bool:
        """Take `expected` where the bytes that have arrived begin with it; whether they do. Never waits."""
        length = len(expected)
        if self._size < length or not length:
            return not length
        self._check_free()
        head = self._chunks[0] if len(self._chunks[0]) - self._offset >= length else self._gathered()
        if not head.startswith(expected, self._offset):
            return False
        self._take(length)
        return True

    def take_some(self) -> bytes:
        """What is best taken in one piece of that which is buffered, at once."""
        return self._take(min(self._size, self._handy()))

    def take_all(self) -> bytes:
        """Everything that is buffered, at once."""
        return self._take(self._size)

    def _check_free(self) -> None:
        if self._waiter is not None:
            raise BusyResource("another task is reading this stream")

    def _nothing(self, n: int) -> bytes:
        """What a read of `n` bytes gets where there are none: the error, or the end."""
        if self._error is not None:
            raise copy_of(self._error)
        if n:
            self._end_read()
        return b""

    def _end_read(self) -> None:
        """A reader hears of the end: what came behind it is next."""
        self._end_told = True
        if self._behind is not None:
            self._eof, self._error, self._behind = False, self._behind, None

    async def _fill(self, n: int) -> None:
        """Wait until `n` bytes are buffered or the stream has ended."""
        while self._size < n and not self.ended:
            self._credit(min(self._size, n))
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except BaseException:
                if self._size - self._credited > self._paid + _UNCOUNTED:
                    self._pay()
                raise
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self.on_arrival is not None:
            self.on_arrival()

    def _credit(self, upto: int) -> None:
        """Count the first `upto` bytes as consumed, as far as they were not yet."""
        if upto > self._credited:
            fresh, self._credited = upto - self._credited, upto
            self._report(fresh)

    def _report(self, consumed: int) -> None:
        if self._paid > (self._prepaid if self.ended else self._prepaid + _SLACK):
            self._pay_back()
        self._unreported += consumed
        if self._on_consumed is None:
            return
        if self.ended and not self._size:
            self._release()
        elif self._unreported >= _REPORTED:
            consumed, self._unreported = self._unreported, 0
            self._on_consumed(consumed)

    def _release(self) -> None:
        """Nothing more will come: report for the last time, unless there is something left to be read, and reported."""
        if self._on_consumed is None or (self._to_the_end and self._size):
            return
        on_consumed, self._on_consumed = self._on_consumed, None
        if self._to_the_end and self._unreported:
            on_consumed(self._unreported)
            self._unreported = 0

    def _pay(self) -> None:
        """More is buffered than the account counts."""
        assert self._account is not None
        more = self._size - self._credited - self._paid
        self._paid += more
        self._account.hold(more)

    def _pay_back(self) -> None:
        """Less is buffered than the account counts: give back what is worth it; all of it once nothing more comes."""
        if self._account is None:
            return
        slack = _SLACK
        if self.ended:
            slack = self._prepaid = 0
        surplus = self._paid - max(self._size - self._credited, self._prepaid)
        if surplus > slack:
            self._paid -= surplus
            self._account.release(surplus)

    def __del__(self) -> None:
        if self._account is not None and self._paid:
            self._account.forsake(self._paid)

    def _take(self, n: int) -> bytes:
        """Remove and return the first `n` bytes, which must be there."""
        if not n:
            return b""
        taken = self._peel(n)
        self._size -= n
        if self._credited >= n:
            self._credited -= n
        else:
            fresh, self._credited = n - self._credited, 0
            self._report(fresh)
        if self._size - self._credited > self._paid + _UNCOUNTED:
            self._pay()
        return taken
