"""UDP sockets of the system's, that hand over and send datagrams in batches.

Rules:
- One system call carries a batch where the system can: Linux cuts one buffer into datagrams (generic segmentation
  offload) and puts datagrams of one sender together (generic receive offload). Elsewhere each has its own.
- An error of sending loses datagrams, as the network would; the socket stays. QUIC sends again what matters.
- Datagrams are never fragmented: one that is too large for the path is lost, which is how its size is found out
  (RFC 9000, section 14: "UDP datagrams MUST NOT be fragmented at the IP layer").
- Empty datagrams are not handed over.
- `SystemSocket` waits on the file descriptor. `EndpointSocket` has the same behaviour, at one datagram a call and
  without `local_ip`, for loops that can't: Windows' Proactor.

The messages that go with a batch are drawn in `udp_options`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from ...forks import ForkGuard
from ..loops import is_proactor
from .datagrams import DatagramReceiver, DatagramSocket, Received, SocketAddress
from .udp_options import (
    UDP_GRO,
    bind,
    can_segment,
    coalesce,
    control_space,
    local_ip_of,
    sending,
    tell_local_ip,
)

logger = logging.getLogger(__name__)

BUFFER_SIZE: Final = 7 * 1024 * 1024
"""Bytes asked for to receive into, and to send from: what a fast sender sends while this process does other things."""
MAX_WAITING: Final = 4 * 1024 * 1024
"""Bytes that wait to be sent while the system takes none. Batches beyond are dropped."""
MAX_SEGMENTS: Final = 64
"""Datagrams in one call: Linux' UDP_MAX_SEGMENTS."""
MAX_SEGMENTED: Final = 65_535 - 40 - 8
"""Bytes in one call: what an IPv6 packet may carry, headers taken off. IPv4 allows 20 more."""
READ_CALLS: Final = 32
"""Reads in one turn of the loop, so that other tasks get theirs."""
READ_BYTES: Final = 128 * 1024
"""Bytes after which a turn's reading ends: some ms of work for who gets them."""

_PASSING = {errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNREFUSED}
"""What says nothing of the address: a datagram too large for the path, a full queue, an answer to an earlier one."""

_BROKEN: Final = frozenset((errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN, errno.ENODEV, errno.ESHUTDOWN))
"""Errors of reading behind which nothing will be read any more: some systems take the sockets of sleeping programs."""

_MAX_READ: Final = 65_535
_WAITING_HIGH: Final = 256 * 1024  # bytes waiting in asyncio's own transport from which `send` returns False


async def open_udp(addr: SocketAddress, *, buffer_size: int = BUFFER_SIZE) -> DatagramSocket:
    """A UDP socket bound to `addr`, an IP address and a port (0: any free one), which nobody else may be bound to.
    `buffer_size` bytes are asked for each way; the system may grant less. IPv6 sockets carry no IPv4.

    Raises `OSError`: EADDRINUSE, EADDRNOTAVAIL and others.
    """
    sock = bind(addr, buffer_size)
    try:
        return await open_endpoint(sock) if is_proactor() else SystemSocket(sock)
    except BaseException:
        sock.close()
        raise


async def open_endpoint(sock: socket.socket) -> EndpointSocket:
    """Have asyncio drive a bound `sock`, which is closed with what is returned. What arrives before `attach` is lost.
    Raises `OSError`.
    """
    loop = asyncio.get_running_loop()
    _, opened = await loop.create_datagram_endpoint(lambda: EndpointSocket(sock), sock=sock)
    return opened


class SystemSocket(DatagramSocket):
    """Reads and writes a bound, non-blocking `sock` itself, when the running loop finds it ready. Closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self.addr = sock.getsockname()
        self._sock = sock
        self._guard = ForkGuard()
        self._loop = asyncio.get_running_loop()
        self._receiver: DatagramReceiver | None = None
        self._closed = False
        self._segments = can_segment(sock)
        self._local_ips = self.is_wildcard and tell_local_ip(sock)
        self._control_space = control_space(coalesced=coalesce(sock), local_ip=self._local_ips)
        self._waiting: deque[tuple[Sequence[bytes], SocketAddress, str | None]] = deque()
        self._waiting_bytes = 0
        self._lost = 0  # datagrams that the system refused

    def attach(self, receiver: DatagramReceiver) -> None:
        self._receiver = receiver
        self._loop.add_reader(self._sock, self._readable)

    def send(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None = None) -> bool:
        if self._closed:
            return True
        self._guard.check("this socket")
        if not self._local_ips:
            local_ip = None
        if self._waiting:
            self._keep(datagrams, addr, local_ip)
            return False
        sent = self._transmit(datagrams, addr, local_ip)
        if sent == len(datagrams):
            return True
        self._keep(datagrams[sent:], addr, local_ip)
        self._loop.add_writer(self._sock, self._writable)
        return False

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._waiting.clear()
        self._sock.close()

    # Sending

    def _keep(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None) -> None:
        size = sum(map(len, datagrams))
        if self._waiting and self._waiting_bytes + size > MAX_WAITING:
            logger.debug("%s: %d bytes wait, %d to %s dropped", self.addr, self._waiting_bytes, size, addr)
            return
        self._waiting.append((tuple(datagrams), addr, local_ip))
        self._waiting_bytes += size

    def _writable(self) -> None:
        while self._waiting:
            datagrams, addr, local_ip = self._waiting.popleft()
            sent = self._transmit(datagrams, addr, local_ip)
            self._waiting_bytes -= sum(map(len, datagrams[:sent]))
            if sent < len(datagrams):
                self._waiting.appendleft((datagrams[sent:], addr, local_ip))
                return
        self._loop.remove_writer(self._sock)
        if self._receiver is not None:
            self._receiver.writable()

    def _transmit(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None) -> int:
        """How many the system has done with: taken, or refused. The others have to wait."""
        count = len(datagrams)
        if count < 2 or not self._segments or not 0 < (size := len(datagrams[0])) <= MAX_SEGMENTED // 2:
            return self._transmit_singly(datagrams, addr, local_ip)
        control = sending(local_ip, size)
        most = min(MAX_SEGMENTS, MAX_SEGMENTED // size)
        done = 0
        while done < count:
            part = datagrams if count <= most else datagrams[done : done + most]
            try:
                self._sock.sendmsg(part, control, 0, addr)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
                    return done + self._transmit_refused(datagrams[done:], addr, local_ip, error)
                self._note_lost(len(part), addr, error)
            done += len(part)
        return done

    def _transmit_refused(
        self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None, refusal: OSError
    ) -> int:
        """A batch was refused: send it one by one. Where that works it was for segmenting, which the network card or
        its driver does not do: not tried again. Older kernels say EINVAL of datagrams too large for the path, too."""
        lost = self._lost
        done = self._transmit_singly(datagrams, addr, local_ip)
        if done and self._lost == lost and refusal.errno != errno.EMSGSIZE:
            logger.debug("%s: no segmentation offload from now on: %s", self.addr, refusal)
            self._segments = False
        return done

    def _transmit_singly(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None) -> int:
        control = sending(local_ip, 0) if local_ip is not None else ()
        for done, datagram in enumerate(datagrams):
            try:
                if control:
                    self._sock.sendmsg((datagram,), control, 0, addr)
                else:
                    self._sock.sendto(datagram, addr)
            except BlockingIOError:
                return done
            except OSError as error:
                self._note_lost(1, addr, error)
        return len(datagrams)

    def _note_lost(self, count: int, addr: SocketAddress, error: OSError) -> None:
        self._lost += count
        logger.debug("%s: %d datagram(s) to %s lost: %s", self.addr, count, addr, error)
        if error.errno not in _PASSING and self._receiver is not None:
            self._loop.call_soon(self._receiver.refused, addr, error)

    # Receiving

    def _readable(self) -> None:
        sock, space = self._sock, self._control_space
        batch: list[Received] = []
        room = READ_BYTES
        control: Sequence[tuple[int, int, bytes]] = ()
        try:
            for _ in range(READ_CALLS):
                # A `bytes` of the largest size cut down costs less than a copy out of a buffer that stays.
                if space:
                    data, control, _, addr = sock.recvmsg(_MAX_READ, space)
                else:
                    data, addr = sock.recvfrom(_MAX_READ)
                size = length = len(data)
                local_ip = None
                for level, kind, value in control:
                    if kind == UDP_GRO and level == socket.IPPROTO_UDP:
                        size = int.from_bytes(value, sys.byteorder)
                    else:  # nothing else was asked for
                        local_ip = local_ip_of(value)
                if length:
                    batch.append(Received(data, size, addr, local_ip))
                room -= length
                if room <= 0:
                    break
        except BlockingIOError:
            pass
        except OSError as error:  # an ICMP message about something sent, where the system reports it here
            logger.debug("%s: reading: %s", self.addr, error)
            if error.errno in _BROKEN:
                self._break(error)
                return
        if batch and self._receiver is not None:
            self._receiver.datagrams_received(batch)

    def _break(self, error: OSError) -> None:
        """The system has taken the socket away."""
        receiver = self._receiver
        self.close()
        if receiver is not None:
            receiver.lost(error)


class EndpointSocket(DatagramSocket, asyncio.DatagramProtocol):
    """A bound, non-blocking `sock` that asyncio reads and writes. Closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self.addr = sock.getsockname()
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None  # None: not yet, or closed. `DatagramTransport` lacks the methods of flow control
        self._receiver: DatagramReceiver | None = None
        self._stopped = False  # `send` returned False

    def attach(self, receiver: DatagramReceiver) -> None:
        self._receiver = receiver

    def send(self, datagrams: Sequence[bytes], addr: SocketAddress, local_ip: str | None = None) -> bool:
        del local_ip  # no way to say it
        transport = self._transport
        if transport is None:
            return True
        if not getattr(transport, "_buffer", True):
            transport._buffer_size = 0  # of each datagram CPython 3.13 adds 8 bytes more than it takes off again
        waiting = transport.get_write_buffer_size()
        if waiting and waiting + sum(map(len, datagrams)) > MAX_WAITING:
            logger.debug("%s: %d bytes wait, datagrams to %s dropped", self.addr, waiting, addr)
        else:
            for datagram in datagrams:
                transport.sendto(datagram, addr)
        self._stopped = transport.get_write_buffer_size() > _WAITING_HIGH
        return not self._stopped

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()  # lets go of the socket within the loop's next turn
            self._sock.close()  # the port is free at once

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=_WAITING_HIGH, low=_WAITING_HIGH // 2)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if data and self._receiver is not None and self._transport is not None:
            self._receiver.datagrams_received([Received(data, len(data), addr, None)])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:  # else we have closed it
            self.close()
            if self._receiver is not None:
                self._receiver.lost(exc or OSError(errno.EBADF, "the socket was closed"))

    def error_received(self, exc: Exception) -> None:
        logger.debug("%s: datagram lost, or reading: %s", self.addr, exc)
        self._loop.call_soon(self.resume_writing)  # the Proactor's transport stops there until it is given more

    def resume_writing(self) -> None:
        if self._stopped and self._receiver is not None and self._transport is not None:
            self._stopped = False
            self._receiver.writable()
