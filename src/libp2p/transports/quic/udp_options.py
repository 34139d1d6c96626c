"""What UDP sockets are asked for, system by system: options and control messages.

Rules:
- What a system lacks is left out: no option fails a socket, but for those that say whom a port belongs to.
- Numbers that Python has no name for are given here, by system: the same number means something else on another one.

Control messages, each (level, type, value), in the machine's byte order:

    UDP, UDP_SEGMENT     to send   u16: cut the data into datagrams of that many bytes
    UDP, UDP_GRO         received  int: the data is datagrams of that many bytes, but for the last one
    IP, IP_PKTINFO       both      u32 interface, 4 bytes: source to send from, 4 bytes: destination received
    IP, IP_RECVDSTADDR   both      4 bytes: that address (FreeBSD)
    IPV6, IPV6_PKTINFO   both      16 bytes: that address, u32 interface
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Final, TypeAlias

from .datagrams import SocketAddress

Control: TypeAlias = tuple[int, int, bytes]

UDP_SEGMENT: Final = 103
"""Linux: of IPPROTO_UDP."""
UDP_GRO: Final = 104
"""Linux: of IPPROTO_UDP."""
CACHED: Final = 256
"""Control messages kept, of each kind."""

_LINUX: Final = sys.platform == "linux"
_SYSTEM: Final = sys.platform.rstrip("0123456789.")  # freebsd14
_FORCED_BUFFERS: Final = (
    {socket.SO_RCVBUF: 33, socket.SO_SNDBUF: 32} if _LINUX else {}
)  # beyond rmem_max: CAP_NET_ADMIN
_DONT_FRAGMENT4: Final = {"linux": (10, 3), "darwin": (28, 1), "freebsd": (67, 1), "win": (14, 1)}
"""Linux: IP_MTU_DISCOVER = IP_PMTUDISC_PROBE, never fragment and heed no ICMP. Others: IP_DONTFRAG(MENT)."""
_DONT_FRAGMENT6: Final = (23, 3) if _LINUX else (getattr(socket, "IPV6_DONTFRAG", 0), 1)
_PACKET_INFO4: Final = {"linux": 8, "darwin": 26, "freebsd": 7}.get(_SYSTEM, 0)
"""IP_PKTINFO; FreeBSD: IP_RECVDSTADDR. Receives, and sends."""
_RECEIVE_INFO6: Final[int] = getattr(socket, "IPV6_RECVPKTINFO", 0)
_PACKET_INFO6: Final[int] = getattr(socket, "IPV6_PKTINFO", 0)


def bind(addr: SocketAddress, buffer_size: int) -> socket.socket:
    """A non-blocking UDP socket bound to `addr`, an IP address, with up to `buffer_size` bytes to receive into and to
    send from, whose datagrams are never fragmented. Raises `OSError`.
    """
    six = ":" in addr[0]
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if exclusive := getattr(socket, "SO_EXCLUSIVEADDRUSE", 0):  # Windows: else anyone may take the port over
            sock.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            _ask_for_buffer(sock, option, buffer_size)
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        _set(sock, level, *(_DONT_FRAGMENT6 if six else _DONT_FRAGMENT4.get(_SYSTEM, (0, 0))))
        sock.bind(addr)
    except BaseException:
        sock.close()
        raise
    return sock


def can_segment(sock: socket.socket) -> bool:
    """Does the system cut data into datagrams: `UDP_SEGMENT`?"""
    return _LINUX and _set(sock, socket.IPPROTO_UDP, UDP_SEGMENT, 0)  # 0: only where a control message says so


def coalesce(sock: socket.socket) -> bool:
    """Ask for datagrams put together: `UDP_GRO`. True where the system does."""
    return _LINUX and _set(sock, socket.IPPROTO_UDP, UDP_GRO, 1)


def tell_local_ip(sock: socket.socket) -> bool:
    """Ask which local address datagrams came to. True where the system tells it, and takes it to send from."""
    if not hasattr(sock, "recvmsg"):
        return False
    if sock.family == socket.AF_INET6:
        return bool(_PACKET_INFO6) and _set(sock, socket.IPPROTO_IPV6, _RECEIVE_INFO6, 1)
    return _set(sock, socket.IPPROTO_IP, _PACKET_INFO4, 1)


def control_space(*, coalesced: bool, local_ip: bool) -> int:
    """Bytes of control messages to expect with what is received."""
    return coalesced * socket.CMSG_SPACE(4) + local_ip * socket.CMSG_SPACE(20) if coalesced or local_ip else 0


@lru_cache(maxsize=CACHED)
def sending(local_ip: str | None, segment: int) -> tuple[Control, ...]:
    """Control messages to send from `local_ip`, where given, in datagrams of `segment` bytes, unless 0. Raises
    `OSError` for what is no IP address.
    """
    controls: list[Control] = []
    if segment:
        controls.append((socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", segment)))
    if local_ip is not None and ":" in local_ip:
        raw = socket.inet_pton(socket.AF_INET6, local_ip)
        controls.append((socket.IPPROTO_IPV6, _PACKET_INFO6, struct.pack("=16sI", raw, 0)))
    elif local_ip is not None:
        raw = socket.inet_pton(socket.AF_INET, local_ip)
        value = raw if _SYSTEM == "freebsd" else struct.pack("=I4s4s", 0, raw, bytes(4))
        controls.append((socket.IPPROTO_IP, _PACKET_INFO4, value))
    return tuple(controls)


@lru_cache(maxsize=CACHED)
def local_ip_of(value: bytes) -> str:
    """The local address in the value of a packet information message received."""
    if len(value) == 20:
        return socket.inet_ntop(socket.AF_INET6, value[:16])
    return socket.inet_ntop(socket.AF_INET, value[-4:])


def _set(sock: socket.socket, level: int, option: int, value: int) -> bool:
    """Was there such an option to set? 0 is none."""
    if option:
        with suppress(OSError):
            sock.setsockopt(level, option, value)
            return True
    return False


def _ask_for_buffer(sock: socket.socket, option: int, size: int) -> None:
    """What the system grants, up to `size` bytes: Linux cuts it down itself, BSD systems refuse what is too much."""
    if _set(sock, socket.SOL_SOCKET, _FORCED_BUFFERS.get(option, 0), size):
        return
    while size > 65_536 and not _set(sock, socket.SOL_SOCKET, option, size):
        size //= 2
